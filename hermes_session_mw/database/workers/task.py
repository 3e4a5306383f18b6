"""One run of work in a worker thread, which its caller may leave behind.

A thread cannot be cancelled. One that waits on a database which never answers waits for ever, and
with it go a connection and the process's exit. What can be done from outside is to shut its socket
down: the driver then finds the connection broken, and the thread returns.
"""

import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from hermes_session_mw.database.pool_checks import shut_down
from hermes_session_mw.database.workers.completion_queue import CompletionQueue
from hermes_session_mw.database.workers.executor import TimeIsUp

T = TypeVar("T")


class Task(Generic[T]):
    """What is known from outside about a thread that works for us.

    ``work`` is called with the job itself, to tell it what it waits on. After ``seconds`` nobody
    waits any more; while it goes on all the same it stands in ``left``.
    """

    __slots__ = (
        "_began",
        "_broken_off",
        "_connection",
        "_context",
        "_error",
        "_left",
        "_lock",
        "_mailbox",
        "_seconds",
        "_timer",
        "_value",
        "_waited_for",
        "_waiting",
        "_work",
    )

    def __init__(
        self,
        work: "Callable[[Task[T]], T]",
        mailbox: CompletionQueue,
        seconds: float,
        left: "set[Task[Any]]",
    ) -> None:
        self._work = work
        self._mailbox = mailbox
        self._seconds = seconds
        self._left = left
        # What the caller's tracing has noted comes along, as with any other way to a thread.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._waiting = mailbox.wait()
        self._value: T
        self._error: BaseException | None = None
        self._began: float | None = None
        self._connection: Any = None
        self._waited_for = True
        self._broken_off = False
        self._timer: threading.Timer | None = None

    async def result(self) -> T:
        """Wait for what ``work`` returns or raises.

        Where the time is up the thread goes on alone; what it is at is finished or rolled back as a
        whole.

        Raises:
            TimeIsUp: it is.
        """
        came = False
        try:
            came = await self._waiting.word(self._seconds)
        finally:
            if not came:
                self._leave()
        if not came:
            raise TimeIsUp
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error, self  # or they would keep each other, through the traceback

    def do(self) -> None:
        """In the thread: do it, unless nobody waits for it any more."""
        with self._lock:
            if not self._waited_for:
                return
            self._began = time.monotonic()
        try:
            self._value = self._context.run(self._work, self)
        except BaseException as exc:  # noqa: BLE001  # raised where it is waited for
            self._error = exc
        with self._lock:
            self._began = self._connection = None
            self._left.discard(self)
            if self._timer is not None:
                self._timer.cancel()

    def report(self, *, more: bool) -> None:
        """In the thread, at last: let the caller go on; ``more`` as for `CompletionQueue.put`."""
        self._mailbox.put(self._waiting, more=more)

    def use(self, driver_connection: Any) -> None:
        """In the thread: from here on it may wait on this connection."""
        with self._lock:
            self._connection = driver_connection
            if self._broken_off:  # too late, while it was being connected
                shut_down(driver_connection)

    def hangs(self, since: float) -> bool:
        """Tell whether it has been at work for ``since`` seconds."""
        began = self._began
        return began is not None and time.monotonic() - began >= since

    def break_off(self) -> None:
        """Shut its connection down, so that it returns."""
        with self._lock:
            self._broken_off = True
            if self._connection is not None:
                shut_down(self._connection)

    def _leave(self) -> None:
        """Wait for it no longer; where it goes on all the same, have it broken off in its time."""
        with self._lock:
            self._waited_for = False
            if self._began is None:
                return
            self._left.add(self)
            rest = self._seconds - (time.monotonic() - self._began)
            self._timer = threading.Timer(max(rest, 0), self.break_off)
            self._timer.daemon = True
            with suppress(RuntimeError):  # no thread can be had: it is broken off by closing alone
                self._timer.start()
