"""One store that is used from many event loops, one after the other or at once."""

import asyncio
import gc
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
import trio
from sqlalchemy import URL, make_url
from starlette.applications import Starlette
from starlette.testclient import TestClient

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore
from hermes_session_mw.database.workers.worker_pool import PerLoop
from hermes_session_mw.testing.helpers import numbered
from tests.support import mariadb
from tests.support.open_files import open_files
from tests.support.own_databases import own_database

DRIVERS = ["postgresql+asyncpg", "postgresql+psycopg_async", "mysql+asyncmy", "sqlite+aiosqlite"]
Held = Callable[[], int]


@pytest.fixture
def url_and_held(
    request: pytest.FixtureRequest, driver: str, tmp_path: Path
) -> Iterator[tuple[URL, Held]]:
    """A database of the test's own, and how many connections there are to it."""
    with own_database(request, driver, tmp_path) as url:
        held: dict[str, Held] = {
            # Each connection has its own. The database's file SQLite may keep open after one is
            # closed, for as long as another of the process has a lock on it.
            "sqlite": lambda: open_files(f"{url.database}-wal"),
            "postgresql": lambda: in_postgres(url),
            "mysql": lambda: in_mariadb(url),
        }
        yield url, held[url.get_backend_name()]


def in_postgres(url: URL) -> int:
    """Return how many others are connected to the database."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def in_mariadb(url: URL) -> int:
    """Return how many others are connected to the database."""
    with mariadb.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE db = database() AND id <> connection_id()"
        )
        ((count,),) = cursor.fetchall()
    return int(count)


def comes_to(held: Held, most: int) -> bool:
    """Tell whether there are at most so many soon: a server takes its time to say goodbye."""
    deadline = time.monotonic() + 30
    while held() > most:
        if time.monotonic() > deadline:
            return False
        gc.collect()  # a driver's thread may have had the connection in hand at the last one
        time.sleep(0.01)
    return True


def closed_loops() -> int:
    """Return how many event loops that are closed something still holds on to."""
    gc.collect()
    # By type(): isinstance would ask a lazy proxy, such as Django's settings, for its class.
    kind = asyncio.AbstractEventLoop
    loops: list[Any] = [each for each in gc.get_objects() if issubclass(type(each), kind)]
    return sum(loop.is_closed() for loop in loops)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_loop_takes_its_connections_with_it(url_and_held: tuple[URL, Held], driver: str) -> None:
    """A hundred times asyncio.run over one store leave no connection, no thread and no loop."""
    url, held = url_and_held
    asyncio.run(SQLAlchemyStore(url, timeout=60).append("id", numbered(0)))  # makes the tables
    store = SQLAlchemyStore(url, timeout=60, create_schema=False)
    asyncio.run(store.load("id"))
    loops, threads = closed_loops(), set(threading.enumerate())
    for number in range(1, 100):
        assert asyncio.run(store.append("id", numbered(number))) == number + 1
        if number % 10 == 0:
            assert comes_to(held, 0)
    assert comes_to(held, 0)
    assert comes_to(lambda: len(set(threading.enumerate()) - threads), 0)
    assert closed_loops() <= loops + 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_test_client_without_with_leaves_nothing(
    url_and_held: tuple[URL, Held], driver: str
) -> None:
    """A TestClient that runs each request in a loop of its own leaves no connection behind."""
    url, held = url_and_held
    client = TestClient(HermesSessionMiddleware(Starlette(), url, store_timeout=60))
    for _ in range(10):
        assert client.get("/", headers={"X-Hermes-Session-Id": "known"}).status_code == 404
    assert comes_to(held, 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Python's own, for how the loop is ended
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_next_loop_ends_what_a_closed_one_left(
    url_and_held: tuple[URL, Held], driver: str
) -> None:
    """A loop that is closed without a word costs its connection until the next one comes."""
    url, held = url_and_held
    store = SQLAlchemyStore(url, timeout=60)
    for number in range(5):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(store.append("id", numbered(number))) == number + 1
        loop.close()
        gc.collect()
        assert comes_to(held, 1)
    del loop
    asyncio.run(store.aclose())
    assert asyncio.run(store.load("id")) is not None
    gc.collect()
    assert comes_to(held, 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Python's own, for how the loop is ended
def test_a_loop_that_closed_is_not_told_what_became_of_another(sqlite_url: str) -> None:
    """A left connection that takes long to close has no loop to tell of it, which may be closed."""
    closing = threading.Event()

    class Slow(sqlite3.Connection):
        def close(self) -> None:
            assert closing.wait(30)
            super().close()

    url = make_url(sqlite_url).set(drivername="sqlite+aiosqlite")
    store = SQLAlchemyStore(url, timeout=60, engine_options={"connect_args": {"factory": Slow}})
    before = set(threading.enumerate())
    for number in range(2):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(store.append("id", numbered(number))) == number + 1
        loop.close()
    closing.set()
    assert asyncio.run(store.load("id")) is not None
    assert comes_to(lambda: len(set(threading.enumerate()) - before), 0)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg"])
def test_a_closed_store_has_nothing_left_for_its_loop_to_end(
    url_and_held: tuple[URL, Held], driver: str
) -> None:
    """What is closed in a loop stays closed when that ends, and what was made since is ended."""
    url, held = url_and_held
    store = SQLAlchemyStore(url, timeout=60)

    async def twice() -> None:
        await store.append("id", numbered(0))
        await store.aclose()
        assert comes_to(held, 0)
        await store.append("id", numbered(1))
        assert held() == 1

    asyncio.run(twice())
    assert comes_to(held, 0)


def test_a_loop_is_not_kept_by_what_threads_tell_it(sqlite_url: str) -> None:
    """A hundred loops over one sync store leave nothing of themselves, under asyncio and trio."""
    store = SQLAlchemyStore(sqlite_url)
    loops = closed_loops()
    runs: list[weakref.ref[trio.lowlevel.TrioToken]] = []

    async def append_in_trio() -> None:
        runs.append(weakref.ref(trio.lowlevel.current_trio_token()))
        await store.append("id", numbered(0))

    for _ in range(50):
        asyncio.run(store.append("id", numbered(0)))
        trio.run(append_in_trio)
    assert closed_loops() <= loops + 1
    assert sum(run() is not None for run in runs) <= 1
    anyio.run(store.aclose)


def test_loops_at_once_each_have_their_value() -> None:
    """A value of a loop that runs is not let go because another loop comes."""
    let_go: list[str] = []
    values: PerLoop[str] = PerLoop(let_go.append)
    both = threading.Barrier(3, timeout=30)

    async def hold(name: str) -> None:
        assert values.get() is None
        values.set(name)
        both.wait()
        both.wait()
        assert values.get() == name

    async def come() -> None:
        values.set("third")

    held = [
        threading.Thread(target=anyio.run, args=(hold, backend), kwargs={"backend": backend})
        for backend in ("asyncio", "trio")
    ]
    for thread in held:
        thread.start()
    both.wait()
    asyncio.run(come())
    assert let_go == []
    both.wait()
    for thread in held:
        thread.join()
    asyncio.run(come())
    assert sorted(let_go) == ["asyncio", "third", "trio"]
