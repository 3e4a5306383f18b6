"""Tasks that no task waits for, and wake-ups that cross event loops: asyncio's and trio's."""

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

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


class Wakers:
    """Wakes tasks of any event loop that wait for a condition.

    No lock is needed: a condition changes before the wakers are read, and a waker is added before
    the condition is read, so that one of the two sees the other.
    """

    __slots__ = ("_wakers",)

    def __init__(self) -> None:
        self._wakers: dict[Callable[[], None], tuple[Any, anyio.Event]] = {}

    def wake(self) -> None:
        """Wake all; called from any event loop."""
        if not self._wakers:
            return
        here = native_token()
        for wake, (token, event) in tuple(self._wakers.items()):
            if token is here:
                event.set()  # without the loop's thread-safe and slower way
            else:
                wake()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true, which is asked again at every wake-up."""
        while not condition():
            event = anyio.Event()
            wake = from_any_thread(event.set)
            self._wakers[wake] = native_token(), event
            try:
                if not condition():
                    await event.wait()
            finally:
                del self._wakers[wake]
