"""A SQLite file of our own: found again after it has moved, never made twice, written to in turn.

What this mends of SQLite's ways: a connection goes on reading and writing a file that was deleted,
and what is acknowledged there is lost; opening a file makes it where it is missing; a connection
that found its file read-only stays so; and of many writers that wait, any may be the next.
"""

import os
import time
import urllib.parse
from typing import Any

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine import ExceptionContext

from hermes_session_mw.database.connection import Database, is_stale
from hermes_session_mw.database.pool_checks import Info, check_each
from hermes_session_mw.database.sqlite_write_queue import WriteQueue, WriteTicket
from hermes_session_mw.exceptions import StoreUnavailable
from hermes_session_mw.logging import logger

_IDENTITY = "hermes_file"
_QUEUE = "hermes_file_queue"


_LOOK_AGAIN = 0.01
"""Seconds after which a reader looks whether the file is still there."""

_Identity = tuple[int, int] | None


class SQLiteFile:
    """Watches over the file of one store, for each engine that the store makes.

    ``path`` is the database's; ``patience`` the seconds to wait for one's turn to write.
    """

    def __init__(self, path: str, patience: float) -> None:
        self.path = path
        self._queue = WriteQueue(path, patience)
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

    def ticket(self) -> WriteTicket:
        """Wait in line with the other processes that write to the file."""
        return self._queue.ticket()

    def _close(self, _engine: Engine) -> None:
        self._queue.close()

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
        record.info[_QUEUE] = self

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


def ticket_of(database: Database) -> WriteTicket | None:
    """Wait for the ticket to write with; None where the database's file has no queue."""
    if database.dialect != "sqlite":
        return None
    file: SQLiteFile | None = database.connection.info.get(_QUEUE)
    # An event loop must not wait here.
    return None if file is None or database.connection.dialect.is_async else file.ticket()


def _drop_stale(context: ExceptionContext) -> None:
    context.is_disconnect |= is_stale(context.original_exception)
