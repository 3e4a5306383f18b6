"""What operations cost, told in counts: round trips, hops, wake-ups, calls. No test has a clock.

A count that grows is a change that the benchmarks (docs/benchmarks) would show as time.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import URL, create_engine, event, text

import hermes_session_mw
from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    MemoryStore,
    SQLAlchemyStore,
)
from hermes_session_mw.database.connection import _CompiledStatement
from hermes_session_mw.database.workers.worker_pool import CompletionQueue, Task, WorkerPool
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.asgi import http_scope, request
from tests.support.counting_proxy import counting
from tests.support.no_threads import refuse_threads

PACKAGE = str(Path(hermes_session_mw.__file__).parent)
TURN = numbered(0, 2)
SERVERS = [
    ("postgresql+psycopg", "asyncio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
    ("mysql+asyncmy", "asyncio"),
]


@pytest.fixture
def server_url(request: pytest.FixtureRequest, driver: str) -> URL:
    """The database of the driver's server."""
    kind = "postgres_url" if driver.startswith("postgresql") else "mysql_url"
    url: URL = request.getfixturevalue(kind)
    return url.set(drivername=driver)


@pytest.mark.parametrize(("driver", "anyio_backend"), SERVERS)
async def test_round_trips_of_each_operation(server_url: URL) -> None:
    """A load is one round trip; so is an append on PostgreSQL, elsewhere it is a transaction."""
    known, unknown = new_id(), new_id()
    is_postgresql = server_url.get_backend_name() == "postgresql"
    with counting(server_url) as (proxy, url):
        store = SQLAlchemyStore(url, threads=1)

        async def cost(operation: Callable[[], Awaitable[object]]) -> int:
            for _ in range(8):  # connected, compiled, prepared
                await operation()
            before = proxy.round_trips
            await operation()
            return proxy.round_trips - before

        assert await cost(lambda: store.append(known, TURN)) == (1 if is_postgresql else 5)
        # asyncpg asks about a statement without a name before it sends many rows for it.
        asks = int(server_url.drivername == "postgresql+asyncpg")
        # The turn may be stored already, so that a transaction asks for it under the row's lock.
        with_id = await cost(lambda: store.append(known, TURN, turn_id=new_id()))
        assert with_id == (5 + asks if is_postgresql else 6)
        edited = new_id()
        await store.append(edited, numbered(0, 20))
        append, replace = 1 if is_postgresql else 5, 7 + asks if is_postgresql else 8
        rewind = await cost(lambda: shorten(store, edited))
        assert rewind - 1 == 6  # a load tells it how long the history is
        assert await cost(lambda: store.pop(edited)) == 6 + 1  # a rewind, and the messages
        assert await cost(lambda: store.append(edited, TURN, replace_from=1)) == replace
        transaction = 0 if is_postgresql else 2  # there the append has none of its own
        assert replace <= rewind - 1 + append - transaction + asks
        # The row's lock, the known ids, the counters with the metadata, the messages, their ids.
        identified = await cost(
            lambda: store.append(edited, TURN, message_ids=[new_id() for _ in TURN], metadata={})
        )
        assert identified == (7 + 2 * asks if is_postgresql else 8)
        assert await cost(lambda: store.pop(edited)) == 6 + 1 + 1  # the ids are freed
        assert await cost(lambda: store.load(known)) == 1
        assert await cost(lambda: store.load(known, limit=2)) == 1
        assert await cost(lambda: store.load(unknown)) == 2  # the second: was it deleted?
        assert await cost(lambda: store.load_range(known, start=-2, limit=1)) == 1
        assert await cost(lambda: store.load_range(unknown)) == 1

        async def turn() -> None:
            await store.release(known, await store.acquire(known, 60))

        assert await cost(turn) == 5 + 3  # a look first, and two transactions
        await store.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), SERVERS)
async def test_round_trips_of_an_answer(server_url: URL) -> None:
    """Events are written in one round trip on PostgreSQL, elsewhere in a transaction.

    They are read in one, and a load is one while an answer runs.
    """
    is_postgresql = server_url.get_backend_name() == "postgresql"
    with counting(server_url) as (proxy, url):
        store = SQLAlchemyStore(url, threads=1)
        session_id, answer_id, written = new_id(), new_id(), 0
        await store.append(session_id, TURN)
        fence = await store.begin_answer(session_id, answer_id, TURN, lease=60)

        async def cost(operation: Callable[[], Awaitable[object]]) -> int:
            for _ in range(8):  # connected, compiled, prepared
                await operation()
            before = proxy.round_trips
            await operation()
            return proxy.round_trips - before

        async def write(growth: str | None = None) -> None:
            nonlocal written
            await store.write_events(
                session_id, answer_id, written + 1, ['"a"'], fence=fence, lease=60, growth=growth
            )
            written += 1

        assert await cost(write) == (1 if is_postgresql else 5)
        assert await cost(lambda: write("[]")) == (1 if is_postgresql else 5)
        assert await cost(lambda: store.read_events(answer_id, after=written - 1)) == 1
        assert await cost(lambda: store.find_answer(answer_id)) == 1
        assert await cost(lambda: store.load(session_id)) == 1
        await store.aclose()


async def shorten(store: SQLAlchemyStore, session_id: str) -> None:
    """Rewind by one message."""
    await store.rewind(session_id, (await store.load(session_id, limit=0)).length - 1)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every task that is handed to a worker thread."""
    seen: list[object] = []
    put = WorkerPool.put

    def note(workers: WorkerPool, task: Any) -> None:
        seen.append(task)
        put(workers, task)

    monkeypatch.setattr(WorkerPool, "put", note)
    return seen


@pytest.mark.parametrize("length", [1, 100])
async def test_an_operation_is_one_hop(tmp_path: Path, tasks: list[object], length: int) -> None:
    """Each operation goes to a worker thread once, however long the conversation."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", numbered(0, length))
    assert len(tasks) == 1
    await store.load("id")
    assert len(tasks) == 2
    await store.aclose()


async def test_no_more_threads_than_are_needed(tmp_path: Path) -> None:
    """One operation after the other takes one reader and one writer; many at once take two."""
    before = threading.active_count()
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    for number in range(5):
        await store.append("id", numbered(number))
        await store.load("id")
    assert threading.active_count() <= before + 2
    async with anyio.create_task_group() as tasks:
        for _ in range(32):
            tasks.start_soon(store.load, "id")
    assert threading.active_count() <= before + 3
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="the system has no eventfd")
async def test_a_hop_back_needs_no_sockets_and_no_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker wakes asyncio's loop by an eventfd; the only timer is the one that polls."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", TURN)
    loop, called = asyncio.get_running_loop(), list[str]()

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any, **options: Any) -> Any:
            called.append(getattr(arguments[-1], "__name__", ""))
            return method(*arguments, **options)

        return note

    for name in ("call_soon_threadsafe", "call_at"):
        monkeypatch.setattr(loop, name, noting(getattr(loop, name)))
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.load, "id")
    await store.load("id")
    assert set(called) <= {"_poll"}
    await store.aclose()


async def test_one_wake_up_is_for_all_that_is_done(anyio_backend_name: str) -> None:
    """A thread that has more to do leaves the loop alone where that looks by itself: asyncio."""
    completions = CompletionQueue()
    woken: list[object] = []
    wake = completions._wake

    def note(deliver: Callable[[], None]) -> None:
        woken.append(deliver)
        wake(deliver)

    completions._wake = note
    waits = [completions.waiter() for _ in range(5)]
    for wait in waits[:-1]:
        completions.put(wait, more=True)
    assert len(woken) == (0 if anyio_backend_name == "asyncio" else 1)
    completions.put(waits[-1], more=False)
    assert len(woken) == 1
    assert [await wait.wait(60) for wait in waits] == [True] * 5


async def test_a_completion_that_was_held_back_comes_all_the_same() -> None:
    """Where the thread's next task hangs, the one before is completed without it."""
    completions = CompletionQueue()
    wait = completions.waiter()
    completions.put(wait, more=True)
    assert await wait.wait(30)


async def test_what_waits_too_long_is_not_held_back_further() -> None:
    """No more than so many wait for a thread to be done with all that it has."""
    completions = CompletionQueue()
    waits = [completions.waiter() for _ in range(40)]
    for wait in waits:
        completions.put(wait, more=True)
    assert completions._woken
    assert all([await wait.wait(30) for wait in waits])


async def test_statements_are_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy compiles a statement when it is first needed, and not again."""
    compiled: list[str] = []
    init = _CompiledStatement.__init__

    def note(compiled_statement: _CompiledStatement, *arguments: Any) -> None:
        init(compiled_statement, *arguments)
        compiled.append(compiled_statement.sql)

    monkeypatch.setattr(_CompiledStatement, "__init__", note)
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    for number in range(3):
        await store.append("id", numbered(number))
        await store.load("id")
        await store.load("id", limit=1)
    assert len(compiled) == len(set(compiled))
    # A new connection's question, an append's two, and a load's two; three of these with a look
    # for an expired answer, too.
    assert len(compiled) <= 5 + 3
    await store.aclose()


async def test_a_turn_is_one_transaction_of_few_statements(tmp_path: Path) -> None:
    """SQLite is asked for a turn's begin, numbers, messages and end; for a load, once."""
    store: Any = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db", threads=1)
    await store.append("id", TURN)
    seen: list[str] = []

    def trace(database: Any) -> None:
        database.connection.connection.driver_connection.set_trace_callback(
            lambda sql: seen.append(sql.split(maxsplit=1)[0])
        )

    await store._executor.run(trace, writes=True, seconds=5)
    await store.append("id", TURN)
    assert seen == ["BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"]
    seen.clear()
    await store.load("id")
    assert seen == ["SELECT"]
    await store.aclose()


@pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("postgresql+psycopg", "asyncio"), ("postgresql+psycopg2", "asyncio")],
)
async def test_an_append_on_postgresql_is_few_statements(server_url: URL) -> None:
    """It is one statement, and with a turn id one transaction that looks for the turn once."""
    store: Any = SQLAlchemyStore(server_url, threads=1)
    session_id = new_id()
    await store.append(session_id, TURN)
    heard: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement.split(maxsplit=1)[0])

    engine = store._executor._engine
    with anyio.fail_after(30):
        while engine.pool.checkedout():  # noqa: ASYNC110  # the connection that was kept
            await anyio.sleep(0.01)
    event.listen(engine, "before_cursor_execute", note)
    await store.append(session_id, TURN)
    assert heard == ["WITH"]
    heard.clear()
    await store.append(session_id, TURN, turn_id=new_id())
    assert heard == ["BEGIN", "INSERT", "SELECT", "INSERT"]  # COMMIT is executed for its tag
    await store.aclose()


async def test_a_history_is_parsed_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser is called once for a history, and not for each message."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", numbered(0, 200))
    parsed: list[int] = []

    def note(source: str) -> Any:
        value = json.loads(source)
        parsed.append(len(value))
        return value

    monkeypatch.setattr("hermes_session_mw.messages.parse_json", note)
    await store.load("id")
    assert parsed == [200]
    await store.aclose()


@contextmanager
def counting_calls() -> Iterator[list[str]]:
    """Collect the names of the package's functions as they are called in this thread."""
    called: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)


def streaming(chunks: int) -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def calls_for(chunks: int, *headers: tuple[bytes, bytes]) -> list[str]:
    app = HermesSessionMiddleware(streaming(chunks), MemoryStore(), autoload=False)
    await request(app, scope=http_scope(headers))
    with counting_calls() as called:
        await request(app, scope=http_scope(headers))
    return called


async def test_a_chunk_costs_one_call() -> None:
    """Each chunk of a stream passes through one function of the package."""
    few, many = await calls_for(1), await calls_for(101)
    assert len(many) - len(few) == 100
    assert set(many[-100:]) == {"send"}


@pytest.mark.parametrize(
    ("headers", "most"), [((), 12), (((b"x-hermes-session-id", b"an-id"),), 12)]
)
async def test_the_header_path_is_short(
    headers: tuple[tuple[bytes, bytes], ...], most: int
) -> None:
    """A request that needs no database passes through few functions of the package."""
    called = await calls_for(0, *headers)
    assert len(called) <= most, called


@pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("postgresql+psycopg", "trio"), ("postgresql+asyncpg", "asyncio")],
)
async def test_one_lost_connection_is_lesson_enough(server_url: URL) -> None:
    """When a server has restarted one operation finds out, and no other fails for it."""
    store: Any = SQLAlchemyStore(server_url)
    session_id = new_id()
    await store.append(session_id, TURN)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(store.load, session_id)
    engine = create_engine(server_url.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        query = text(f"{others} AND pid <> pg_backend_pid()")
        connection.execute(query, {"name": server_url.database})
    engine.dispose()
    attempts: list[object] = []
    run = store._executor.run

    async def note(*arguments: Any, **options: Any) -> Any:
        attempts.append(arguments)
        return await run(*arguments, **options)

    store._executor.run = note
    for _ in range(12):
        assert (await store.load(session_id)).length == 2
    assert len(attempts) == 13
    await store.aclose()


async def test_nothing_is_kept_while_nothing_is_done(tmp_path: Path) -> None:
    """A worker keeps its connection for the next task, and gives it back when it is idle."""
    store: Any = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", TURN)
    await store.load("id")
    pool = store._executor._engine.pool
    with anyio.fail_after(30):
        while pool.checkedout():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)
    assert (await store.load("id")).length == 2
    await store.aclose()


async def test_a_listener_hears_of_each_statement(tmp_path: Path) -> None:
    """Where somebody listens, as tracing does, statements go through SQLAlchemy and are heard."""
    store: Any = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", TURN)
    heard: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement.split(maxsplit=1)[0])

    engine = store._executor._engine
    await store.aclose()
    await store.load("id")
    engine = store._executor._engine
    event.listen(engine, "before_cursor_execute", note)
    with anyio.fail_after(30):
        while engine.pool.checkedout():  # noqa: ASYNC110  # what was kept is used as it was
            await anyio.sleep(0.01)
    await store.append("id", TURN)
    assert (await store.load("id")).length == 4
    assert heard == ["BEGIN", "INSERT", "INSERT", "COMMIT", "SELECT"]
    await store.aclose()


async def do(workers: WorkerPool) -> str:
    """Return what a task of the workers returns."""
    task: Task[str] = Task(lambda _: "done", CompletionQueue(), 30, workers.abandoned)
    workers.put(task)
    return await task.result()


async def test_a_thread_outlives_what_it_cannot_give_back() -> None:
    """Where giving a connection back fails, its thread goes on to the next task."""
    gave_back = threading.Event()

    def on_idle() -> None:
        gave_back.set()
        raise OSError

    workers = WorkerPool(1, on_idle)
    assert await do(workers) == "done"
    await anyio.to_thread.run_sync(gave_back.wait)
    assert await do(workers) == "done"
    for thread in workers.stop():
        thread.join()


async def test_threads_that_end_leave_the_next_tasks_to_others() -> None:
    """After stop() a task does not wait for one that runs, and each of the threads ends."""
    workers, busy, may_end = WorkerPool(2, lambda: None), threading.Event(), threading.Event()

    def work(_: Task[str]) -> str:
        busy.set()
        return "in the end" if may_end.wait(60) else "never"

    before = set(threading.enumerate())
    task: Task[str] = Task(work, CompletionQueue(), 60, workers.abandoned)
    workers.put(task)
    await anyio.to_thread.run_sync(busy.wait)
    assert workers.stop() == []  # none that ends at once
    assert await do(workers) == "done"
    assert workers.stop()
    may_end.set()
    assert await task.result() == "in the end"
    for thread in set(threading.enumerate()) - before:
        if thread.name == "hermes-session":
            await anyio.to_thread.run_sync(thread.join, 60)
            assert not thread.is_alive()


async def test_a_system_without_threads_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that there are run all tasks, where no more can be had; without any it fails."""
    workers, empty = WorkerPool(2, lambda: None), WorkerPool(1, lambda: None)
    assert await do(workers) == "done"

    refuse_threads(monkeypatch)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(do, workers)
    with pytest.raises(RuntimeError, match="new thread"):
        await do(empty)
    monkeypatch.undo()
    assert await do(empty) == "done"
    for thread in [*workers.stop(), *empty.stop()]:
        thread.join()


async def test_a_turn_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's append makes each text once, and reads back what JSON could change alone."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    encoded: list[object] = []
    parsed: list[str] = []

    def encode(value: object) -> str:
        encoded.append(value)
        return json.dumps(value)

    def parse(body: str) -> Any:
        parsed.append(body)
        return json.loads(body)

    monkeypatch.setattr("hermes_session_mw.messages.as_json", encode)
    monkeypatch.setattr("hermes_session_mw.messages.parse_json", parse)
    plain = {"role": "user", "content": "a"}
    await HermesSession(store, "id", is_new=True).append(plain, {"role": "assistant", "n": [1]})
    assert len(encoded) == 2
    assert len(parsed) == 1
    await store.aclose()
