"""A SQLite file of a store: replaced connections, one creation, and a queue of its writers.

Four habits of SQLite are made good here. A connection goes on reading and writing a file that was
deleted, and loses what it acknowledges: connections are replaced once the path leads to another
file. Opening a missing file creates it: after it was there once, its absence is an error. A
connection that found its file read-only stays read-only: it is replaced. Of many writers that wait
for the lock, any may be next: they queue (`sqlite_write_queue`).
"""

import os
import time
import urllib.parse
from typing import Any

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine import ExceptionContext

from hermes_session_mw.database.connection import Database, Info, add_check, is_broken_by
from hermes_session_mw.database.sqlite_write_queue import WriteQueue, WriteTicket
from hermes_session_mw.exceptions import StoreUnavailable
from hermes_session_mw.logging import logger

_IDENTITY = "hermes_file_identity"
_FILE = "hermes_sqlite_file"

_STAT_INTERVAL = 0.01
"""Seconds between two looks, for readers, at whether the path still leads to the same file."""

_Identity = tuple[int, int] | None


class SQLiteFile:
    """The file of one store, for each engine that the store makes.

    ``path`` is the database's; ``timeout`` the seconds to wait in the write queue.
    """

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
        event.listen(engine, "engine_disposed", self._close)

    def ticket(self) -> WriteTicket:
        """Wait in the queue of all processes that write to the file."""
        return self._queue.ticket()

    def _close(self, _engine: Engine) -> None:
        self._queue.close()

    def _before_connect(
        self, _dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        found = os.path.exists(self.path)  # noqa: PTH110  # a plain str, as SQLite has it
        if found:
            self._existed = True
        elif self._existed:
            raise StoreUnavailable(
                "the database file is gone, and is not made anew: put it back, or restart to begin "
                "with an empty one"
            )
        if self._existed and not options.get("uri"):
            # It may also vanish between the check above and the opening.
            arguments[0] = f"file:{urllib.parse.quote(self.path)}?mode=rw"
            options["uri"] = True

    def _connected(self, _connection: object, record: Any) -> None:
        if not self._existed:
            self._existed = True
            logger.info("a new SQLite file was made for the sessions")
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


def _invalidate_broken(context: ExceptionContext) -> None:
    context.is_disconnect |= is_broken_by(context.original_exception)
