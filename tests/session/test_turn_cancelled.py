"""Turns under asyncio's own cancellation, against which anyio's shields do not hold."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hermes_session_mw import HermesSession, MemoryStore, SessionBusy, StoreTimeout
from hermes_session_mw.session.store_client import StoreClient, run_uncancelled
from hermes_session_mw.testing.helpers import numbered
from tests.stores.test_housekeeping import Make, make

__all__ = ["make"]  # a fixture

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
MOMENTS = 40


class Slow(MemoryStore):
    """Waits in the middle of one operation, which has done its work by then or has it before it."""

    def __init__(self, operation: str, *, is_done: bool) -> None:
        super().__init__()
        self.reached, self.go_on = anyio.Event(), anyio.Event()
        self._slow = operation
        self._is_done = is_done

    async def acquire(self, *args: Any, **options: Any) -> int:
        work = partial(super().acquire, *args, **options)
        fence: int = await self._slowly("acquire", work)
        return fence

    async def release(self, *args: Any, **options: Any) -> None:
        await self._slowly("release", partial(super().release, *args, **options))

    async def append(self, *args: Any, **options: Any) -> int:
        length: int = await self._slowly("append", partial(super().append, *args, **options))
        return length

    async def _slowly(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        outcome = await work() if self._is_done else None
        if name == self._slow:
            self.reached.set()
            await self.go_on.wait()
        return outcome if self._is_done else await work()


async def one_turn(session: HermesSession) -> None:
    async with session.turn(lease=300, wait=0):
        await session.append(*numbered(session.length))


async def is_free(store: Any, session_id: str = "id") -> bool:
    try:
        async with HermesSession(store, session_id).turn(wait=0):
            return True
    except SessionBusy:
        return False


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("operation", ["acquire", "release"])
async def test_a_turn_cancelled_by_asyncio_is_given_back(operation: str, *, is_done: bool) -> None:
    """However often its task is cancelled, taking and giving back end, and then it raises."""
    store = Slow(operation, is_done=is_done)
    task = asyncio.create_task(one_turn(HermesSession(store, "id")))
    await store.reached.wait()
    for _ in range(3):
        task.cancel()
        await anyio.lowlevel.checkpoint()
        assert not task.done()
    store.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert await is_free(store)


@pytest.mark.parametrize("operation", ["acquire", "release"])
async def test_a_time_limit_around_a_turn_is_a_timeout(operation: str) -> None:
    """``asyncio.timeout`` raises its TimeoutError, the turn is free, and the task goes on."""
    store = Slow(operation, is_done=True)

    async def let_go() -> None:
        await store.reached.wait()
        limit.reschedule(0)  # which was long ago
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        store.go_on.set()

    helper = asyncio.create_task(let_go())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await one_turn(HermesSession(store, "id"))
    await helper
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await is_free(store)


async def test_anyios_cancellation_is_still_caught_by_its_scope() -> None:
    """A scope that is cancelled while the turn is taken ends as scopes do, and the turn is free."""
    store = Slow("acquire", is_done=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one_turn, HermesSession(store, "id"))
        await store.reached.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        store.go_on.set()
    assert tasks.cancel_scope.cancelled_caught
    assert await is_free(store)


async def test_a_turn_is_given_back_where_the_recording_was_cut_off() -> None:
    """Cancelled while it stores what was recorded, the end of a session gives its turn back."""
    store = Slow("append", is_done=False)
    session = HermesSession(store, "id")
    await session.turn(lease=300).acquire()
    session.record(*numbered(0)).write("hello")
    task = asyncio.create_task(session.end())
    await store.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_free(store)


async def test_a_turn_taken_in_doubt_ends_with_its_lease() -> None:
    """Taken by a store that did not answer in time, a turn is free when its lease is over."""
    store = Slow("acquire", is_done=True)
    session = HermesSession(StoreClient(store, 0.01), "id")
    with pytest.raises(StoreTimeout):
        await session.turn(lease=1, wait=0).acquire()
    assert session.current_turn is None
    store.go_on.set()
    async with HermesSession(store, "id").turn(wait=60):
        pass


async def test_a_failure_after_a_cancellation_is_not_logged_as_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the work of a cancelled task fails, the cancellation is raised, and that is all."""
    go_on = anyio.Event()

    async def fail() -> None:
        await go_on.wait()
        raise ValueError

    task = asyncio.create_task(run_uncancelled(fail))
    await anyio.lowlevel.checkpoint()
    task.cancel()
    await anyio.lowlevel.checkpoint()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not caplog.records


async def test_a_loop_that_ends_is_not_held_up() -> None:
    """Where every task is cancelled, as at a loop's end, the work's own is, and nothing hangs."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(run_uncancelled(anyio.sleep_forever))
    await anyio.wait_all_tasks_blocked()
    own = asyncio.all_tasks() - before
    assert len(own) == 2
    for each in own:
        each.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "database",
    ["sqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg", "mysql+pymysql"],
)
async def test_no_moment_of_cancellation_leaves_a_turn_taken(make: Make) -> None:
    """Cancelled at many moments, a turn is free at once for the next request."""
    store = make()
    await store.append("warm", numbered(0))
    for moment in range(MOMENTS):
        session_id = f"s{moment}"
        task = asyncio.create_task(one_turn(HermesSession(store, session_id)))
        await asyncio.sleep(moment / MOMENTS * 0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await is_free(store, session_id)
