"""Tasks that no task waits for, and wake-ups that cross event loops: asyncio's and trio's."""

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import anyio

from hermes_session_mw.database.workers.worker_pool import loop_scheduler, native_token

_TASKS: set["asyncio.Task[None]"] = set()
"""asyncio itself holds tasks weakly."""


def spawn(
    function: Callable[[], Coroutine[Any, Any, None]], context: contextvars.Context | None = None
) -> None:
    """Run ``function``, which raises nothing, in a task that outlives the calling one.

    It is cancelled when the event loop ends, and may still end in order then. It has a copy of the
    caller's context, or another one.
    """
    token = native_token()
    if isinstance(token, asyncio.AbstractEventLoop):
        task = token.create_task(function(), context=context)
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)
    else:
        # By default such a task has an empty context; asyncio's has the caller's.
        context = contextvars.copy_context() if context is None else context
        sys.modules["trio"].lowlevel.spawn_system_task(function, context=context)


def from_any_thread(function: Callable[[], None]) -> Callable[[], None]:
    """Return a thread-safe function that makes the running event loop call ``function``."""
    schedule = loop_scheduler()

    def call() -> None:
        with suppress(RuntimeError):  # the loop has ended
            schedule(function)

    return call


def clock() -> Callable[[], float]:
    """Return the running event loop's clock, which ``anyio.current_time`` looks for each time."""
    token = native_token()
    is_asyncio = isinstance(token, asyncio.AbstractEventLoop)
    time: Callable[[], float] = token.time if is_asyncio else sys.modules["trio"].current_time
    return time


class Sleeper(Protocol):
    """Sleeps for one task, again and again, until it is woken or a time has come.

    Attributes:
        token: the event loop that it sleeps in.
    """

    token: Any

    def wake(self) -> None:
        """End the sleep, if it sleeps; called in its own event loop."""
        ...

    def wake_safely(self) -> None:
        """End the sleep; called from any thread."""
        ...

    async def sleep_until(self, due: float) -> None:
        """Sleep until it is woken, or until ``due`` by the event loop's clock."""
        ...

    def close(self) -> None:
        """Sleep no more."""
        ...


def sleeper() -> Sleeper:
    """Return a sleeper of the running event loop."""
    token = native_token()
    is_asyncio = isinstance(token, asyncio.AbstractEventLoop)
    return _AsyncioSleeper(token) if is_asyncio else _AnySleeper(token)


class _AnySleeper:
    __slots__ = ("_event", "token")

    def __init__(self, token: Any) -> None:
        self.token = token
        self._event: anyio.Event | None = None

    def wake(self) -> None:
        if self._event is not None:
            self._event.set()

    def wake_safely(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.token.run_sync_soon(self.wake)

    async def sleep_until(self, due: float) -> None:
        self._event = anyio.Event()
        try:
            with anyio.CancelScope(deadline=due):
                await self._event.wait()
        finally:
            self._event = None

    def close(self) -> None:
        pass


class _AsyncioSleeper:
    """One timer serves many sleeps, since most are ended by a wake-up long before it.

    When it rings is kept here: Pyodide's loop has timers that do not tell.
    """

    __slots__ = ("_due", "_future", "_rings_at", "_timer", "token")

    def __init__(self, token: asyncio.AbstractEventLoop) -> None:
        self.token = token
        self._future: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._rings_at = float("inf")
        self._due = float("inf")

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def wake_safely(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.token.call_soon_threadsafe(self.wake)

    async def sleep_until(self, due: float) -> None:
        self._due = due
        if self._timer is None or self._rings_at > due:
            self._set_timer()
        self._future = self.token.create_future()
        try:
            await self._future
        finally:
            self._future = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        if self._due != float("inf"):
            # Not by call_at: Pyodide's loop refuses a time that is over by now.
            delay = max(self._due - self.token.time(), 0.0)
            self._timer = self.token.call_later(delay, self._ring)
            self._rings_at = self._due

    def _ring(self) -> None:
        self._timer = None
        if self.token.time() >= self._due:
            self.wake()
        else:
            self._set_timer()


class Wakers:
    """Wakes tasks of any event loop that wait for a condition.

    No lock is needed: a condition changes before the wakers are read, and a waker is added before
    the condition is read, so that one of the two sees the other.
    """

    __slots__ = ("_sleepers",)

    def __init__(self) -> None:
        self._sleepers: dict[Sleeper, None] = {}

    def wake(self) -> None:
        """Wake all; called from any event loop."""
        if not self._sleepers:
            return
        here = _running_loop()
        for each in tuple(self._sleepers):
            if each.token is here:
                each.wake()  # without the loop's thread-safe and slower way
            else:
                each.wake_safely()

    def add(self, sleeper: Sleeper) -> None:
        """Wake a sleeper, too."""
        self._sleepers[sleeper] = None

    def discard(self, sleeper: Sleeper) -> None:
        """Wake it no more."""
        self._sleepers.pop(sleeper, None)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true, which is asked again at every wake-up."""
        if condition():
            return
        waiting = sleeper()
        self.add(waiting)
        try:
            while not condition():
                await waiting.sleep_until(float("inf"))
        finally:
            self.discard(waiting)
            waiting.close()


def _running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return native_token()
