"""Transactions, begun and ended in so many words: connections come in AUTOCOMMIT.

One rule, on every driver and for engines of the caller's too: nothing counts as stored without the
server's own word. A transaction is open after its BEGIN and until its COMMIT, the COMMIT is
answered as one, and none is open after it, nor around a statement that commits itself. Where the
server's answers say otherwise, as behind a pooler that gave the statements to different server
connections, the connection is given up, and what was done on it is in doubt (`CommitFailed`): it is
looked for, and repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.sqlite_file import ticket_of
from hermes_session_mw.database.sqlite_write_queue import WriteTicket

# The row's lock is all the isolation that is needed; a stricter level, as a server may have for its
# default, would only add failures to serialize. SQLite's own BEGIN is deferred: it takes the write
# lock late, and what it has read by then may be stale, which no patience mends.
_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    **dict.fromkeys(MYSQL, "START TRANSACTION"),
}


# Where a driver does not tell, the server is asked: it has the savepoint in its transaction alone.
_SAVEPOINT = "SAVEPOINT hermes_session_mw"
_RELEASE = "RELEASE SAVEPOINT hermes_session_mw"


class OutOfTransaction(SQLAlchemyError):
    """What was to be a transaction was none, by the server's answers; the connection is gone."""

    connection_invalidated = True


class CommitFailed(Exception):
    """A failure during COMMIT: if the connection went with it, nobody knows how it ended."""

    def __init__(self, cause: SQLAlchemyError) -> None:
        self.cause = cause


class transaction:  # noqa: N801  # used like a function; made by contextlib it costs twice as much
    """Commit what is done inside, or roll it back where it raises; begun ready to write.

    ``may_end``: what is done inside may commit by itself, as MySQL does at each change of a table.

    Raises:
        CommitFailed: the COMMIT did, or was none.
    """

    __slots__ = ("_database", "_may_end", "_ticket")

    def __init__(self, database: Database, *, may_end: bool = False) -> None:
        self._database = database
        self._may_end = may_end and database.dialect in MYSQL
        self._ticket: WriteTicket | None = None

    def __enter__(self) -> None:
        """Wait for the ticket to write with, where there is a queue, and begin."""
        self._ticket = ticket_of(self._database)
        try:
            self._begin()
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
                self._commit()
            except BaseException as failure:
                _undo(self._database)
                if isinstance(failure, SQLAlchemyError):
                    raise CommitFailed(failure) from failure
                raise
        finally:
            self._end_ticket()

    def _begin(self) -> None:
        database = self._database
        _end_begun(database)
        check_none_open(database, "before BEGIN")
        begin = _BEGIN[database.dialect]
        if self._ticket is None:
            database.command(begin)
        else:
            self._ticket.begin(database, begin)
        is_open = database.in_transaction()
        if is_open is None:
            database.command(_SAVEPOINT)
        elif not is_open:
            raise _given_up(database, "no transaction is open after BEGIN")

    def _commit(self) -> None:
        database = self._database
        if not self._may_end:
            is_open = database.in_transaction()
            if is_open is None:
                _release(database)
            elif not is_open:
                raise _given_up(database, "no transaction is open before COMMIT")
        tag = database.commit()
        if tag not in (None, "COMMIT"):
            raise _given_up(database, f"COMMIT was answered by {tag}")
        check_none_open(database, "after COMMIT")

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


def check_none_open(database: Database, when: str) -> None:
    """Give the connection up where a transaction is open, whosever it may be.

    Raises:
        OutOfTransaction: one is.
    """
    if database.in_transaction():
        raise _given_up(database, f"a transaction is open {when}")


def _release(database: Database) -> None:
    try:
        database.command(_RELEASE)
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        raise _given_up(database, "no transaction is open before COMMIT") from exc


def _given_up(database: Database, why: str) -> OutOfTransaction:
    database.connection.invalidate()
    return OutOfTransaction(why)


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
        database.rollback()
    except SQLAlchemyError:
        connection.invalidate()  # broken, or not in a transaction any more: never lent again
