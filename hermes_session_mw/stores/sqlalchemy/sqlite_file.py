"""A SQLite file of our own: found again after it has moved, never made twice, written to in turns.

What this mends of SQLite's ways: a connection goes on reading and writing a file that was deleted,
and what is acknowledged there is lost; opening a file makes it where it is missing; a connection
that found its file read-only stays so; and of many writers that wait, any may be the next.
"""

import os
import threading
import time
import urllib.parse
import weakref
from typing import Any

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine import ExceptionContext

from ...exceptions import StoreUnavailable
from ...logging import logger
from .database import Database, is_stale
from .lending import Info, check_each

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: writers wait in SQLite's own, unfair way
    fcntl = None  # type: ignore[assignment]  # asked for before it is used

_IDENTITY = "hermes_file"
_TURNS = "hermes_turns"


_LOOK_AGAIN = 0.01
"""Seconds after which a reader looks whether the file is still there."""

_Identity = tuple[int, int] | None


class SQLiteFile:
    """Watches over the file of one store, for each engine that the store makes.

    ``path`` is the database's; ``patience`` the seconds to wait for one's turn to write.
    """

    def __init__(self, path: str, patience: float) -> None:
        self.path = path
        self._turns = f"{path}-turns"
        self._line: Line | None = None
        self._patience = patience
        self._was_there = False
        self._seen: _Identity = None
        self._looked_at = float("-inf")

    def watch(self, engine: Engine) -> None:
        """Have each of the engine's connections checked when it is made and when it is lent."""
        event.listen(engine, "do_connect", self._before_connect)
        event.listen(engine, "connect", self._connected)
        check_each(engine, self._is_same)
        event.listen(engine, "handle_error", _drop_stale)
        event.listen(engine, "engine_disposed", self._close)

    def turn(self) -> "Turn":
        """Wait in line with the other processes that write to the file.

        Raises:
            StoreUnavailable: it took too long.
        """
        turn = Turn()
        if fcntl is None:  # pragma: no cover  # Windows
            return turn
        try:
            if self._line is None or not self._line.is_own:
                self._line = Line(self._turns)
            came = turn.wait(self._line, self._turns, self._patience)
        except OSError:
            return turn  # without a side file it is always ours
        if not came:
            raise StoreUnavailable(
                f"other processes have been writing to the database for {self._patience:g} s: "
                "another writer holds the lock; try again"
            )
        return turn

    def _close(self, _engine: Engine) -> None:
        self._line = None

    def _before_connect(
        self, _dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        found = os.path.exists(self.path)  # noqa: PTH110  # a plain str, as SQLite has it
        if found:
            self._was_there = True
        elif self._was_there:
            raise StoreUnavailable(
                "the database file is gone, and is not made anew: put it back, or restart to begin "
                "with an empty one"
            )
        if self._was_there and not options.get("uri"):
            # Between the look above and the opening it may vanish too.
            arguments[0] = f"file:{urllib.parse.quote(self.path)}?mode=rw"
            options["uri"] = True

    def _connected(self, _connection: object, record: Any) -> None:
        if not self._was_there:
            self._was_there = True
            logger.info("a new SQLite file was made for the sessions")
        self._seen = record.info[_IDENTITY] = self._identity()
        record.info[_TURNS] = self

    def _is_same(self, info: Info, *, writes: bool) -> bool:
        # Nothing is written without a look. What reads looks as often as others would notice; but
        # a process sees no file again once it has seen that there is another.
        now = time.monotonic()
        if writes or now - self._looked_at > _LOOK_AGAIN:
            self._seen, self._looked_at = self._identity(), now
        return bool(info[_IDENTITY] == self._seen)

    def _identity(self) -> _Identity:
        try:
            status = os.stat(self.path)  # noqa: PTH116  # once for each operation
        except OSError:
            return None
        return status.st_dev, status.st_ino


def turn_of(database: Database) -> "Turn | None":
    """Return the turn to write, once it has come; None where the database's file has no turns."""
    if database.dialect != "sqlite":
        return None
    file: SQLiteFile | None = database.connection.info.get(_TURNS)
    # An event loop must not wait here.
    return None if file is None or database.connection.dialect.is_async else file.turn()


def _drop_stale(context: ExceptionContext) -> None:
    context.is_disconnect |= is_stale(context.original_exception)


class Line:
    """The side file that writers queue at; opened once for many turns, closed after the last."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: it cannot be opened.
        """
        self._process = os.getpid()
        self.file: int = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self.file)

    @property
    def is_own(self) -> bool:
        """Whether this process opened it: a forked child would share its parent's place."""
        return self._process == os.getpid()

    def unlock(self) -> None:
        """Let the next one go on."""
        # Not by closing: a child that was forked meanwhile has the file open too.
        fcntl.flock(self.file, fcntl.LOCK_UN)


class Turn:
    """One writer's place in line: a lock on a side file, which ends with the process at the latest.

    It decides who is next and nothing else: SQLite's own lock is what keeps writers apart.
    """

    __slots__ = ("_locked",)

    def __init__(self) -> None:
        self._locked: Line | None = None

    def wait(self, line: Line, path: str, seconds: float) -> bool:
        """Tell whether the turn came in time, at ``line``, which is the open file of ``path``."""
        try:
            fcntl.flock(line.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A file of its own: where this gives up, the wait may still come to its end.
            line = Line(path)
            if not Wait(line).ends_within(seconds):
                return False
        self._locked = line
        return True

    def end(self) -> None:
        """Let the next one go on."""
        if self._locked is not None:
            self._locked.unlock()
            self._locked = None


class Wait:
    """The wait for a lock that another holds; the system's has no time-out, so a thread waits."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._given_up = False
        self._lock = threading.Lock()
        self._had = threading.Event()

    def ends_within(self, seconds: float) -> bool:
        """Tell whether the lock was had in time; else it is let go once it comes."""
        threading.Thread(target=self._wait, daemon=True).start()
        return self._had.wait(seconds) or not self.give_up()

    def give_up(self) -> bool:
        """Tell whether the lock was not had until now; then it is let go once it comes."""
        with self._lock:
            self._given_up = not self._had.is_set()
            return self._given_up

    def _wait(self) -> None:
        fcntl.flock(self._line.file, fcntl.LOCK_EX)
        with self._lock:
            self._had.set()
            if self._given_up:
                self._line.unlock()
