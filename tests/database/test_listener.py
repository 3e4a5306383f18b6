"""PostgreSQL's notifications of answers: who hears them, and what happens where none come."""

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import URL, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database import listener as listening
from hermes_session_mw.database.drivers import SERVER_PROCESS
from hermes_session_mw.testing.answer_writers import Writer, begun, growth
from tests.support import pgbouncer, postgres
from tests.support.answers import Follower, found, until
from tests.support.freezing_proxy import freezing
from tests.support.pgbouncer import PgBouncer
from tests.support.requirements import needs, needs_driver

DRIVERS = [
    ("postgresql+psycopg", "asyncio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+psycopg2", "asyncio"),
    ("postgresql+psycopg_async", "asyncio"),
    ("postgresql+asyncpg", "asyncio"),
]
EACH = pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
ASYNC = ("postgresql+psycopg_async", "postgresql+asyncpg")


@pytest.fixture
def url(postgres_server: URL, driver: str) -> Iterator[URL]:
    """A database of the test's own."""
    needs_driver(driver)
    with postgres.database(postgres_server) as made:
        yield made.set(drivername=driver)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that closes its connection at once, and tries again soon."""
    monkeypatch.setattr(listening, "_LINGER", 0.1)
    monkeypatch.setattr(listening, "_LONGEST_PAUSE", 0.1)


@asynccontextmanager
async def opened(url: URL, **options: Any) -> AsyncIterator[SQLAlchemyStore]:
    """A store, as another process has it."""
    store = SQLAlchemyStore(url, **options)
    try:
        yield store
    finally:
        await store.aclose()


class Woken:
    """Notes wake-ups, which come from any thread."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def live(watch: Any) -> None:
    """Wait until a watch expects notifications."""
    await until(watch.renew)


async def dead(watch: Any) -> None:
    """Wait until it expects none any more."""

    async def expects_none() -> bool:
        return not await watch.renew()

    await until(expects_none)


async def woken(wake: Woken, count: int) -> None:
    """Wait for a wake-up more than there were."""

    async def is_woken() -> bool:
        return wake.count > count

    await until(is_woken)


def listeners(url: URL) -> int:
    """Return how many connections to the database listen; each has done nothing else since."""
    with postgres.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND query LIKE 'LISTEN%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def comes_to(url: URL, count: int) -> None:
    """Wait until so many connections listen."""

    async def is_so() -> bool:
        return await anyio.to_thread.run_sync(listeners, url) == count

    await until(is_so)


@EACH
async def test_whoever_follows_is_woken(url: URL) -> None:
    """A write, and the end, of a process wake followers of that answer in another process."""
    async with opened(url) as here, opened(url) as there:
        writer, other = await begun(here), await begun(here)
        wake, wake_other = Woken(), Woken()
        with (
            there.watch_answer(writer.id, "", wake) as watch,
            there.watch_answer(other.id, "", wake_other) as watch_other,
        ):
            await live(watch)
            await live(watch_other)
            before, before_other = wake.count, wake_other.count
            await writer.write(1, "a")
            await woken(wake, before)
            before = wake.count
            await writer.write(2, "b", growth=growth(("+", ["content"], "b")))
            await woken(wake, before)
            before = wake.count
            await writer.end(3, "c")
            await woken(wake, before)
            assert wake_other.count == before_other
        await comes_to(url, 0)


@EACH
async def test_a_connection_of_its_own(url: URL) -> None:
    """All watches of a store share one connection, which the pool does not have to spare."""
    options: dict[str, Any] = {"threads": 1}
    async with opened(url, **options) as here, opened(url, **options) as there:
        with ExitStack() as stack:
            for _ in range(3):
                writer = await begun(here)
                watch = stack.enter_context(there.watch_answer(writer.id, "", Woken()))
                await live(watch)
            assert await anyio.to_thread.run_sync(listeners, url) == 1
        await comes_to(url, 0)
        with there.watch_answer(writer.id, "", Woken()) as watch:
            await live(watch)  # another one is opened
        await there.load("id")


@EACH
async def test_a_store_that_is_closed_listens_no_more(url: URL) -> None:
    """Closing the store closes the connection, also while somebody follows."""
    async with opened(url) as store:
        writer, wake = await begun(store), Woken()
        with store.watch_answer(writer.id, "", wake) as watch:
            await live(watch)
            await store.aclose()
            assert await anyio.to_thread.run_sync(listeners, url) == 0
            assert wake.count


@pytest.mark.parametrize("driver", ["postgresql+psycopg"])
async def test_nobody_is_notified_unasked(url: URL, driver: str) -> None:
    """A write notifies nobody before another process has asked for it, or a while after."""
    assert driver == url.drivername
    async with opened(url) as store:
        heard = Heard(url)
        writer = await begun(store)
        await writer.write(1, "a")
        assert heard.payloads() == []
        with store.watch_answer(writer.id, "", Woken()) as watch:
            await live(watch)
        heard.payloads()
        await writer.write(2, "b")
        (payload,) = heard.payloads()
        assert len(payload) == 32
        assert writer.id not in payload
        heard.connection.execute(
            "UPDATE hermes_answers SET followed_until = followed_until - 60000"
        )
        await writer.write(3, "c")
        await writer.end(4)
        assert heard.payloads() == []
        heard.connection.close()


class Heard:
    """A connection that listens.

    Attributes:
        connection: it.
    """

    def __init__(self, url: URL) -> None:
        self.connection = postgres.connect(url)
        self.connection.execute("LISTEN hermes_answers")

    def payloads(self) -> list[str]:
        """Return what was notified of since the last time."""
        # Notifications come in the order of their commits.
        self.connection.execute("SELECT pg_notify('hermes_answers', 'last')")
        found: list[str] = []
        for each in self.connection.notifies(timeout=30):
            if each.payload == "last":
                break
            found.append(each.payload)
        return [each for each in found if not each.startswith("probe ")]


@EACH
async def test_a_request_to_stop_is_heard(url: URL, driver: str) -> None:
    """A writer's process that listens hears a request to stop; no connection is opened for it."""
    async with opened(url) as here, opened(url) as there:
        writer, followed = await begun(here), await begun(here)
        wake = Woken()
        with here.watch_stop(writer.id, "", wake):
            assert await there.request_stop(writer.id)
            assert await anyio.to_thread.run_sync(listeners, url) == 0
            with here.watch_answer(followed.id, "", Woken()) as watch:
                await live(watch)
                before = wake.count
                assert await there.request_stop(writer.id)
                await woken(wake, before)


@pytest.fixture
def pooler(postgres_server: URL, mode: Any, driver: str) -> Iterator[PgBouncer]:
    """A pooler in front of a database of the test's own."""
    needs_driver(driver)
    needs(pgbouncer.missing())
    with (
        postgres.database(postgres_server) as made,
        pgbouncer.own_pooler(made, mode) as pooler,
    ):
        yield pooler


@EACH
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_behind_a_pooler_nobody_listens(
    pooler: PgBouncer, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No LISTEN is sent to a server connection of a pooler's; that is logged once, at DEBUG."""
    url = pooler.url.set(drivername=driver)
    caplog.set_level(logging.DEBUG, "hermes_session_mw")
    async with opened(url) as store:
        writer = await begun(store)
        with store.watch_answer(writer.id, "", Woken()) as watch:
            await tried(store, watch, 3)
            assert await anyio.to_thread.run_sync(listeners, url) == 0
        async with anyio.create_task_group() as tasks:
            follower = Follower(await found(store, writer.session_id))
            tasks.start_soon(follower.run)
            await writer.write(1, "a")
            await writer.end(2, "b")
        assert (follower.got, follower.state) == (["a", "b"], "completed")
    (record,) = [each for each in caplog.records if "notifications" in each.getMessage()]
    assert record.levelno == logging.DEBUG
    assert "pooler" in str(record.exc_info)


async def tried(store: SQLAlchemyStore, watch: Any, count: int) -> None:
    """Wait until a store has tried in vain to listen so often."""
    listener = store._executor.listener("hermes_answers")

    async def is_so() -> bool:
        assert not await watch.renew()
        return listener._failures >= count

    await until(is_so)


@EACH
@pytest.mark.parametrize("mode", ["transaction"])
async def test_a_pooler_that_is_not_seen(
    pooler: PgBouncer, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where LISTEN is answered and nothing comes, no notification is expected."""
    url = pooler.url.set(drivername=driver)
    monkeypatch.setattr(listening, "ASK_SERVER_PROCESS", "SELECT 1")
    for module in ("thread_listener", "asyncio_listener"):
        monkeypatch.setattr(
            f"hermes_session_mw.database.workers.{module}.ASK_SERVER_PROCESS", "SELECT 1"
        )
        monkeypatch.setattr(f"hermes_session_mw.database.workers.{module}.FIRST_PROBE", 0.2)
    for name in tuple(SERVER_PROCESS):
        monkeypatch.setitem(SERVER_PROCESS, name, lambda _: 1)
    async with opened(url) as store:
        writer = await begun(store)
        with store.watch_answer(writer.id, "", Woken()) as watch:
            await tried(store, watch, 2)


@EACH
async def test_a_server_that_is_restarted(postgres_server: URL, driver: str) -> None:
    """Whoever follows is woken when the server goes away, and by notifications once it is back."""
    needs_driver(driver)
    needs(None if postgres.binaries() else "no PostgreSQL: install postgresql")
    with postgres.own_server() as server:
        async with opened(server.url.set(drivername=driver), timeout=60) as store:
            writer, wake = await begun(store, lease=300), Woken()
            with store.watch_answer(writer.id, "", wake) as watch:
                await live(watch)
                before = wake.count
                await anyio.to_thread.run_sync(server.kill)
                await woken(wake, before)
                await dead(watch)
                await anyio.to_thread.run_sync(server.start)
                await live(watch)
                before = wake.count
                await writer.write(1, "a")
                await woken(wake, before)


@EACH
async def test_a_server_that_is_silent(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection over which nothing comes any more is given up, and another one is opened."""
    for module in ("listener", "workers.thread_listener", "workers.asyncio_listener"):
        for name, seconds in {"PROOF": 1.0, "PROBE_AFTER": 0.2, "_PATIENCE": 1.0}.items():
            path = f"hermes_session_mw.database.{module}.{name}"
            monkeypatch.setattr(path, seconds, raising=False)
    with freezing(url) as (proxy, through):
        async with opened(url) as here, opened(through, timeout=60) as there:
            writer, wake = await begun(here, lease=300), Woken()
            listener = there._executor.listener("hermes_answers")
            with there.watch_answer(writer.id, "", wake) as watch:
                await live(watch)
                proxy.freeze()
                await dead(watch)

                async def has_failed() -> bool:
                    watch._watch.is_live()  # type: ignore[attr-defined]  # as a follower asks
                    return listener._failures > 0

                await until(has_failed)
                proxy.thaw()
                await live(watch)
                before = wake.count
                await writer.write(1, "a")
                await woken(wake, before)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
def test_several_event_loops(url: URL, driver: str) -> None:
    """Event loops share a sync driver's connection; with an asyncio one, each has its own."""
    store, ready, done = SQLAlchemyStore(url), threading.Barrier(3), threading.Event()
    writers: list[Writer] = []
    counts: list[int] = []

    async def make() -> None:
        writers.append(await begun(store))
        await store.aclose()

    async def follow() -> None:
        (writer,), wake = writers, Woken()
        with store.watch_answer(writer.id, "", wake) as watch:
            await live(watch)
            before = wake.count
            await anyio.to_thread.run_sync(ready.wait)
            await woken(wake, before)
            await anyio.to_thread.run_sync(done.wait)
            counts.append(wake.count)
        await store.aclose()

    async def write() -> None:
        (writer,) = writers
        await anyio.to_thread.run_sync(ready.wait)
        assert listeners(url) == (2 if driver.endswith("asyncpg") else 1)
        async with opened(url) as other:
            await Writer(other, writer.session_id, writer.id, writer.fence).write(1, "a")

    anyio.run(make)
    threads = [threading.Thread(target=anyio.run, args=(follow,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    anyio.run(write)
    done.set()
    for thread in threads:
        thread.join(30)
    assert len(counts) == 2


@pytest.mark.parametrize("driver", ASYNC)
def test_an_event_loop_that_ends_closes_its_connection(url: URL, driver: str) -> None:
    """asyncio.run leaves no listening connection behind, whether or not the store is closed."""
    assert driver == url.drivername
    store = SQLAlchemyStore(url)

    async def follow() -> None:
        writer = await begun(store)
        watch = store.watch_answer(writer.id, "", Woken())
        await live(watch.__enter__())

    for _ in range(2):
        anyio.run(follow)
        anyio.run(comes_to, url, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("driver", "anyio_backend"), [("postgresql+psycopg", "asyncio")])
async def test_a_forked_child_leaves_the_connection_alone(url: URL) -> None:
    """A child has a listener of its own, and the parent's goes on after the child has ended."""
    async with opened(url) as store:
        writer, wake = await begun(store), Woken()
        with store.watch_answer(writer.id, "", wake) as watch:
            await live(watch)
            child = os.fork()
            if child == 0:  # pragma: no cover  # another process
                code = 1
                try:
                    found = store._executor.listener("hermes_answers")
                    code = int(found._watches != {} or found.is_live())
                finally:
                    os._exit(code)
            _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            before = wake.count
            await writer.write(1, "a")
            await woken(wake, before)


@pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("postgresql+psycopg", "asyncio"), ("postgresql+asyncpg", "asyncio")],
)
async def test_an_engine_of_the_callers(url: URL, driver: str) -> None:
    """A borrowed engine's settings are used, whatever its isolation level, and its pool is not."""
    make: Callable[..., Any] = create_async_engine if driver in ASYNC else create_engine
    engine = make(url, isolation_level="SERIALIZABLE", pool_size=1, max_overflow=0)
    async with opened(url) as other:
        store = SQLAlchemyStore(engine)
        writer, wake = await begun(other), Woken()
        with store.watch_answer(writer.id, "", wake) as watch:
            await live(watch)
            before = wake.count
            await writer.write(1, "a")
            await woken(wake, before)
            assert engine.pool.checkedout() == 0
        await store.aclose()
        await comes_to(url, 0)
    if driver in ASYNC:
        await engine.dispose()
    else:
        engine.dispose()


@pytest.mark.parametrize(("driver", "anyio_backend"), [("postgresql+psycopg", "asyncio")])
async def test_without_the_right_to_ask_for_notifications(url: URL) -> None:
    """Who may only read the tables polls them, and is told nothing else."""
    async with opened(url) as store:
        writer = await begun(store)
        await writer.write(1, "a")
        with postgres.connect(url) as connection:
            connection.execute("CREATE ROLE hermes_reader LOGIN")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO hermes_reader")
        try:
            reading = url.set(username="hermes_reader")
            async with opened(reading, create_schema=False) as reader:
                with reader.watch_answer(writer.id, "", Woken()) as watch:
                    await refused(watch)
                    assert not await watch.renew()  # is not tried at once again
                    assert await reader.read_events(writer.id) == ("running", ['"a"'])
        finally:
            with postgres.connect(url) as connection:
                connection.execute("DROP OWNED BY hermes_reader")
                connection.execute("DROP ROLE hermes_reader")


async def refused(watch: Any) -> None:
    """Wait until a watch says that it may not ask for notifications."""

    async def is_refused() -> bool:
        try:
            assert not await watch.renew()
        except Exception as exc:  # noqa: BLE001  # whatever it is
            assert "denied" in str(exc.__cause__ or exc)  # noqa: PT017
            return True
        return False

    await until(is_refused)


@pytest.mark.parametrize("url", ["sqlite://"])
async def test_other_databases_have_no_notifications(url: str) -> None:
    """On SQLite a watch expects none."""
    store = SQLAlchemyStore(url)
    with store.watch_answer("a", "", Woken()) as watch, store.watch_stop("a", "", Woken()):
        assert not await watch.renew()
    await store.aclose()
