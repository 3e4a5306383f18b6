"""Threads wake asyncio's loop by one system call, and a task that waits is resumed at once."""

import asyncio
import contextvars
import gc
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hermes_session_mw.database.workers.asyncio_wakeup import DirectFuture, LoopWaker, loop_waker
from hermes_session_mw.database.workers.worker_pool import CompletionQueue
from hermes_session_mw.exceptions import StoreUnavailable
from hermes_session_mw.stores.sqlalchemy import SQLAlchemyStore
from tests.support.no_threads import refuse_threads
from tests.support.open_files import open_files

EVENTFD = "anon_inode:[eventfd]"

pytestmark = [
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
    pytest.mark.skipif(not hasattr(os, "eventfd"), reason="the system has no eventfd"),
]


def waker_of(loop: asyncio.AbstractEventLoop) -> LoopWaker:
    waker = loop_waker(loop)
    assert waker is not None
    return waker


async def in_callback(function: Callable[[], object]) -> None:
    """Call the function in the loop, outside of any task, and wait until it was."""
    called = asyncio.Event()

    def call() -> None:
        function()
        called.set()

    asyncio.get_running_loop().call_soon(call)
    await called.wait()


async def test_each_callback_is_called_once_in_its_threads_order() -> None:
    """Of callbacks that several threads schedule at once none is lost."""
    waker, called, done = waker_of(asyncio.get_running_loop()), list[Any](), asyncio.Event()

    def schedule(thread: int) -> None:
        for number in range(500):
            waker.schedule(lambda number=number: called.append((thread, number)))  # type: ignore[misc]
        waker.schedule(lambda: called.append((thread, None)))

    threads = [threading.Thread(target=schedule, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    waker.schedule(done.set)
    await done.wait()
    for each in range(4):
        assert [number for who, number in called if who == each] == [*range(500), None]


async def test_a_callback_that_fails_does_not_hold_up_the_next() -> None:
    """The loop's exception handler hears of it, and the others are called."""
    loop, done, heard = asyncio.get_running_loop(), asyncio.Event(), list[Any]()
    waker = waker_of(loop)
    loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
    waker.schedule(lambda: 1 / 0)
    waker.schedule(done.set)
    await done.wait()
    loop.set_exception_handler(None)
    assert [type(each) for each in heard] == [ZeroDivisionError]


async def test_a_callback_may_schedule_another() -> None:
    """It is called in a later iteration, so that one that does so for ever starves nobody."""
    waker, turns = waker_of(asyncio.get_running_loop()), list[int]()

    def again() -> None:
        turns.append(1)
        waker.schedule(again if len(turns) < 20 else lambda: None)

    waker.schedule(again)
    seen = -1
    while len(turns) < 20:
        await asyncio.sleep(0)
        assert len(turns) <= seen + 2
        seen = len(turns)


async def test_a_loop_has_one_waker() -> None:
    """All stores of a loop share an eventfd."""
    loop = asyncio.get_running_loop()
    assert waker_of(loop) is waker_of(loop)
    gc.collect()
    before = open_files(EVENTFD)
    for _ in range(10):
        CompletionQueue()
    assert open_files(EVENTFD) == before


def test_a_waker_ends_with_its_loop(anyio_backend: str) -> None:
    """A loop that has ended refuses callbacks, and leaves no file open."""

    async def make() -> LoopWaker:
        return waker_of(asyncio.get_running_loop())

    asyncio.run(make())
    gc.collect()
    before = open_files(EVENTFD)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="closed"):
            asyncio.run(make()).schedule(lambda: None)
    gc.collect()
    assert open_files(EVENTFD) == before


def test_a_waker_keeps_no_requests_context(anyio_backend: str) -> None:
    """The context variables of whoever needs it first are let go."""
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("request")

    class Request:
        pass

    async def main() -> None:
        async def first() -> weakref.ref[Request]:
            request = Request()
            variable.set(request)
            waker_of(asyncio.get_running_loop())
            return weakref.ref(request)

        reference = await asyncio.create_task(first())
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    asyncio.run(main())


async def wait(future: DirectFuture, log: list[Any]) -> bool:
    log.append("waits")
    try:
        result = await future
    except BaseException as exc:
        log.append(type(exc).__name__)
        raise
    log.append(result)
    return result


async def test_a_task_is_resumed_before_resume_returns() -> None:
    """It takes no further iteration of the loop; what comes too late is ignored."""
    future, log = DirectFuture(), list[Any]()
    task = asyncio.create_task(wait(future, log))
    await asyncio.sleep(0)

    def resume() -> None:
        future.resume(True)
        log.append("resumed")
        future.resume(False)

    await in_callback(resume)
    assert log == ["waits", True, "resumed"]
    assert await task is True


async def test_a_future_that_is_done_before_it_is_awaited() -> None:
    """Its result is there at once."""
    future, log = DirectFuture(), list[Any]()
    await in_callback(lambda: future.resume(False))
    assert await wait(future, log) is False
    future.add_done_callback(log.append)
    await asyncio.sleep(0)
    assert log[-1] is future


async def test_every_callback_is_called() -> None:
    """Others than the task's are called in the next iteration."""
    future, log = DirectFuture(), list[Any]()
    task = asyncio.create_task(wait(future, log))
    await asyncio.sleep(0)
    future.add_done_callback(lambda _: log.append("other"))
    await in_callback(lambda: future.resume(True))
    await asyncio.sleep(0)
    assert log == ["waits", True, "other"]
    await task


async def test_a_task_that_waits_can_be_cancelled() -> None:
    """By asyncio's own means, and by its timeout; a result that comes later is ignored."""
    future, log = DirectFuture(), list[Any]()
    task = asyncio.create_task(wait(future, log))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await in_callback(lambda: future.resume(True))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await wait(DirectFuture(), log)
    assert log == ["waits", "CancelledError"] * 2


async def test_a_wait_ends_in_time_and_is_forgotten() -> None:
    """Each has a time of its own, however it ends."""
    completions = CompletionQueue()
    waits = [completions.waiter() for _ in range(3)]
    completions.put(waits[0], more=False)
    long, short, shorter = [
        asyncio.create_task(each.wait(seconds))
        for each, seconds in zip(waits, (60, 0.02, 0.01), strict=True)
    ]
    assert await long is True
    assert [await short, await shorter] == [False, False]
    cancelled = asyncio.create_task(completions.waiter().wait(60))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert completions._deadlines == {}


async def test_what_a_resumed_task_causes_waits_its_turn() -> None:
    """Completions that come while others are delivered are delivered by the next wake-up."""
    completions = CompletionQueue()
    log = list[str]()

    async def again() -> None:
        for number in range(3):
            waiter = completions.waiter()
            completions.put(waiter, more=False)
            await waiter.wait(60)
            log.append(f"again {number}")

    task = asyncio.create_task(again())
    await asyncio.sleep(0)
    seen = list[str]()

    def deliver() -> None:
        completions._deliver()
        seen.extend(log)

    await in_callback(deliver)
    assert seen == ["again 0"]
    await task


def run_within(loop: asyncio.AbstractEventLoop, nested: Coroutine[Any, Any, Any]) -> None:
    """Run the loop within the running task until a coroutine has ended, as nest_asyncio does."""
    running: Any = loop
    outer, task = asyncio.current_task(), loop.create_task(nested)
    assert outer is not None
    asyncio.tasks._leave_task(loop, outer)
    expected = len(running._ready)
    while not task.done():
        running._run_once()
    # The iteration that goes on has counted what it would call.
    while len(running._ready) < expected:
        loop.call_soon(lambda: None)
    asyncio.tasks._enter_task(loop, outer)
    task.result()


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_loop_may_run_within_its_tasks(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """A loop that nest_asyncio has patched runs within a task that a store has resumed.

    Nothing fails in it, and whatever is done there ends, whether it was patched before its first
    operation or after it.
    """
    loop, heard = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    store = SQLAlchemyStore(sqlite_url)
    if is_late:
        await store.load("id")
    monkeypatch.setattr(loop, "_nest_patched", True, raising=False)

    async def use(user: int) -> None:
        for number in range(5):
            await store.load("id")
            run_within(loop, store.append("id", [{"role": "user", "content": f"{user}.{number}"}]))

    await asyncio.gather(use(0), use(1), use(2))
    assert (await store.load("id")).length == 15
    await store.aclose()
    loop.set_exception_handler(None)
    assert heard == []


async def test_a_system_that_gives_no_eventfd(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox that refuses it, or a process with too many files, uses asyncio's own way."""

    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", refuse)
    store = SQLAlchemyStore(sqlite_url)
    assert await store.append("id", [{"role": "user", "content": "hello"}]) == 1
    await store.aclose()


async def test_a_loop_looks_for_nothing_that_never_began(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop whose operation got no thread is idle afterwards."""
    store = SQLAlchemyStore(sqlite_url)
    refuse_threads(monkeypatch)
    with pytest.raises(StoreUnavailable):
        await store.load("id")
    monkeypatch.undo()
    await store.load("id")
    queue = store._executor._completions.get()  # type: ignore[attr-defined]  # a sync driver's
    assert queue._waiting == 0
    await store.aclose()
