"""Strangers: a flood of them leaves nothing, and another owner learns nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    SessionConflict,
    SessionNotFound,
    SQLAlchemyStore,
)
from hermes_session_mw.stores.sqlalchemy.statements import open_answers
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.contract.test_store_contract import url_of
from tests.support.asgi import http_scope, request

DATABASES = ["sqlite", "postgresql+psycopg", "mysql+pymysql"]
VERBS = [
    *["/history", "/append", "/append-if-empty", "/append-if-longer", "/record", "/load"],
    *["/rewind", "/compact", "/find-turn", "/fork", "/rotate", "/renew", "/turn"],
]
HEADER = b"x-hermes-session-id"


async def app(scope: Scope, _receive: Receive, send: Send) -> None:  # noqa: PLR0912  # one a verb
    """Do to the session what the path says, and tell all that there is to tell."""
    session: HermesSession = scope["state"]["hermes_session"]
    turn: list[dict[str, Any]] = numbered(0, 2)
    problem: object = ""
    try:
        match scope["path"]:
            case "/append":
                await session.append(*turn, turn_id="t")
            case "/append-if-empty":
                await session.append(*turn, expected_length=0)
            case "/append-if-longer":
                await session.append(*turn, expected_length=1)
            case "/record":
                async with session.record(*turn) as answer:
                    answer.write("three")
            case "/load":
                await session.load()
            case "/rewind":
                problem = await session.rewind(1)
            case "/compact":
                await session.compact(keep=1, summary=turn)
            case "/find-turn":
                problem = repr(await session.find_turn("t"))
            case "/fork":
                await session.fork()
            case "/rotate":
                await session.rotate()
            case "/renew":
                await session.renew()
            case "/turn":
                async with session.turn(wait=0) as held:
                    problem = held.fence, await session.append(*turn)
    except (SessionConflict, SessionNotFound, ValueError) as exc:
        problem = str(exc)
    told = [session.history, session.length, session.is_new, session.is_deleted, problem]
    body = json.dumps([*told, await session.is_stored(), session.owner]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def user(connection: HTTPConnection) -> str:
    return connection.headers["x-user"]


@pytest.fixture(autouse=True)
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every load looks for open answers, which it else does once a second."""
    monkeypatch.setattr(open_answers, "TRUSTED", 0.0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_flood_without_the_header_writes_nothing(sqlite_url: str, tmp_path: Path) -> None:
    """A hundred thousand requests that mint an id each make no row, no file and no engine."""
    wrapped = HermesSessionMiddleware(app, sqlite_url)
    ids = set()
    for _ in range(100_000):
        (start, _body) = await request(wrapped, scope=http_scope(path="/history"))
        ids.add(dict(start["headers"])[HEADER])
    assert len(ids) == 100_000
    assert list(tmp_path.iterdir()) == []
    assert "no engine yet" in repr(wrapped.store)


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("unknown_ids", ["adopt", "mint", "reject"])
@pytest.mark.parametrize("verb", VERBS)
async def test_another_owners_session_answers_like_an_unknown_one(
    database: str, unknown_ids: Any, verb: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whatever is tried on it, status, headers, body and queries are those of an unknown id."""
    engine = create_engine(url_of(database, tmp_path, request))
    asked: list[str] = []
    store = SQLAlchemyStore(engine)
    adas, deleted, unknown = (new_id() for _ in range(3))
    for session_id in (adas, deleted):
        await store.append(session_id, numbered(5, 3), owner="ada", turn_id="t")
    await store.delete(deleted, owner="ada")
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    answers = [
        await _answer(store, unknown_ids, verb, session_id, asked)
        for session_id in (unknown, adas, deleted)
    ]
    assert answers[1:] == answers[:1] * 2
    assert (await store.load(adas, owner="ada")).messages == numbered(5, 3)
    engine.dispose()


async def _answer(
    store: SQLAlchemyStore, unknown_ids: Any, verb: str, session_id: str, asked: list[str]
) -> tuple[list[Message], list[str]]:
    """Return what comes back to Eve, and what the database was asked, with the id made alike."""
    minted = new_id()
    wrapped = HermesSessionMiddleware(
        app, store, owner=user, unknown_ids=unknown_ids, new_id=lambda: minted
    )
    asked.clear()
    headers = [(HEADER, session_id.encode()), (b"x-user", b"eve")]
    log = await request(wrapped, scope=http_scope(headers, path=verb))
    text = repr(log).replace(session_id, "SENT").replace(minted, "MINTED")
    return [{"log": text}], list(asked)
