"""The queue of the writers of one SQLite file: a lock on a side file, ``<database>-turns``.

SQLite's own wait is unfair: of many writers any may be next. The system grants a file's lock in the
order of the requests, so a writer takes a ticket, which is that lock, before it begins. A ticket
only decides who is next; what keeps writers apart is SQLite's own lock. So a writer whose ticket
does not come in time tries without one, and a queue that is stuck costs waiting, not writes.
"""

import os
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import text

from hermes_session_mw.database.connection import Database

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: writers wait in SQLite's own, unfair way
    fcntl = None  # type: ignore[assignment]  # asked for before it is used

_BUSY_TIMEOUT = text("PRAGMA busy_timeout")


class LockFile:
    """The opened side file; closed when nothing refers to it any more.

    Whoever may open it may lock it, so only those may who may write to the database.
    """

    def __init__(self, database_path: str) -> None:
        """Open the file, or create it.

        Raises:
            OSError: it cannot be opened.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self.fd: int = os.open(f"{database_path}-turns", flags, 0o600)
        weakref.finalize(self, os.close, self.fd)
        with suppress(OSError):  # another user's, who has set it up
            self._set_permissions(Path(database_path).stat())

    def _set_permissions(self, database: os.stat_result) -> None:
        """Give it the owner and the permissions of the database, as SQLite does for ``-wal``."""
        mine = os.fstat(self.fd)
        if (mine.st_uid, mine.st_gid) != (database.st_uid, database.st_gid):
            with suppress(PermissionError):
                os.fchown(self.fd, database.st_uid, database.st_gid)
            mine = os.fstat(self.fd)
        allowed = 0o600
        # Unless the group could not be changed: that one may not write to the database.
        if database.st_mode & stat.S_IWGRP and mine.st_gid == database.st_gid:
            allowed |= 0o060
        if database.st_mode & stat.S_IWOTH:
            allowed |= 0o006
        if stat.S_IMODE(mine.st_mode) != allowed:
            os.fchmod(self.fd, allowed)

    def lock(self) -> None:
        """Wait for the lock, for as long as it takes."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def try_lock(self) -> bool:
        """Take the lock if it is free; tell whether it was."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Release the lock."""
        # Not by closing: a child that was forked meanwhile has the file open too.
        fcntl.flock(self.fd, fcntl.LOCK_UN)


class LockWaiter:
    """Waits for a side file's lock that another process holds, for all threads of this one.

    The system's wait has no timeout, so one thread of its own waits. A writer that gives up leaves
    it there, and with it the place in the queue, for the next writer.
    """

    def __init__(self, lock_file: LockFile) -> None:
        self._lock_file = lock_file
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self.is_waiting = False

    def wait(self, seconds: float) -> bool:
        """Tell whether the lock came in time; then ``release`` has to be called.

        Raises:
            RuntimeError: the system has no thread to give.
        """
        mine = threading.Event()
        with self._lock:
            self._start()
            self._waiting.append(mine)
        if mine.wait(seconds):
            return True
        with self._lock:
            if mine.is_set():
                return True
            self._waiting.remove(mine)
            return False

    def release(self) -> None:
        """Release the lock; other writers of this process queue for it again."""
        self._lock_file.unlock()
        with self._lock, suppress(RuntimeError):  # no thread to give: they go on without a ticket
            if self._waiting:
                self._start()

    def _start(self) -> None:
        if not self.is_waiting:
            threading.Thread(target=self._wait, name="hermes-session-queue", daemon=True).start()
            self.is_waiting = True

    def _wait(self) -> None:
        with suppress(OSError):  # it cannot be locked any more: SQLite's own lock is enough
            self._lock_file.lock()
        with self._lock:
            self.is_waiting = False
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._lock_file.unlock()


class WriteQueue:
    """One store's access to the queue of the SQLite file ``database_path``.

    ``timeout`` is the seconds to wait for a ticket.
    """

    def __init__(self, database_path: str, timeout: float) -> None:
        self._path = database_path
        self._timeout = timeout
        self._process = os.getpid()
        self._lock_file: LockFile | None = None
        self._waiter: LockWaiter | None = None
        self._is_stuck = False

    def ticket(self) -> "WriteTicket":
        """Wait in the queue of all processes that write to the file."""
        if fcntl is None:  # pragma: no cover  # Windows
            return WriteTicket()
        try:
            return self._ticket()
        except (OSError, RuntimeError):  # no side file, or no thread: SQLite's own lock is enough
            return WriteTicket()

    def bypass(self) -> None:
        """Note that the queue is stuck: a writer without its ticket could begin at once.

        Nobody waits for a ticket then until the one comes that the process still waits for.
        """
        self._is_stuck = True

    def close(self) -> None:
        """Close the side file as soon as nobody holds its lock or waits for it."""
        self._lock_file = None
        if self._waiter is not None and not self._waiter.is_waiting:
            self._waiter = None

    def _ticket(self) -> "WriteTicket":
        if self._process != os.getpid():  # a forked child would share its parent's lock
            self._process, self._lock_file, self._waiter = os.getpid(), None, None
        if self._lock_file is None:
            self._lock_file = LockFile(self._path)
        if self._lock_file.try_lock():
            return WriteTicket(self._lock_file.unlock)
        if self._waiter is None:
            # Opened anew: a lock belongs to all that use the same opened file.
            self._waiter = LockWaiter(LockFile(self._path))
        self._is_stuck = self._is_stuck and self._waiter.is_waiting
        if self._is_stuck:
            return WriteTicket()
        if self._waiter.wait(self._timeout):
            return WriteTicket(self._waiter.release)
        return WriteTicket(late_in=self)


class WriteTicket:
    """One writer's place in the queue; without ``release`` SQLite's own lock decides who is next.

    ``late_in`` is the queue whose ticket did not come in time.
    """

    __slots__ = ("_late_in", "_release")

    def __init__(
        self, release: Callable[[], None] | None = None, *, late_in: WriteQueue | None = None
    ) -> None:
        self._release = release
        self._late_in = late_in

    def begin(self, database: Database, begin: str) -> None:
        """Begin a transaction by the command ``begin``; a late writer does not wait once more.

        Raises:
            SQLAlchemyError: it did not begin.
        """
        if self._late_in is None:
            database.command(begin)
            return
        ((before,),) = database.rows(_BUSY_TIMEOUT, {})
        database.command("PRAGMA busy_timeout = 0")
        try:
            database.command(begin)
        finally:
            if not database.connection.invalidated:
                database.command(f"PRAGMA busy_timeout = {before:d}")
        self._late_in.bypass()

    def end(self) -> None:
        """Let the next writer begin."""
        release, self._release = self._release, None
        if release is not None:
            release()
