"""Times on SQLite: milliseconds, beside the whole seconds of earlier versions."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Engine, create_engine, text

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.testing.helpers import numbered
from tests.support.old_tables import load_version

SECOND = datetime(2023, 11, 14, 22, 13, 25, tzinfo=UTC)
TIMES = {
    "2023-11-14 22:13:25": 0,
    "2023-11-14 22:13:25.001": 1,
    "2023-11-14 22:13:25.600": 600,
    "2023-11-14 22:13:26": 1000,
    "2023-11-14 22:13:26.010": 1010,
}
"""Texts as the versions write them, and the milliseconds from `SECOND`."""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A file without tables."""
    return create_engine(f"sqlite:///{tmp_path}/sessions.db")


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[SQLAlchemyStore]:
    """A store over the file."""
    store = SQLAlchemyStore(engine.url)
    yield store
    await store.aclose()
    engine.dispose()


def after(milliseconds: float) -> datetime:
    return SECOND + timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("version", [None, "0.1.0"])
async def test_changes_of_one_second_are_listed_in_order(
    engine: Engine, store: SQLAlchemyStore, version: str | None
) -> None:
    """Sessions that are made and changed within a second are told apart, in older tables too."""
    if version is not None:
        with engine.begin() as connection:
            load_version(connection, version)
    made = ["b", "d", "a", "e", "c"]
    for session_id in made:
        await store.append(session_id, numbered(0), "new")
        await anyio.sleep(0.002)  # the clock counts in milliseconds
    listed = (await store.list("new")).sessions
    assert [each.id for each in listed] == made[::-1]
    await store.pop("d", owner="new")
    assert (await store.list("new", 1)).sessions[0].id == "d"


async def test_times_with_and_without_a_fraction_are_ordered(
    engine: Engine, store: SQLAlchemyStore
) -> None:
    """Pages, ranges and prunes take each text for its time, whichever version has written it."""
    sent = {f"{name}-{at}": (text_, at) for text_, at in TIMES.items() for name in "ba"}
    for session_id in sent:
        await store.append(session_id, numbered(0))
    with engine.begin() as connection:
        for table, column in (("sessions", "id"), ("messages", "session_id")):
            for session_id, (at_text, _) in sent.items():
                name = "updated_at" if table == "sessions" else "created_at"
                change = f"UPDATE hermes_{table} SET {name} = :at WHERE {column} = :id"  # ours
                connection.execute(text(change), {"at": at_text, "id": session_id})
    expected = sorted(sent, key=lambda each: (-sent[each][1], each))
    for limit in (1, 2, 3, 50):
        found, cursor = list[tuple[str, datetime]](), None
        while True:
            page = await store.list("", limit, cursor)
            found += [(each.id, each.updated_at) for each in page.sessions]
            cursor = page.cursor
            if cursor is None:
                break
        assert found == [(each, after(sent[each][1])) for each in expected]
    for session_id, (_, at) in sent.items():
        (message,) = (await store.load_range(session_id, since=after(at))).messages
        assert message.created_at == after(at)
        assert not (await store.load_range(session_id, since=after(at + 0.001))).messages
    with engine.connect() as connection:
        for cutoff in (*TIMES.values(), 0.5, 999, 1001):
            older = sum(at < cutoff for _, at in sent.values())
            stale = delete_prune.count_stale(
                Database(connection), after(cutoff).timestamp(), owner=None
            )
            assert stale.sessions == older, cutoff
