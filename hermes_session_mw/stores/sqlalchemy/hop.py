"""One run of work in a worker thread, which its caller may leave behind.

A thread cannot be cancelled. One that waits on a database which never answers waits for ever, and
with it go a connection and the process's exit. What can be done from outside is to shut its socket
down: the driver then finds the connection broken, and the thread returns.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any


class Hop:
    """What is known from outside about a thread that works for us."""

    def __init__(self, seconds: float, left: "set[Hop]") -> None:
        """Stand in ``left`` while it goes on and nobody waits for it, for ``seconds`` in all."""
        self._seconds = seconds
        self._left = left
        self._lock = threading.Lock()
        self._began: float | None = None
        self._connection: Any = None
        self._waited_for = True
        self._broken_off = False
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """In the thread: start the clock, unless it was left before it had begun."""
        with self._lock:
            if not self._waited_for:
                raise RuntimeError("nobody waits for this any more")
            self._began = time.monotonic()

    def use(self, driver_connection: Any) -> None:
        """In the thread: from here on it may wait on this connection."""
        with self._lock:
            self._connection = driver_connection
            if self._broken_off:  # too late, while it was being connected
                _shut_down(driver_connection)

    def end(self) -> None:
        """In the thread: it waits on nothing any more."""
        with self._lock:
            self._began = self._connection = None
            self._left.discard(self)
            if self._timer is not None:
                self._timer.cancel()

    def leave(self) -> None:
        """Wait for it no longer; where it goes on all the same, have it broken off in its time."""
        with self._lock:
            self._waited_for = False
            if self._began is None:
                return
            self._left.add(self)
            rest = self._seconds - (time.monotonic() - self._began)
            self._timer = threading.Timer(max(rest, 0), self.break_off)
            self._timer.daemon = True
            self._timer.start()

    def break_off(self) -> None:
        """Shut its connection down, so that it returns."""
        with self._lock:
            self._broken_off = True
            if self._connection is not None:
                _shut_down(self._connection)


def _shut_down(driver_connection: Any) -> None:
    """Shut the socket down, where the driver has one; SQLite has none, and its waits end."""
    # psycopg and mysqlclient tell it; PyMySQL keeps it to itself.
    owner = driver_connection if hasattr(driver_connection, "fileno") else None
    owner = owner or getattr(driver_connection, "_sock", None)
    if owner is None:
        return
    # Closed meanwhile, it says so in its driver's own way.
    with suppress(Exception), socket.socket(fileno=os.dup(owner.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
