"""A SQLite file of a store: when its connections are replaced, and the queue of its writers.

Works around four behaviours of SQLite. A connection continues to read and write a file that was
deleted, and loses what it acknowledges: connections are replaced once the path leads to another
file. Opening a missing file creates it: once the file existed, its absence is an error. A
connection that found its file read-only stays read-only: it is replaced. SQLite grants its lock to
waiting writers in no order: they queue.

The queue is a lock on a side file, ``<database>-turns``. The system grants a file's lock in the
order of the requests, so a writer takes a *ticket*, which is that lock, before it begins. A ticket
only decides the order; SQLite's own lock excludes other writers. So a writer that does not get its
ticket in time tries without one, and a stuck queue delays writers but loses no write.
"""

import os
import stat
import threading
import time
import urllib.parse
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, event, text
from sqlalchemy.engine import ExceptionContext

from hermes_session_mw.database.connection import Database, Info, add_check, is_broken_by
from hermes_session_mw.exceptions import StoreUnavailable
from hermes_session_mw.logging import logger

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: writers wait in SQLite's own, unfair way
    fcntl = None  # type: ignore[assignment]  # asked for before it is used

_IDENTITY = "hermes_file_identity"
_FILE = "hermes_sqlite_file"

_STAT_INTERVAL = 0.01
"""Seconds between two checks, for reads, that the path still leads to the same file."""

_BUSY_TIMEOUT = text("PRAGMA busy_timeout")

_Identity = tuple[int, int] | None


class LockFile:
    """The opened side file; closed when nothing refers to it any more.

    A user who can open it can lock it, so its permissions are those of the database.
    """

    def __init__(self, database_path: str) -> None:
        """Open the file, or create it, or raise ``OSError``."""
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
        # Unless the group could not be changed, which then may not write to the database.
        if database.st_mode & stat.S_IWGRP and mine.st_gid == database.st_gid:
            allowed |= 0o060
        if database.st_mode & stat.S_IWOTH:
            allowed |= 0o006
        if stat.S_IMODE(mine.st_mode) != allowed:
            os.fchmod(self.fd, allowed)

    def lock(self) -> None:
        """Wait for the lock without a timeout."""
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

    The system's wait has no timeout, so a separate thread waits. When a writer times out the thread
    keeps waiting, and keeps its place in the queue for the next writer.
    """

    def __init__(self, lock_file: LockFile) -> None:
        self._lock_file = lock_file
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self.is_waiting: bool = False

    def wait(self, seconds: float) -> bool:
        """Tell whether the lock was acquired in time, to be released; it may take a new thread."""
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
        with self._lock, suppress(RuntimeError):  # no thread: they go on without a ticket
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

        No writer waits for a ticket until the process gets the one that it still waits for.
        """
        self._is_stuck = True

    def close(self) -> None:
        """Close the side file as soon as its lock is free and no thread waits for it."""
        self._lock_file = None
        waiter = self._waiter
        if waiter is not None and not waiter.is_waiting:
            self._waiter = None

    def _ticket(self) -> "WriteTicket":
        if self._process != os.getpid():  # a forked child would share its parent's lock
            self._process, self._lock_file, self._waiter = os.getpid(), None, None
        # Named here, for `close` may come in between: who got a lock gives that one back.
        lock_file, waiter = self._lock_file, self._waiter
        if lock_file is None:
            self._lock_file = lock_file = LockFile(self._path)
        if lock_file.try_lock():
            return WriteTicket(lock_file.unlock)
        if waiter is None:
            # Opened anew: a lock belongs to all that use the same opened file.
            self._waiter = waiter = LockWaiter(LockFile(self._path))
        self._is_stuck = self._is_stuck and waiter.is_waiting
        if self._is_stuck:
            return WriteTicket()
        if waiter.wait(self._timeout):
            return WriteTicket(waiter.release)
        return WriteTicket(late_in=self)


class WriteTicket:
    """One writer's place in the queue; without ``release`` SQLite's own lock decides the order.

    ``late_in`` is the queue that did not give the ticket in time.

    Attributes:
        is_late: whether the writer did not get the ticket in time.
    """

    __slots__ = ("_late_in", "_release", "is_late")

    def __init__(
        self, release: Callable[[], None] | None = None, *, late_in: WriteQueue | None = None
    ) -> None:
        self._release = release
        self._late_in = late_in
        self.is_late: bool = late_in is not None

    def begin_at_once(self, database: Database, begin: str) -> None:
        """Begin a transaction by the command ``begin``, without waiting once more, or raise."""
        ((before,),) = database.rows(_BUSY_TIMEOUT, {})
        database.command("PRAGMA busy_timeout = 0")
        try:
            database.command(begin)
        finally:
            if not database.connection.invalidated:
                database.command(f"PRAGMA busy_timeout = {before:d}")
        if self._late_in is not None:
            self._late_in.bypass()

    def end(self) -> None:
        """Let the next writer begin."""
        release, self._release = self._release, None
        if release is not None:
            release()


class SQLiteFile:
    """The file of one store, for each engine that the store makes.

    ``path`` is the database's; ``timeout`` the seconds to wait in the write queue.

    Attributes:
        pragmas: the settings of each connection.
    """

    pragmas: tuple[str, ...] = (
        "journal_mode = WAL",  # readers then never wait for a writer; it stays with the file
        "synchronous = FULL",  # a commit survives a power cut; with NORMAL only a process's crash
        "foreign_keys = ON",
    )

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self._queue = WriteQueue(path, timeout)
        self._existed = False
        self._identity: _Identity = None
        self._checked_at = float("-inf")

    def watch(self, engine: Engine) -> None:
        """Check each of the engine's connections when it is made, and before each use."""
        event.listen(engine, "do_connect", self._before_connect)
        event.listen(engine, "connect", self._connected)
        add_check(engine, self._is_same)
        event.listen(engine, "handle_error", _invalidate_broken)
        event.listen(engine, "engine_disposed", lambda _engine: self._queue.close())

    def ticket(self) -> WriteTicket:
        """Wait in the queue of all processes that write to the file."""
        return self._queue.ticket()

    def _before_connect(
        self, _dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        found = os.path.exists(self.path)  # noqa: PTH110  # a plain str, as SQLite has it
        if found:
            self._existed = True
        elif self._existed:
            self._identity = None  # which a reader that keeps its connection would not look for
            raise StoreUnavailable(
                "the database file is gone, and is not created again: put it back, or restart to "
                "begin with an empty one"
            )
        if self._existed and not options.get("uri"):
            # It may also vanish between the check above and the opening.
            arguments[0] = f"file:{urllib.parse.quote(self.path)}?mode=rw"
            options["uri"] = True

    def _connected(self, _connection: object, record: Any) -> None:
        if not self._existed:
            self._existed = True
            logger.info("a new SQLite file was created for the sessions")
        self._identity = record.info[_IDENTITY] = self._stat()
        record.info[_FILE] = self

    def _is_same(self, info: Info, *, writes: bool) -> bool:
        # Before each write; before reads once in a while. Once a process has seen another file, it
        # never again reads the one before.
        now = time.monotonic()
        if writes or now - self._checked_at > _STAT_INTERVAL:
            self._identity, self._checked_at = self._stat(), now
        return bool(info[_IDENTITY] == self._identity)

    def _stat(self) -> _Identity:
        try:
            status = os.stat(self.path)  # noqa: PTH116  # once for each operation
        except OSError:
            return None
        return status.st_dev, status.st_ino


def ticket_of(database: Database) -> WriteTicket | None:
    """Wait for a ticket of the write queue; None if the database has no such queue."""
    if database.dialect != "sqlite":
        return None
    file: SQLiteFile | None = database.connection.info.get(_FILE)
    # This wait would block an event loop.
    return None if file is None or database.connection.dialect.is_async else file.ticket()


def set_pragmas(engine: Engine, pragmas: tuple[str, ...]) -> None:
    """Set each new connection of an engine of our own."""

    def connected(driver_connection: Any, _record: object) -> None:
        cursor = driver_connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", connected)


def _invalidate_broken(context: ExceptionContext) -> None:
    context.is_disconnect |= is_broken_by(context.original_exception)
