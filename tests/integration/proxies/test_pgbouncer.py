"""Stores behind a real PgBouncer, whose server connections are lent for a transaction."""

import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from hermes_session_mw import (
    HermesSessionError,
    SQLAlchemyStore,
    Store,
    StoreMisconfigured,
    StoreTimeout,
    StoreUnavailable,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.testing import LifecycleOperations, StoreOperations
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.pgbouncer import PgBouncer, missing, own_pooler
from tests.support.requirements import needs, needs_driver

DRIVERS = [
    ("postgresql+psycopg", "asyncio"),
    ("postgresql+psycopg_async", "asyncio"),
    ("postgresql+asyncpg", "asyncio"),
]
EITHER = pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
ASKED_FOR = {
    "postgresql+psycopg": {"prepare_threshold": 2},
    "postgresql+psycopg_async": {"prepare_threshold": 2},
    "postgresql+asyncpg": {"statement_cache_size": 100},
}

OPTIONS = {"options": "-c statement_timeout=54321"}

UNNAMED = {
    "postgresql+psycopg": {"prepare_threshold": None},
    "postgresql+psycopg_async": {"prepare_threshold": None},
    "postgresql+asyncpg": {"statement_cache_size": 0},
}


@pytest.fixture(scope="module")
def transaction_pooler(postgres_url: URL) -> Iterator[PgBouncer]:
    """A pooler that lends its four server connections for a transaction."""
    needs(missing())
    with own_pooler(postgres_url, "transaction") as pooler:
        yield pooler


@pytest.fixture
async def store(transaction_pooler: PgBouncer, driver: str) -> AsyncIterator[Store]:
    """A store as it comes, with more time for a busy machine, behind a pooler."""
    store = SQLAlchemyStore(transaction_pooler.url.set(drivername=driver), timeout=60)
    yield store
    await store.aclose()


@EITHER
class TestStoreContract(StoreOperations):
    """The contract, in transaction mode."""


@EITHER
class TestLifecycleContract(LifecycleOperations):
    """The contract of edits, leases and lists, in transaction mode."""


@EITHER
@pytest.mark.parametrize("asked_for", [False, True])
async def test_no_statement_has_a_name(postgres_url: URL, driver: str, asked_for: bool) -> None:
    """No statement is prepared under a name on a server connection, unless it is asked for."""
    options = {"connect_args": ASKED_FOR[driver]} if asked_for else {}
    url = postgres_url.set(drivername=driver)
    store: Any = SQLAlchemyStore(url, threads=1, engine_options=options)
    session_id = new_id()
    for number in range(8):
        await store.append(session_id, numbered(2 * number, 2), expected_length=2 * number)
        await store.append(new_id(), numbered(0))
        await store.load(session_id)
    names = text("SELECT name FROM pg_prepared_statements WHERE NOT from_sql")
    found = await store._executor.run(lambda d: d.rows(names, {}), writes=False, seconds=30)
    assert bool(found) is asked_for
    await store.aclose()


async def dispose(engine: Engine | AsyncEngine) -> None:
    """Close an engine's connections."""
    if isinstance(engine, AsyncEngine):
        await engine.dispose()
    else:
        engine.dispose()


class Task:
    """One of the tasks that append at the same time: what it was told of its turns."""

    def __init__(self, store: SQLAlchemyStore, session_id: str, name: int) -> None:
        self.session_id = session_id
        self.name = name
        self.acknowledged: list[int] = []
        self._store = store

    async def run(self, until: anyio.Event) -> None:
        """Append one turn after the other until told to stop."""
        for turn in itertools.count():
            if until.is_set():
                return
            messages = [{"task": self.name, "turn": turn, "part": part} for part in range(2)]
            if turn % 2:  # in a transaction, and repeated until it is acknowledged
                await self._repeated(messages, f"{self.name}-{turn}")
                self.acknowledged.append(turn)
            else:  # in one statement, at first; not repeated
                with suppress(StoreUnavailable, StoreTimeout):
                    await self._store.append(self.session_id, messages)
                    self.acknowledged.append(turn)

    def check(self, stored: Mapping[int, list[Message]]) -> None:
        """Hold the session's messages against what was acknowledged."""
        own = [(message["turn"], message["part"]) for message in stored[self.name]]
        turns = [turn for turn, part in own if part == 0]
        assert own == [(turn, part) for turn in turns for part in range(2)]
        assert turns == sorted(set(turns))
        assert set(self.acknowledged) <= set(turns)

    async def _repeated(self, messages: list[Message], turn_id: str) -> None:
        while True:
            with suppress(StoreUnavailable, StoreTimeout):
                await self._store.append(self.session_id, messages, turn_id=turn_id)
                return
            await anyio.sleep(0.05)


async def disturb(pooler: PgBouncer, mode: str) -> None:
    """Pause the pooler, have it reconnect, and start it anew, while it is in use."""
    # In session mode, a pause waits until the last client has gone.
    commands = ["RECONNECT"] if mode == "session" else ["PAUSE", "RESUME", "RECONNECT"]
    for _ in range(2):
        for command in commands:
            await anyio.to_thread.run_sync(pooler.ask, command)
            await anyio.sleep(0.1)
        await anyio.to_thread.run_sync(pooler.kill)
        await anyio.to_thread.run_sync(pooler.start)
        await anyio.sleep(0.5)


@pytest.mark.parametrize(
    ("driver", "anyio_backend"), [*DRIVERS, ("postgresql+psycopg2", "asyncio")]
)
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_nothing_is_lost_while_the_pooler_is_disturbed(
    postgres_url: URL, driver: str, mode: Literal["transaction", "session"]
) -> None:
    """What 32 tasks had acknowledged stays, while the pooler pauses, reconnects and restarts."""
    needs(missing())
    needs_driver(driver)
    sessions = [new_id() for _ in range(4)]
    until = anyio.Event()
    with own_pooler(postgres_url, mode) as pooler:
        store = SQLAlchemyStore(pooler.url.set(drivername=driver), timeout=20)
        running = [Task(store, sessions[at % 4], at) for at in range(32)]
        async with anyio.create_task_group() as tasks:
            for task in running:
                tasks.start_soon(task.run, until)
            await disturb(pooler, mode)
            goals = {task: len(task.acknowledged) + 2 for task in running}
            with anyio.fail_after(120):  # all of them go on
                for task, goal in goals.items():
                    while len(task.acknowledged) < goal:  # noqa: ASYNC110  # nobody tells
                        await anyio.sleep(0.05)
            until.set()
        await store.aclose()
    direct = SQLAlchemyStore(postgres_url.set(drivername=driver))
    for session_id in sessions:
        stored: dict[int, list[Message]] = defaultdict(list)
        messages = (await direct.load(session_id)).messages
        for first, second in zip(messages[::2], messages[1::2], strict=True):
            assert (first["task"], first["turn"]) == (second["task"], second["turn"])
            stored[first["task"]] += [first, second]
        for task in running:
            if task.session_id == session_id:
                task.check(stored)
    await direct.aclose()


@EITHER
async def test_a_pooler_in_statement_mode_is_misconfigured(postgres_url: URL, driver: str) -> None:
    """It refuses transactions for good: the error names the mode to set, and no attempt follows."""
    needs(missing())
    with own_pooler(postgres_url, "statement") as pooler:
        store = SQLAlchemyStore(pooler.url.set(drivername=driver), timeout=60)
        with pytest.raises(StoreMisconfigured, match="pool_mode to transaction"):
            await store.append(new_id(), numbered(0, 2), turn_id="turn")
        await store.aclose()


@EITHER
@pytest.mark.parametrize("borrowed", [False, True], ids=["own", "borrowed"])
async def test_statement_mode_is_told_by_the_first_operation(
    postgres_url: URL, driver: str, borrowed: bool
) -> None:
    """Where the tables are made already, operations without a transaction are refused as well."""
    needs(missing())
    direct = SQLAlchemyStore(postgres_url.set(drivername=driver))
    await direct.load("none")
    await direct.aclose()
    with own_pooler(postgres_url, "statement") as pooler:
        url = pooler.url.set(drivername=driver)
        create: Any = create_async_engine if url.get_dialect().is_async else create_engine
        options = {"connect_args": UNNAMED[driver], "isolation_level": "AUTOCOMMIT"}
        engine = create(url, **options) if borrowed else None
        for created in (True, False):
            for _ in range(2):  # nor does it work the second time
                store = SQLAlchemyStore(engine or url, timeout=60, create_schema=created)
                with pytest.raises(StoreMisconfigured, match="pool_mode to transaction"):
                    await store.append(new_id(), numbered(0, 2))
                with pytest.raises(StoreMisconfigured, match="pool_mode to transaction"):
                    await store.load("none")
                await store.aclose()
        if engine is not None:
            await dispose(engine)


@EITHER
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
async def test_a_transaction_is_tried_once_and_behind_a_pooler_alone(
    postgres_url: URL, transaction_pooler: PgBouncer, driver: str, pooled: bool
) -> None:
    """It costs an engine two round trips, of whatever number of connections; none elsewhere."""
    url = (transaction_pooler.url if pooled else postgres_url).set(drivername=driver)
    create: Any = create_async_engine if url.get_dialect().is_async else create_engine
    engine = create(url, connect_args=UNNAMED[driver], poolclass=NullPool)
    store = SQLAlchemyStore(engine)
    await store.load("none")  # makes the tables
    sent: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    connected: list[object] = []
    for count in (1, 2):
        engine = create(url, connect_args=UNNAMED[driver], poolclass=NullPool)
        sync_engine = getattr(engine, "sync_engine", engine)
        event.listen(sync_engine, "before_cursor_execute", note)
        event.listen(sync_engine, "connect", lambda connection, _: connected.append(connection))
        store = SQLAlchemyStore(engine, create_schema=False)
        for _ in range(3):
            await store.load("none")
        tried = [each for each in sent if each.startswith(("BEGIN", "ROLLBACK"))]
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        assert tried == [begin, "ROLLBACK"] * count * pooled
        assert len(connected) >= 3 * count
        await dispose(engine)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("driver", "query", "connect_args"),
    [
        ("psycopg", OPTIONS, {}),
        ("psycopg", {}, OPTIONS),
        ("psycopg_async", OPTIONS, {}),
        ("psycopg2", OPTIONS, {}),
        ("asyncpg", {}, {"server_settings": {"statement_timeout": "54321"}}),
    ],
)
async def test_a_parameter_that_a_pooler_refuses_is_misconfigured(
    transaction_pooler: PgBouncer, driver: str, query: dict[str, str], connect_args: dict[str, Any]
) -> None:
    """No later attempt would go better: the error names what takes its place, and no value."""
    needs_driver(f"postgresql+{driver}")
    url = transaction_pooler.url.set(drivername=f"postgresql+{driver}", query=query)
    store = SQLAlchemyStore(url, timeout=60, engine_options={"connect_args": connect_args})
    name = "statement_timeout" if driver == "asyncpg" else "options"
    told = rf"parameter: {name}\): .*ALTER ROLE \.\.\. SET; .*ignore_startup_parameters"
    with pytest.raises(StoreMisconfigured, match=told) as caught:
        await store.append(new_id(), numbered(0, 2))
    assert "54321" not in str(caught.value)
    await store.aclose()


async def test_psycopg2_names_the_mode_that_closes_its_connections(postgres_url: URL) -> None:
    """It hides the pooler's words: the store is unavailable, and the mode one thing to look at."""
    needs(missing())
    needs_driver("postgresql+psycopg2")
    with own_pooler(postgres_url, "statement") as pooler:
        store = SQLAlchemyStore(pooler.url.set(drivername="postgresql+psycopg2"), timeout=20)
        with pytest.raises(StoreUnavailable, match="pool_mode of a PgBouncer"):
            await store.append(new_id(), numbered(0, 2), turn_id="turn")
        await store.aclose()


@EITHER
async def test_an_engine_of_the_callers_without_names(
    transaction_pooler: PgBouncer, driver: str
) -> None:
    """An engine of the caller's that prepares nothing under a name works in transaction mode."""
    url = transaction_pooler.url.set(drivername=driver)
    create: Any = create_async_engine if url.get_dialect().is_async else create_engine
    engine = create(url, connect_args=UNNAMED[driver])
    store = SQLAlchemyStore(engine)
    session_id = new_id()
    lengths: list[int] = []

    async def write(task: int) -> None:
        for turn in range(5):
            turn_id = f"{task}-{turn}" if turn % 2 else None
            lengths.append(await store.append(session_id, numbered(0, 2), turn_id=turn_id))

    async with anyio.create_task_group() as tasks:
        for task in range(12):
            tasks.start_soon(write, task)
    assert sorted(lengths) == list(range(2, 122, 2))
    assert (await store.load(session_id)).length == 120
    await dispose(engine)


@EITHER
@pytest.mark.parametrize("borrowed", [False, True], ids=["asked-for", "borrowed"])
async def test_statements_that_have_names_lose_nothing(
    postgres_url: URL, driver: str, borrowed: bool
) -> None:
    """Where statements have names, a pooler makes appends fail, but none that was acknowledged."""
    needs(missing())
    acknowledged: dict[str, list[int]] = {}
    failed = 0
    with own_pooler(postgres_url, "transaction") as pooler:

        async def write(store: SQLAlchemyStore, session_id: str, turns: int) -> None:
            nonlocal failed
            for turn in range(turns):
                try:
                    await store.append(session_id, [{"n": turn}, {"n": turn}], turn_id=str(turn))
                except HermesSessionError:
                    failed += 1
                else:
                    acknowledged.setdefault(session_id, []).append(turn)

        options = {"connect_args": ASKED_FOR[driver]}
        url = pooler.url.set(drivername=driver)
        engines: list[Any] = []
        if borrowed:
            create: Any = create_async_engine if url.get_dialect().is_async else create_engine
            engines = [create(url) for _ in range(3)]
            stores = [SQLAlchemyStore(engine, timeout=5) for engine in engines]
        else:
            stores = [SQLAlchemyStore(url, timeout=5, engine_options=options) for _ in range(3)]
        await write(stores[0], new_id(), 3)  # alone, which goes well
        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(write, stores[number % 3], new_id(), 15)
        for store in stores:
            await store.aclose()
        for engine in engines:
            await dispose(engine)
    direct = SQLAlchemyStore(postgres_url.set(drivername=driver))
    for session_id, turns in acknowledged.items():
        stored = [message["n"] for message in (await direct.load(session_id)).messages]
        assert [turn for turn in turns if stored.count(turn) != 2] == []
    await direct.aclose()
    assert acknowledged
    assert failed
