"""A PostgreSQL primary that is killed or demoted, and the standby that takes its place."""

from collections.abc import Iterator

import anyio
import pytest
from anyio.to_thread import run_sync
from sqlalchemy import make_url

from hermes_session_mw import SQLAlchemyStore, StoreUnavailable
from hermes_session_mw.testing.answer_writers import ASKED, MOMENT, begun, part
from hermes_session_mw.testing.helpers import new_id
from tests.integration.clusters import standby
from tests.integration.clusters.writers import check, writing
from tests.support.answers import until
from tests.support.requirements import needs, needs_driver

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def pair() -> Iterator[standby.Pair]:
    """A primary and a standby that run; a machine may have none, CI may not."""
    needs(standby.missing())
    with standby.pair() as both:
        yield both


HELLO = {"role": "user", "content": "hello"}
DRIVERS = ["psycopg", "psycopg_async", "psycopg2", "asyncpg"]


async def use(store: SQLAlchemyStore, name: str) -> None:
    """Append to ten sessions at once, so that each connection of the pool is there."""
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(store.append, f"{name}-{number}", [HELLO])


async def test_a_primary_that_takes_no_writes_any_more_is_left(pair: standby.Pair) -> None:
    """After a promotion each append succeeds at once, though the old primary still answers."""
    for driver in DRIVERS:
        needs_driver(driver)
    stores = [SQLAlchemyStore(pair.url(driver)) for driver in DRIVERS[:2]]
    stores += [SQLAlchemyStore(pair.url(driver), threads=5) for driver in DRIVERS[2:]]
    for number, store in enumerate(stores):
        await use(store, f"before-{number}")
    pair.primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    pair.primary.execute("SELECT pg_reload_conf()")
    pair.primary.wait_until_read_only()
    await run_sync(pair.standby.promote)
    for number, store in enumerate(stores):
        await use(store, f"after-{number}")
        assert (await store.load(f"before-{number}-0")).length == 1
        await store.aclose()


@pytest.fixture(scope="module")
def reading() -> Iterator[standby.Pair]:
    """A primary and a standby that stay what they are, with tables."""
    needs(standby.missing())
    with standby.pair() as both:
        anyio.run(_make_tables, both)
        yield both


async def _make_tables(pair: standby.Pair) -> None:
    store = SQLAlchemyStore(pair.primary.url)
    await store.append("there", [HELLO])
    await store.aclose()
    pair.standby.wait_for("SELECT 1 FROM hermes_messages")


PIDS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_store_over_a_standby_goes_on_reading(reading: standby.Pair, driver: str) -> None:
    """An append there is unavailable long before its time, and costs one connection of the pool."""
    needs_driver(driver)
    url = reading.standby.url.set(drivername=f"postgresql+{driver}")
    store = SQLAlchemyStore(url, timeout=600)
    await store.load("there")
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(store.load, "there")
    before = {pid for (pid,) in reading.standby.execute(PIDS)}
    with anyio.fail_after(60), pytest.raises(StoreUnavailable, match=r"25006.*takes writes"):
        await store.append("there", [HELLO])
    for _ in range(20):
        assert (await store.load("there")).length == 1
    after = {pid for (pid,) in reading.standby.execute(PIDS)}
    # The session that asks is one of each; those that are gone are what was given up.
    assert len(before - after) <= 3
    await store.aclose()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_standby_is_read_without_a_fold(reading: standby.Pair, driver: str) -> None:
    """A conversation whose answer has lost its writer is read there as it is stored."""
    needs_driver(driver)
    primary = SQLAlchemyStore(reading.primary.url)
    session_id = new_id()
    await primary.append(session_id, [HELLO])
    await (await begun(primary, session_id, lease=MOMENT)).write(1, "Be")
    name = f"session_id = '{session_id}'"
    reading.standby.wait_for(
        "SELECT 1 FROM hermes_answer_events JOIN hermes_answers ON id = answer_id"  # its own id
        f" WHERE {name} AND (SELECT leased_until FROM hermes_sessions WHERE id = session_id)"
        " < extract(epoch FROM clock_timestamp()) * 1000"
    )
    store = SQLAlchemyStore(reading.standby.url.set(drivername=f"postgresql+{driver}"))
    assert (await store.load(session_id)).messages == [HELLO]
    info = await store.info(session_id)
    assert info is not None
    assert info.length == 1
    assert (await primary.load(session_id)).length == 3
    reading.standby.wait_for(f"SELECT 1 FROM hermes_messages WHERE {name} AND seq = 2")
    assert (await store.load(session_id)).messages[1:] == [ASKED, part("Be")]
    await store.aclose()
    await primary.aclose()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_hosts_none_of_which_takes_writes_are_unavailable(
    reading: standby.Pair, driver: str
) -> None:
    """All hosts answer, and none is a primary: the error says so at once, by every driver."""
    needs_driver(driver)
    host = f"host=127.0.0.1:{reading.standby.port}"
    store = SQLAlchemyStore(
        make_url(
            f"postgresql+{driver}://postgres@/postgres?{host}&{host}&target_session_attrs=read-write"
        ),
        timeout=600,
    )
    with (
        anyio.fail_after(60),
        pytest.raises(StoreUnavailable, match=r"read-only|None of the hosts"),
    ):
        await store.load("there")
    await store.aclose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_failover_costs_nothing_acknowledged(pair: standby.Pair, driver: str) -> None:
    """The same store goes on with the promoted standby, which has all that was acknowledged."""
    session_id = new_id()
    store = SQLAlchemyStore(pair.url(driver))
    await store.load(session_id)
    async with writing(session_id, [store], 6) as writers:
        await writers.more(100)
        await run_sync(pair.primary.kill)
        await writers.more_errors(6)
        before = len(writers.acknowledged)
        await run_sync(pair.standby.promote)
        await writers.more(100)
    assert len(writers.acknowledged) >= before + 100
    check(await store.load(session_id), writers.acknowledged)
    await store.aclose()


async def test_a_turn_found_stored_waits_for_the_standby_too(pair: standby.Pair) -> None:
    """A COMMIT cut off while it waits for the standby is acknowledged when that has it too."""
    session_id = new_id()
    store = SQLAlchemyStore(pair.url("psycopg"), timeout=20)
    await store.load(session_id)
    pair.standby.kill()
    async with writing(session_id, [store], 1) as writers:
        await run_sync(pair.primary.wait_for_a_waiting_commit)
        pair.primary.execute(f"SELECT pg_terminate_backend(pid) {standby.WAITING_COMMITS}")
        with anyio.move_on_after(1):
            await writers.more(1)
        early = dict(writers.acknowledged)
        pair.standby.start()
        await writers.more(10)
    assert not early
    pair.primary.kill()
    pair.standby.promote()
    check(await store.load(session_id), writers.acknowledged)
    await store.aclose()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_standby_has_no_notifications(reading: standby.Pair, driver: str) -> None:
    """Who follows an answer on a standby polls it: LISTEN is refused there."""
    needs_driver(driver)
    primary = SQLAlchemyStore(reading.primary.url)
    writer = await begun(primary, lease=300)
    await writer.write(1, "a")
    url = reading.standby.url.set(drivername=f"postgresql+{driver}")
    store = SQLAlchemyStore(url, create_schema=False)

    async def is_there() -> bool:
        page = await store.read_events(writer.id)
        return page is not None and len(page[1]) == 1

    await until(is_there)
    listener = store._executor.listener("hermes_answers")
    with store.watch_answer(writer.id, "", lambda: None) as watch:

        async def has_failed() -> bool:
            assert not await watch.renew()
            return listener._failures > 0

        await until(has_failed)
        assert await is_there()
    await store.aclose()
    await primary.aclose()
