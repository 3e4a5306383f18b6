"""Transactions, begun and ended in so many words: connections come in AUTOCOMMIT."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from .database import Database
from .schema import MYSQL
from .sqlite_file import ticket_of
from .sqlite_write_queue import WriteTicket  # noqa: TC001  # one import fewer to wonder about

# The row's lock is all the isolation that is needed; a stricter level, as a server may have for its
# default, would only add failures to serialize. SQLite's own BEGIN is deferred: it takes the write
# lock late, and what it has read by then may be stale, which no patience mends.
_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    **dict.fromkeys(MYSQL, "START TRANSACTION"),
}


class CommitFailed(Exception):
    """A failure during COMMIT: if the connection went with it, nobody knows how it ended."""

    def __init__(self, cause: SQLAlchemyError) -> None:
        self.cause = cause


class transaction:  # noqa: N801  # used like a function; made by contextlib it costs twice as much
    """Commit what is done inside, or roll it back where it raises; begun ready to write.

    Raises:
        CommitFailed: the COMMIT did.
    """

    __slots__ = ("_database", "_ticket")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ticket: WriteTicket | None = None

    def __enter__(self) -> None:
        """Wait for the ticket to write with, where there is a queue, and begin."""
        self._ticket = ticket_of(self._database)
        try:
            _end_begun(self._database)
            begin = _BEGIN[self._database.dialect]
            if self._ticket is None:
                self._database.command(begin)
            else:
                self._ticket.begin(self._database, begin)
        except BaseException:
            self._end_ticket()
            raise

    def __exit__(self, _kind: object, exc: BaseException | None, _traceback: object) -> None:
        """Commit or roll back."""
        try:
            if exc is not None:
                _undo(self._database)
                return
            try:
                self._database.command("COMMIT")
            except BaseException as failure:
                _undo(self._database)
                if isinstance(failure, SQLAlchemyError):
                    raise CommitFailed(failure) from failure
                raise
        finally:
            self._end_ticket()

    def _end_ticket(self) -> None:
        if self._ticket is not None:
            self._ticket.end()


@contextmanager
def committing() -> Iterator[None]:
    """Tell that what fails inside may have been done all the same.

    Raises:
        CommitFailed: it failed.
    """
    try:
        yield
    except SQLAlchemyError as exc:
        raise CommitFailed(exc) from exc


def _end_begun(database: Database) -> None:
    # A borrowed engine may begin by itself, as SQLAlchemy's recipe for SQLite has it do; begun like
    # that, a transaction cannot wait for the lock.
    if database.dialect == "sqlite" and not database.is_direct:
        connection = database.connection
        if not connection.in_transaction():
            connection.begin()
        if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # sqlite3's
            database.command("ROLLBACK")


def _undo(database: Database) -> None:
    connection = database.connection
    if connection.invalidated:
        return
    try:
        database.command("ROLLBACK")
    except SQLAlchemyError:
        connection.invalidate()  # broken, or not in a transaction any more: never lent again
