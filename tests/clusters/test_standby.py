"""A PostgreSQL primary that is killed, and the standby that takes its place."""

from collections.abc import Iterator

import anyio
import pytest
from anyio.to_thread import run_sync

from hermes_session_mw import SQLAlchemyStore
from tests.machine import needs
from tests.store_contract import new_id

from . import standby
from .writers import check, writing

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def pair() -> Iterator[standby.Pair]:
    """A primary and a standby that run; a machine may have none, CI may not."""
    needs(standby.missing())
    with standby.pair() as both:
        yield both


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
