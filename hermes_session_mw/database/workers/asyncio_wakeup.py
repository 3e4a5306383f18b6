"""How threads wake asyncio's event loop, and how its tasks are resumed, at less than its own cost.

asyncio's ``call_soon_threadsafe`` writes to a pair of sockets, which the loop reads twice. A
`LoopWaker` has an eventfd, which takes one system call on either side. A task that awaits a future
is resumed in the loop's next iteration, which asks the system for events before; a `DirectFuture`
resumes it at once.

A loop that nest_asyncio has patched may run once more within a task. A handle cannot be entered
again meanwhile, which the eventfd's would have to: such a loop is woken in asyncio's own way.
"""

import asyncio
import contextvars
import os
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_NESTED = "_nest_patched"
"""The attribute by which nest_asyncio, and what has copied it, knows a loop that it has patched."""


class LoopWaker:
    """Schedules callbacks in one event loop, from any thread, in their order.

    The loop refers to it as long as it is not closed, and it refers to the loop. So its eventfd is
    open while a thread may write to it, and while the loop waits for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop wait for a new eventfd; in the loop."""
        self._loop = loop
        self._callbacks: deque[Callable[[], object]] = deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        # Not in the context of the request that comes first, which it would keep.
        contextvars.Context().run(loop.add_reader, self._fd, self._call)

    def schedule(self, callback: Callable[[], object]) -> None:
        """Have the loop call ``callback``; raise ``RuntimeError`` if it is closed."""
        if self._loop.is_closed():
            raise RuntimeError("Event loop is closed")
        if hasattr(self._loop, _NESTED):  # patched since
            self._loop.call_soon_threadsafe(callback)
            return
        self._callbacks.append(callback)
        os.eventfd_write(self._fd, 1)

    def _call(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        try:
            for _ in range(len(self._callbacks)):
                if not self._callbacks:  # the loop was run within a callback, and has called them
                    return
                self._callbacks.popleft()()
        finally:
            if self._callbacks:
                os.eventfd_write(self._fd, 1)


# One for a loop, whoever uses it: it stays open as long as the loop.
_WAKERS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[LoopWaker]] = (
    weakref.WeakKeyDictionary()
)


def loop_waker(loop: asyncio.AbstractEventLoop) -> LoopWaker | None:
    """Return the running loop's waker; None for another loop than asyncio's own.

    uvloop wakes itself by an eventfd; other systems than Linux have none, and a sandbox may allow
    none.
    """
    if type(loop) is not asyncio.SelectorEventLoop or not hasattr(os, "eventfd"):
        return None
    if hasattr(loop, _NESTED):
        return None
    reference = _WAKERS.get(loop)
    waker = None if reference is None else reference()
    if waker is None:
        try:
            waker = LoopWaker(loop)
        except OSError:  # refused, or too many open files: asyncio's own way opens none
            return None
        _WAKERS[loop] = weakref.ref(waker)
    return waker


class DirectFuture(asyncio.Future[bool]):
    """A future whose result resumes the task that awaits it at once, before `resume` returns."""

    _wakeup: tuple[Callable[[Any], object], contextvars.Context | None] | None = None

    def resume(self, result: bool) -> None:  # noqa: FBT001  # the future's value
        """Set the result, unless it is done; in a callback of the loop, and not in a task."""
        if self.done():
            return
        self.set_result(result)
        if self._wakeup is not None:
            (wakeup, context), self._wakeup = self._wakeup, None
            if context is None:
                wakeup(self)
            else:
                context.run(wakeup, self)

    def add_done_callback(
        self, fn: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Keep the first callback, which is the task's."""
        if self._wakeup is None and not self.done():
            self._wakeup = fn, context
        else:
            super().add_done_callback(fn, context=context)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it; whoever does so may be in a task, so that the waiting one is resumed later."""
        is_cancelled = super().cancel(msg)
        if is_cancelled and self._wakeup is not None:
            (wakeup, context), self._wakeup = self._wakeup, None
            self.get_loop().call_soon(wakeup, self, context=context)
        return is_cancelled
