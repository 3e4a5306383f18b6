"""A store over threads that is closed or dropped leaves no connection, whatever its threads do."""

import gc
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import anyio
import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.pool import QueuePool

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.workers.engine_slot import EngineSlot
from tests.database.workers.test_event_loops import comes_to

MESSAGE = {"role": "user", "content": "a"}


class Watched(sqlite3.Connection):
    """Is in a list while it is open, and is not made before it may be."""

    still_open: ClassVar[list[int]] = []
    is_asked = threading.Event()
    may_open = threading.Event()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.is_asked.set()
        assert self.may_open.wait(60)
        super().__init__(*args, **kwargs)
        self.still_open.append(id(self))

    def close(self) -> None:
        super().close()
        self.still_open.remove(id(self))


@pytest.fixture
def watched_store(sqlite_url: str) -> Iterator[list[SQLAlchemyStore]]:
    """A list of one store, and nothing else that refers to it."""
    Watched.still_open.clear()
    Watched.is_asked.clear()
    Watched.may_open.set()
    options = {"connect_args": {"factory": Watched}}
    yield [SQLAlchemyStore(sqlite_url, timeout=60, engine_options=options)]
    Watched.may_open.set()


def threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("hermes-session")}


def end(ending: set[threading.Thread]) -> None:
    """Wait for threads that end."""
    for each in ending:
        each.join(120)
        assert not each.is_alive()


@pytest.mark.parametrize("caller", ["waits", "has gone"])
@pytest.mark.parametrize("engine", ["first", "made again"])
async def test_a_store_that_is_closed_while_it_connects_leaves_nothing(
    watched_store: list[SQLAlchemyStore], caller: str, engine: str
) -> None:
    """A connection that is made after the close is closed, and the store can be used again."""
    (store,) = watched_store
    before = threads()
    if engine == "made again":
        await store.append("id", [MESSAGE])
        await store.aclose()
    Watched.is_asked.clear()
    Watched.may_open.clear()
    loaded: list[Any] = []

    async def load() -> None:
        loaded.append(await store.load("id"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        assert await anyio.to_thread.run_sync(Watched.is_asked.wait, 60)
        if caller == "has gone":
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await store.aclose()
        Watched.may_open.set()
    assert len(loaded) == (caller == "waits")
    end(threads() - before)
    assert Watched.still_open == []
    assert await store.append("id", [MESSAGE]) == (2 if engine == "made again" else 1)
    assert Watched.still_open
    await store.aclose()
    assert Watched.still_open == []


async def test_an_operation_that_waited_for_its_thread_leaves_nothing(
    watched_store: list[SQLAlchemyStore],
) -> None:
    """So is a connection of an operation that no thread had begun when the store was closed."""
    (store,) = watched_store
    before = threads()
    Watched.may_open.clear()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(store.append, "id", [MESSAGE])
        assert await anyio.to_thread.run_sync(Watched.is_asked.wait, 60)
        await store.aclose()
        Watched.may_open.set()
    end(threads() - before)
    assert Watched.still_open == []
    assert (await store.load("id")).length == 5
    await store.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_store_that_is_dropped_leaves_nothing(
    watched_store: list[SQLAlchemyStore], backend: Any
) -> None:
    """A store that nobody refers to is collected unclosed; its threads end, and its connections."""
    before = threads()

    async def use() -> None:
        store = watched_store.pop()
        await store.append("id", [MESSAGE])
        await store.load("id")

    anyio.run(use, backend=backend)
    assert comes_to(lambda: len(threads() - before), 0)
    gc.collect()
    assert Watched.still_open == []


def test_a_connection_given_back_while_its_pool_is_emptied_is_closed(
    sqlite_url: str, watched_store: list[SQLAlchemyStore]
) -> None:
    """What comes into a pool after it was emptied does not stay there."""
    options: dict[str, Any] = {"connect_args": {"factory": Watched}, "poolclass": QueuePool}
    engine = create_engine(sqlite_url, **options)
    slot = EngineSlot(owned=True)
    slot.put(engine, slot.closings)
    connection = engine.connect()

    def close_the_store(*_args: object) -> None:
        taken = slot.take()
        assert taken is engine
        taken.dispose()

    event.listen(engine, "checkin", close_the_store)  # before the pool has it
    slot.give_back(connection)
    assert Watched.still_open == []


def test_an_engine_that_comes_after_the_close_is_not_kept(sqlite_url: str) -> None:
    """An engine that was begun before the store was closed is disposed of; a later one is kept."""
    slot = EngineSlot(owned=True)
    begun = slot.closings
    assert slot.take() is None
    engine = create_engine(sqlite_url)
    disposed: list[object] = []
    event.listen(engine, "engine_disposed", disposed.append)
    slot.put(engine, begun)
    assert (slot.engine, disposed) == (None, [engine])
    slot.put(engine, slot.closings)
    assert (slot.engine, disposed) == (engine, [engine])
