"""Transactions, begun and ended explicitly: connections are in AUTOCOMMIT.

One rule holds on every driver, and on engines of the caller's too: nothing counts as stored unless
the server confirms it. A transaction is open after its BEGIN and until its COMMIT, the server
answers the COMMIT with that tag, and no transaction is open after it, nor around a statement that
commits itself. If the server's answers differ, as behind a pooler that sent the statements to
different server connections, the connection is invalidated, and the outcome is unknown
(`CommitFailed`): the store then checks whether the turn is stored, and retries.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.sqlite_file import WriteTicket, ticket_of

# The row's lock is all the isolation that is needed; a stricter level, which a server may have as
# its default, would only add serialization failures. SQLite's plain BEGIN takes the write lock
# late, and fails at once if another has written since it read.
_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    **dict.fromkeys(MYSQL, "START TRANSACTION"),
}

_SNAPSHOT = {
    "sqlite": ("BEGIN",),
    "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",),
    # Not every server has the level that makes it consistent as its default.
    **dict.fromkeys(
        MYSQL,
        (
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ),
    ),
}

# For drivers that do not report whether a transaction is open: without one, the server refuses to
# release a savepoint.
_SAVEPOINT = "SAVEPOINT hermes_session_mw"
_RELEASE = "RELEASE SAVEPOINT hermes_session_mw"


class CommitFailed(Exception):
    """A failure during COMMIT: if the connection was lost, the outcome is unknown."""

    def __init__(self, cause: SQLAlchemyError) -> None:
        self.cause = cause


class transaction:  # noqa: N801  # used like a function; made by contextlib it costs twice as much
    """A context manager that begins a write transaction, and commits it or rolls it back.

    ``may_end`` says that a statement inside may commit by itself, as MySQL's DDL does.

    Raises:
        CommitFailed: the COMMIT failed, or had no transaction.
    """

    __slots__ = ("_database", "_may_end", "_ticket")

    def __init__(self, database: Database, *, may_end: bool = False) -> None:
        self._database = database
        self._may_end = may_end and database.dialect in MYSQL
        self._ticket: WriteTicket | None = None

    def __enter__(self) -> None:
        """Wait in SQLite's write queue, if there is one, and begin."""
        if self._database.is_shared:
            begin_again(self._database)
            return
        self._ticket = ticket_of(self._database)
        try:
            self._begin()
        except BaseException:
            self._end_ticket()
            raise

    def __exit__(self, _kind: object, exc: BaseException | None, _traceback: object) -> None:
        """Commit or roll back; in a shared transaction whoever has begun it does."""
        if self._database.is_shared:
            if exc is not None:
                undo_shared(self._database)
            return
        try:
            if exc is not None:
                _roll_back(self._database)
                return
            try:
                self._commit()
            except BaseException as failure:
                _roll_back(self._database)
                if isinstance(failure, SQLAlchemyError):
                    raise CommitFailed(failure) from failure
                raise
        finally:
            self._end_ticket()

    def _begin(self) -> None:
        database = self._database
        _end_implicit(database)
        database.check_no_transaction("before BEGIN")
        begin = _BEGIN[database.dialect]
        if self._ticket is None or not self._ticket.is_late:
            database.command(begin)
        else:
            self._ticket.begin_at_once(database, begin)
        is_open = database.in_transaction()
        if is_open is None:
            database.command(_SAVEPOINT)
        elif not is_open:
            raise database.out_of_transaction("no transaction is open after BEGIN")

    def _commit(self) -> None:
        database = self._database
        if not self._may_end:
            is_open = database.in_transaction()
            if is_open is None:
                _release(database)
            elif not is_open:
                raise database.out_of_transaction("no transaction is open before COMMIT")
        tag = database.commit()
        if tag not in (None, "COMMIT"):
            raise database.out_of_transaction(f"COMMIT was answered by {tag}")
        database.check_no_transaction("after COMMIT")

    def _end_ticket(self) -> None:
        if self._ticket is not None:
            self._ticket.end()


@contextmanager
def outside_transaction(database: Database) -> Iterator[None]:
    """Wait in SQLite's write queue, for a command that is no part of a transaction."""
    ticket = ticket_of(database)
    try:
        _end_implicit(database)
        yield
    finally:
        if ticket is not None:
            ticket.end()


def begin_again(database: Database) -> None:
    """Begin the shared transaction again, if what is in it was undone as a whole."""
    if not database.connection.invalidated and not database.in_transaction():
        database.command(_BEGIN[database.dialect])


def undo_shared(database: Database) -> bool:
    """Undo what a work has done in a shared transaction; return False if that has ended itself."""
    if database.connection.invalidated or not database.in_transaction():
        return False  # as SQLite does after some errors, such as a full disk
    if database.savepoint is None:
        database.rollback()
    else:
        database.command(f"ROLLBACK TO SAVEPOINT {database.savepoint}")
    return True


@contextmanager
def snapshot(database: Database) -> Iterator[None]:
    """Read everything inside from one snapshot, without row locks."""
    for command in _SNAPSHOT[database.dialect]:
        database.command(command)
    try:
        yield
    finally:
        # Where the connection was lost, so was the transaction.
        if not database.connection.invalidated:
            database.rollback()


@contextmanager
def committing() -> Iterator[None]:
    """Raise an error inside as a `CommitFailed`: for a statement that commits itself."""
    try:
        yield
    except SQLAlchemyError as exc:
        raise CommitFailed(exc) from exc


def _release(database: Database) -> None:
    try:
        database.command(_RELEASE)
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        raise database.out_of_transaction("no transaction is open before COMMIT") from exc


def _end_implicit(database: Database) -> None:
    # An engine of the caller's may begin by itself, as in SQLAlchemy's recipe for SQLite; such a
    # transaction could not wait for the write lock.
    if database.dialect == "sqlite" and not database.is_direct:
        connection = database.connection
        if not connection.in_transaction():
            connection.begin()
        if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # sqlite3's
            database.command("ROLLBACK")


def _roll_back(database: Database) -> None:
    connection = database.connection
    if connection.invalidated:
        return
    try:
        database.rollback()
    except SQLAlchemyError:
        connection.invalidate()  # broken, or out of its transaction
