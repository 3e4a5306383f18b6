"""A database that accepts and never answers costs time, bounded, and is used again once it is back.

No test measures time: a watchdog ends those that would hang.
"""

import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore, StoreTimeout, StoreUnavailable
from hermes_session_mw.database.interruption import OperationTimeout
from hermes_session_mw.database.workers.worker_pool import CompletionQueue, Task
from hermes_session_mw.testing.helpers import new_id
from tests.support.freezing_proxy import freezing
from tests.support.requirements import needs_driver
from tests.support.server import ROOT

T = TypeVar("T")
HELLO = {"role": "user", "content": "hello"}
SYNC = ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"]
ASYNC = ["postgresql+asyncpg", "postgresql+psycopg_async", "mysql+asyncmy"]
CASES = [
    *[(driver, loop) for driver in SYNC for loop in ("asyncio", "trio")],
    *[(driver, "asyncio") for driver in ASYNC],
]
every_driver = pytest.mark.parametrize(("driver", "anyio_backend"), CASES)
TIMEOUT = 2.0
"""Seconds that the stores here have."""

FILLING = 3.0
"""Seconds of those that open ten connections at once first, on a busy machine."""


@pytest.fixture
def server_url(request: pytest.FixtureRequest, driver: str) -> URL:
    """The database of the driver's server."""
    needs_driver(driver)
    kind = "postgres_url" if driver.startswith("postgresql") else "mysql_url"
    url: URL = request.getfixturevalue(kind)
    if driver.endswith("asyncpg"):
        # Cut off while it asks for TLS, asyncpg leaves an exception behind that nobody takes.
        url = url.update_query_dict({"ssl": "disable"})
    return url.set(drivername=driver)


@pytest.fixture
async def watchdog() -> AsyncIterator[None]:
    """Fail whatever takes a minute."""
    with anyio.fail_after(60):
        yield


watched = pytest.mark.usefixtures("watchdog")


async def fails(store: SQLAlchemyStore, session_id: str) -> None:
    """See an operation end as unavailable."""
    with pytest.raises(StoreUnavailable):
        await store.load(session_id)


async def at_last(operation: Callable[[], Awaitable[T]]) -> T:
    """Return what the operation returns as soon as it works, after however many failures."""
    while True:
        with suppress(StoreUnavailable):
            return await operation()
        await anyio.sleep(TIMEOUT / 10)


async def heals(store: SQLAlchemyStore, session_id: str) -> None:
    """See that the store works again."""
    await at_last(lambda: store.append(session_id, [HELLO]))


async def fill_the_pool(store: SQLAlchemyStore) -> None:
    """Use the store ten times at once, until that works."""
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(heals, store, f"filling-{number}")


@watched
@every_driver
async def test_a_silent_database_is_a_timeout(server_url: URL) -> None:
    """A database that never answered is unavailable, for load and append, and is used later."""
    session_id = new_id()
    with freezing(server_url) as (proxy, url):
        proxy.freeze()
        store = SQLAlchemyStore(url, timeout=TIMEOUT)
        with pytest.raises(StoreUnavailable):
            await store.load(session_id)
        with pytest.raises(StoreUnavailable):
            await store.append(session_id, [HELLO])
        proxy.thaw()
        await heals(store, session_id)
        await store.aclose()


@watched
@every_driver
async def test_frozen_connections_are_given_up(server_url: URL) -> None:
    """However many connections froze, the store is as before once the database is back."""
    session_id = new_id()
    with freezing(server_url) as (proxy, url):
        store = SQLAlchemyStore(url, timeout=FILLING)
        await fill_the_pool(store)
        proxy.freeze()
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(fails, store, session_id)
        proxy.thaw()
        await heals(store, session_id)
        await fill_the_pool(store)
        await store.aclose()


@watched
@every_driver
@pytest.mark.parametrize("marker", [b"hermes_messages", b"COMMIT"])
async def test_an_append_frozen_in_the_middle_is_whole_or_absent(
    server_url: URL, marker: bytes
) -> None:
    """Frozen at its INSERT or its COMMIT, an append fails in time; repeated, it is stored once."""
    session_id = new_id()
    turn = [HELLO, {"role": "assistant", "content": "hi"}]
    with freezing(server_url) as (proxy, url):
        store = SQLAlchemyStore(url, timeout=TIMEOUT)
        # No append: asyncpg would send its second COMMIT by a number, without the word.
        await at_last(lambda: store.load(session_id))
        proxy.freeze_at = marker
        with pytest.raises(StoreUnavailable):
            await store.append(session_id, turn, turn_id="t")
        proxy.thaw()
        assert await at_last(lambda: store.append(session_id, turn, turn_id="t")) == 2
        assert (await at_last(lambda: store.load(session_id))).messages == turn
        await store.aclose()


@watched
@every_driver
async def test_a_freeze_while_the_tables_are_looked_for_is_got_over(server_url: URL) -> None:
    """The very first use may freeze in its middle: nobody waits for it for ever."""
    session_id = new_id()
    marker = b"pg_catalog.pg_class" if "postgresql" in server_url.drivername else b"DESCRIBE"
    with freezing(server_url) as (proxy, url):
        proxy.freeze_at = marker
        store = SQLAlchemyStore(url, timeout=TIMEOUT)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(fails, store, session_id)
        proxy.thaw()
        await heals(store, session_id)
        await store.aclose()


@watched
@every_driver
async def test_closing_over_frozen_connections_ends(server_url: URL) -> None:
    """A shutdown waits for a frozen database no longer than for any operation."""
    with freezing(server_url) as (proxy, url):
        store = SQLAlchemyStore(url, timeout=FILLING)
        await fill_the_pool(store)
        proxy.freeze()
        with anyio.move_on_after(TIMEOUT / 10):
            await store.load("id")
        await store.aclose()


@watched
async def test_hung_threads_are_counted(sqlite_url: str, tmp_path: Path) -> None:
    """Where threads hang that nothing can free, the store fails at once until they return."""
    options = {"connect_args": {"timeout": 600}}  # far more than the store's own
    store = SQLAlchemyStore(sqlite_url, timeout=TIMEOUT, threads=1, engine_options=options)
    await heals(store, "id")
    raw = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreTimeout):
        await store.append("id", [HELLO])
    before = threading.active_count()
    for _ in range(20):
        with pytest.raises(StoreUnavailable, match=r"threads that hang .*: 1"):
            await store.load("id")
    assert threading.active_count() <= before
    assert "hung threads: 1" in repr(store)
    raw.execute("ROLLBACK")
    raw.close()
    await heals(store, "id")
    await store.aclose()


@watched
async def test_a_closed_stores_hung_threads_count_no_more(sqlite_url: str, tmp_path: Path) -> None:
    """A store that is used after its close has new threads, whatever the others hang in."""
    options = {"connect_args": {"timeout": 600}}
    store = SQLAlchemyStore(sqlite_url, timeout=TIMEOUT, threads=1, engine_options=options)
    await heals(store, "id")
    raw = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreTimeout):
        await store.append("id", [HELLO])
    await store.aclose()
    assert (await store.load("id")).length
    raw.execute("ROLLBACK")
    raw.close()
    await store.aclose()


EXITING = """
import sys, anyio
from hermes_session_mw import SQLAlchemyStore, StoreUnavailable

async def main():
    store = SQLAlchemyStore(sys.argv[1], timeout=2)
    if sys.argv[2] == "used":
        await store.load("id")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        await store.load("id")
    except StoreUnavailable:
        print("unavailable", flush=True)

anyio.run(main)
"""


@pytest.mark.parametrize("driver", SYNC)
@pytest.mark.parametrize("state", ["used", "unused"])
def test_a_process_ends_over_a_frozen_database(server_url: URL, state: str) -> None:
    """A thread that waits for a frozen database does not keep the process from its end."""
    with freezing(server_url) as (proxy, url):
        command = [sys.executable, "-c", EXITING, url.render_as_string(hide_password=False), state]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            proxy.freeze()
            output, _ = process.communicate("go\n", timeout=50)
    assert (process.returncode, output) == (0, "unavailable\n")


async def test_a_task_that_was_abandoned_before_it_began_is_not_run() -> None:
    """A task whose caller has stopped waiting is not begun."""
    done: list[str] = []
    task = Task(lambda _: done.append("it"), CompletionQueue(), 0.01, set())
    with pytest.raises(OperationTimeout):
        await task.result()
    task.run()
    assert done == []


async def test_a_task_is_aborted_as_soon_as_it_can_be() -> None:
    """A connection that comes after the time is up is shut down at once; a closed one is let be."""
    abandoned: set[Task[Any]] = set()
    here, there = socket.socketpair()
    goes_on = threading.Event()

    def work(task: Task[None]) -> None:
        goes_on.wait()
        task.use(here)
        assert there.recv(1) == b""
        here.close()
        there.close()
        task.abort()

    task = Task(work, CompletionQueue(), 0.01, abandoned)
    thread = threading.Thread(target=task.run)
    thread.start()
    with pytest.raises(OperationTimeout):
        await task.result()
    assert abandoned == {task}
    task.abort()
    goes_on.set()
    await anyio.to_thread.run_sync(thread.join)
    assert abandoned == set()
