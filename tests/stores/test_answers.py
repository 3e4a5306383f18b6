"""Answers in the package's own stores, beside the contract."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from hermes_session_mw import (
    HermesStateStore,
    MemoryStore,
    NotSupported,
    SessionFull,
    SQLAlchemyStore,
    StoreMisconfigured,
)
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.testing.answer_writers import ASKED, LEASE, MOMENT, begun, part, until
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.old_tables import drop_all, load_version


@pytest.fixture(params=["memory", "sqlite"])
async def small_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[MemoryStore | SQLAlchemyStore]:
    """A store whose conversations have up to two turns, and small messages."""
    store: MemoryStore | SQLAlchemyStore
    if request.param == "memory":
        store = MemoryStore(max_turns=2, max_message_bytes=100)
    else:
        store = SQLAlchemyStore(
            f"sqlite:///{tmp_path}/sessions.db", max_turns=2, max_message_bytes=100
        )
    yield store
    await store.aclose()


async def test_an_answer_that_has_begun_is_stored(small_store: SQLAlchemyStore) -> None:
    """A full conversation refuses a question, and never an answer that has begun."""
    store, session_id = small_store, new_id()
    await store.append(session_id, numbered(0))
    ending = await begun(store, session_id)
    await store.append(session_id, numbered(1))
    assert await ending.end(1, "Because.") == 4
    with pytest.raises(SessionFull):
        await begun(store, session_id)
    replacing = await begun(store, session_id, replace_from=1, lease=MOMENT)
    await replacing.write(1, "B" * 60, "B" * 60)

    async def is_folded() -> bool:
        return (await store.load(session_id)).length == 3

    await until(is_folded)
    *_, answer = (await store.load(session_id)).messages
    assert answer == part("B" * len(answer["content"]))
    assert 0 < len(answer["content"]) < 100


async def test_a_sweep_has_a_limit(small_store: SQLAlchemyStore) -> None:
    """A sweep folds and removes at most as many as it is told, and says how many."""
    writers = [await begun(small_store, lease=MOMENT) for _ in range(3)]
    swept: list[int] = []

    async def is_done() -> bool:
        swept.append(await small_store.sweep_answers(1000, 2))
        return sum(swept) == 3

    await until(is_done)
    assert max(swept) <= 2
    assert [await small_store.find_answer(writer.id) for writer in writers].count(None) == 0
    assert [(await small_store.load(writer.session_id)).messages for writer in writers] == [
        [ASKED]
    ] * 3

    async def are_gone() -> bool:
        swept.append(await small_store.sweep_answers(0, 2))
        return sum(swept) == 6

    await until(are_gone)
    assert [await small_store.find_answer(writer.id) for writer in writers] == [None] * 3


OPERATIONS = [
    "begin_answer",
    "write_events",
    "end_answer",
    "find_answer",
    "open_answer",
    "read_events",
    "request_stop",
    "sweep_answers",
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_hermes_own_database_has_no_answers(tmp_path: Path, operation: str) -> None:
    """A session over Hermes Agent's database is refused each operation by its name."""
    client = StoreClient(HermesStateStore(tmp_path / "state.db"))
    with pytest.raises(NotSupported, match=rf"HermesStateStore does not support {operation}\(\)"):
        client.require(operation)


@pytest.fixture
def old_engine(tmp_path: Path) -> Any:
    """An engine over the tables of 0.1.0, which the application's migrations keep."""
    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        drop_all(connection)
        load_version(connection, "0.1.0")
    yield engine
    engine.dispose()


async def test_what_needs_no_answers_goes_on_over_older_tables(old_engine: Engine) -> None:
    """Over the tables of 0.1.0 an answer's error names the migration, and all else goes on."""
    store = SQLAlchemyStore(old_engine.url, create_schema=False)
    assert (await store.load("thread")).length == 4
    assert (await store.load("thread", limit=1)).length == 4
    assert (await store.load("gone")).deleted
    assert not (await store.load("unknown")).exists
    assert await store.fork("thread", "copy") == 4
    assert await store.rewind("copy", 2) == 2
    assert await store.delete("copy")
    assert not await store.delete("unknown")
    assert await store.prune(timedelta(days=100_000)) == 0
    with pytest.raises(StoreMisconfigured, match=r"hermes_session_mw\.migrations\.upgrade"):
        await begun(store, "thread")
    with pytest.raises(StoreMisconfigured, match=r"hermes_session_mw\.migrations\.upgrade"):
        await store.find_answer("a")
    upgrading = SQLAlchemyStore(old_engine.url)
    await upgrading.load("thread")
    await upgrading.aclose()
    writer = await begun(store, "thread", lease=LEASE)
    assert await writer.end(1, "Because.") == 6
    await store.aclose()


async def test_what_an_earlier_version_left_behind_is_removed(tmp_path: Path) -> None:
    """Answers whose session was removed without them, or was deleted, are forgotten by a sweep."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    writers = [await begun(store) for _ in range(2)]
    engine = create_engine(f"sqlite:///{tmp_path}/sessions.db")  # which has no foreign keys
    with engine.begin() as connection:
        for statement, writer in zip(
            (
                "DELETE FROM hermes_sessions WHERE id = :id",
                "UPDATE hermes_sessions SET deleted_at = '2026-11-20 10:00:00' WHERE id = :id",
            ),
            writers,
            strict=True,
        ):
            connection.execute(text(statement), {"id": writer.session_id})
        connection.execute(text("UPDATE hermes_sessions SET leased_until = 0"))
    engine.dispose()
    assert not (await store.load(writers[0].session_id)).exists
    assert (await store.load(writers[1].session_id)).deleted
    assert await store.sweep_answers(1000) == 2
    assert [await store.find_answer(writer.id) for writer in writers] == [None, None]
    assert not (await store.load(writers[0].session_id)).exists
    await store.aclose()
