# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What a type checker tells people who use the package: mypy and pyright read it, nothing runs it.

Where a comment ignores an error, both would complain if there were none.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, assert_type

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from hermes_session_mw import (
    ArchivedMessage,
    HermesSession,
    HermesSessionMiddleware,
    HermesStateStore,
    History,
    LifecycleStore,
    MemoryStore,
    Recording,
    SessionConflict,
    SessionInfo,
    SessionPage,
    SQLAlchemyStore,
    Store,
    StoredTurn,
    Turn,
    get_session,
    install,
    is_session_id,
    mint_session_id,
    request_digest,
    session_routes,
)
from hermes_session_mw.testing import StoreContract


class App(Starlette):
    """An application with something of its own."""

    answer = 42


class ThreeMethods:
    """A store of somebody's own: three methods are enough."""

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        return History([], 0, exists=False)

    async def append(
        self,
        session_id: str,
        messages: Sequence[dict[str, Any]],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        return 0

    async def aclose(self) -> None:
        return None


async def bare(
    scope: dict[str, Any], receive: Any, send: Any
) -> None:  # an application of no framework, in types of its own
    return None


def whose(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-user")


async def whose_async(connection: HTTPConnection) -> str | None:
    return None


def wrapping(engine: Engine, async_engine: AsyncEngine, url: URL) -> None:
    assert_type(install(App()), App)
    assert_type(install(Starlette(), "sqlite://", owner=whose, exclude=["/static"]), Starlette)
    assert_type(HermesSessionMiddleware(bare).store, Store)
    HermesSessionMiddleware(App(), engine, unknown_ids="mint", on_store_error="unavailable")
    HermesSessionMiddleware(HermesSessionMiddleware(bare), async_engine, owner=whose_async)
    HermesSessionMiddleware(bare, url, autoload=lambda scope: "path" in scope, store_timeout=None)
    HermesSessionMiddleware(bare, ThreeMethods(), session_keys=True, owner=whose)
    Starlette().add_middleware(HermesSessionMiddleware, store=MemoryStore(), history_limit=50)
    assert_type(session_routes(MemoryStore(), owner=whose), list[BaseRoute])


def mistakes(session: HermesSession) -> None:
    install(bare)  # type: ignore[type-var]
    install(App(), onwer=whose)  # type: ignore[call-arg]
    HermesSessionMiddleware(bare, unknown_ids="adpot")  # type: ignore[arg-type]
    HermesSessionMiddleware(bare, object())  # type: ignore[arg-type]
    session.id = "another"  # type: ignore[misc]
    session.record("hello")  # type: ignore[arg-type]


def stores(url: URL) -> None:
    kept: list[Store] = [ThreeMethods(), SQLAlchemyStore(url), MemoryStore(), HermesStateStore("f")]
    edited: list[LifecycleStore] = [SQLAlchemyStore("sqlite://"), MemoryStore()]
    assert_type(kept[0], Store)
    assert_type(edited[0], LifecycleStore)


async def reading(connection: HTTPConnection) -> None:
    session = get_session(connection)
    assert_type(session, HermesSession)
    assert_type(session.id, str)
    assert_type(session.history, list[dict[str, Any]])
    assert_type(session.length, int)
    assert_type(session.is_new, bool)
    assert_type(session.degraded, bool)
    assert_type(session.owner, str | None)
    assert_type(session.key, str | None)
    assert_type(session.memory_scope, str | None)
    assert_type(session.idempotency_key, str | None)
    assert_type(session.history_source, Literal["session", "request"])
    assert_type(await session.load(), list[dict[str, Any]])
    assert_type(await session.is_stored(), bool)


async def writing(session: HermesSession) -> None:
    user = {"role": "user", "content": "hello"}
    try:
        assert_type(await session.append(user, turn_id="a-turn", expected_length=0), int)
    except SessionConflict as error:
        assert_type(error, SessionConflict)
    session.check(user)
    assert_type(await session.append(user, replace_from=0), int)
    recording = session.record(user, replace_from=0)
    assert_type(recording, Recording)
    async with recording as answer:
        assert_type(answer, Recording)
        assert_type(answer.text, str)
    async with session.turn(lease=30, wait=0) as turn:
        assert_type(turn, Turn)
        assert_type(turn.fence, int)


async def editing(session: HermesSession) -> None:
    digest = request_digest({"messages": []})
    assert_type(digest, str)
    assert_type(await session.find_turn("a-turn"), StoredTurn | None)
    assert_type(await session.find_turn(told=[{"role": "user"}], digest=digest), StoredTurn | None)
    await session.derive([{"role": "user"}], turn_id="a-turn")
    assert_type(await session.rewind(2), int)
    assert_type(await session.compact(keep=2, summary=[{"role": "system"}]), int)
    assert_type(await session.fork(), HermesSession)
    assert_type(await session.rotate(owner="ada"), str)
    assert_type(await session.renew(), str)
    await session.switch("another")


async def keeping(store: SQLAlchemyStore) -> None:
    assert_type(await store.load("an-id"), History)
    assert_type(await store.delete("an-id", owner="ada"), bool)
    assert_type(await store.prune(older_than=timedelta(days=90)), int)
    page = await store.list(owner="ada")
    assert_type(page, SessionPage)
    assert_type(page.sessions[0], SessionInfo)
    assert_type(await store.archived("an-id"), Sequence[ArchivedMessage])
    assert_type(await store.export("an-id"), str)


class TestMyStore(StoreContract):
    """A store of somebody's own, held to the contract."""

    async def test_an_unknown_session_is_empty(self, store: Store) -> None:
        """A store of somebody's own overrides a test."""
        await super().test_an_unknown_session_is_empty(store)


assert_type(mint_session_id(), str)
assert_type(is_session_id("an-id"), bool)
