"""The queue of those who write to one SQLite file: a lock on a side file, ``<database>-turns``.

SQLite's own wait is unfair: of many writers any may be the next. The system's lock of a file is
given out in turn, so a writer takes a ticket, which is that lock, before it begins. The ticket says
who is next and nothing else: what keeps writers apart is SQLite's own lock. So whoever does not get
a ticket in time tries without one, and a queue that stands still costs patience, not writes.
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
    """The side file, opened; closed when it is not referred to any more.

    Whoever may open it may lock it, so that it is for those alone who may write to the database.
    """

    def __init__(self, database_path: str) -> None:
        """Open it, and make it where it is missing.

        Raises:
            OSError: it cannot be opened.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self.file: int = os.open(f"{database_path}-turns", flags, 0o600)
        weakref.finalize(self, os.close, self.file)
        with suppress(OSError):  # another user's, who has seen to it
            self._follow(Path(database_path).stat())

    def _follow(self, database: os.stat_result) -> None:
        """Have it belong to whom the database does, as SQLite has it with its ``-wal``."""
        mine = os.fstat(self.file)
        if (mine.st_uid, mine.st_gid) != (database.st_uid, database.st_gid):
            with suppress(PermissionError):
                os.fchown(self.file, database.st_uid, database.st_gid)
            mine = os.fstat(self.file)
        allowed = 0o600
        # Where the group could not be made the database's, it would be one that may not write.
        if database.st_mode & stat.S_IWGRP and mine.st_gid == database.st_gid:
            allowed |= 0o060
        if database.st_mode & stat.S_IWOTH:
            allowed |= 0o006
        if stat.S_IMODE(mine.st_mode) != allowed:
            os.fchmod(self.file, allowed)

    def lock(self) -> None:
        """Wait for the lock, for as long as it takes."""
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def is_locked_at_once(self) -> bool:
        """Tell whether the lock was free, and is ours now."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let the next one go on."""
        # Not by closing: a child that was forked meanwhile has the file open too.
        fcntl.flock(self.file, fcntl.LOCK_UN)


class LockWaiter:
    """Waits for the lock of a side file that another holds, for all threads of a process.

    The system's wait has no time-out, so a thread waits, one at a time. Whoever gives up leaves it
    where it is in the queue, for the next one who comes.
    """

    def __init__(self, lock_file: LockFile) -> None:
        self._lock_file = lock_file
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self.is_waiting = False

    def comes_within(self, seconds: float) -> bool:
        """Tell whether the lock was had in time; then ``release`` has to be called.

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
        """Let the next one go on, who may be of this process again, and then waits like all."""
        self._lock_file.unlock()
        with self._lock, suppress(RuntimeError):  # no thread: those who wait go on without
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
    """One store's way into the queue of a SQLite file, whose path is ``database_path``.

    ``patience`` is the seconds to wait for a ticket.
    """

    def __init__(self, database_path: str, patience: float) -> None:
        self._path = database_path
        self._patience = patience
        self._process = os.getpid()
        self._lock_file: LockFile | None = None
        self._waiter: LockWaiter | None = None
        self._stands_still = False

    def ticket(self) -> "WriteTicket":
        """Wait in line with the other processes that write to the file."""
        if fcntl is None:  # pragma: no cover  # Windows
            return WriteTicket()
        try:
            return self._ticket()
        except (OSError, RuntimeError):  # no side file, or no thread: SQLite's own lock is enough
            return WriteTicket()

    def pass_by(self) -> None:
        """Know that the queue stands still: who was late could begin at once all the same.

        Nobody waits for a ticket then, until the one comes that is still waited for.
        """
        self._stands_still = True

    def close(self) -> None:
        """Close the side file, once nobody holds its lock or waits for it."""
        self._lock_file = None
        if self._waiter is not None and not self._waiter.is_waiting:
            self._waiter = None

    def _ticket(self) -> "WriteTicket":
        if self._process != os.getpid():  # a forked child would share its parent's place
            self._process, self._lock_file, self._waiter = os.getpid(), None, None
        if self._lock_file is None:
            self._lock_file = LockFile(self._path)
        if self._lock_file.is_locked_at_once():
            return WriteTicket(self._lock_file.unlock)
        if self._waiter is None:
            # Opened anew, as a lock is had by all that use one opened file.
            self._waiter = LockWaiter(LockFile(self._path))
        self._stands_still = self._stands_still and self._waiter.is_waiting
        if self._stands_still:
            return WriteTicket()
        if self._waiter.comes_within(self._patience):
            return WriteTicket(self._waiter.release)
        return WriteTicket(late_in=self)


class WriteTicket:
    """One writer's place in line; without ``release`` there is no line, and SQLite's lock decides.

    ``late_in`` is the queue that it did not come in time from.
    """

    __slots__ = ("_late_in", "_release")

    def __init__(
        self, release: Callable[[], None] | None = None, *, late_in: WriteQueue | None = None
    ) -> None:
        self._release = release
        self._late_in = late_in

    def begin(self, database: Database, begin: str) -> None:
        """Begin a transaction, by the command ``begin``; who is late does not wait once more.

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
        self._late_in.pass_by()

    def end(self) -> None:
        """Let the next one go on."""
        release, self._release = self._release, None
        if release is not None:
            release()
