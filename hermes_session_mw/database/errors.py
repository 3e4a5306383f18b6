"""Classifies database errors, and turns each into one of the package's own.

An error is classified by MySQL's error number (its drivers give some of them a SQLSTATE that says
less), else by its SQLSTATE, else by SQLite's error name. libpq has none of them for what a server
says while it refuses a login: psycopg's and psycopg2's errors are then known by their text.

The text of a new error has the class and the code of the driver's error, and its first line only
where that cannot contain a value: no id and no message may get into a log this way.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hermes_session_mw.exceptions import (
    AppendInDoubt,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
)

DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""The errors of an engine; asyncpg raises a refused connection's OSError as it is."""

Category = Literal[
    "conflict", "stale", "lost", "read_only", "unavailable", "misconfigured", "corrupt", "other"
]
"""Kinds of errors.

``conflict``: another transaction was in the way, and this one is rolled back. ``stale``: a prepared
statement does not fit the changed tables. ``lost``: the connection is gone; if that was during
COMMIT, its outcome is unknown. ``read_only``: this server accepts no writes (any more), or waits in
vain for those of its cluster, but the one that a new connection leads to may. The other categories
are not retried.
"""

RETRYABLE: frozenset[Category] = frozenset({"conflict", "stale", "lost", "read_only"})
INVALIDATING: frozenset[Category] = frozenset({"stale", "lost", "read_only"})
"""After an error of these categories its connection is not used again."""

_MAY_QUOTE: frozenset[Category] = frozenset({"other", "corrupt"})
"""Some errors of these categories contain a value in their text: an id, or a message."""

_TRY_AGAIN = "try again; if it lasts, see whether"
# The error that each category becomes, and what to do about it, where its code has no advice.
_BY_CATEGORY: dict[Category, tuple[type[StoreError], str]] = {
    "conflict": (StoreUnavailable, "another writer was in the way; try again"),
    "stale": (StoreUnavailable, "try again: the tables were changed meanwhile"),
    "lost": (StoreUnavailable, f"{_TRY_AGAIN} the database is up"),
    "read_only": (StoreUnavailable, f"{_TRY_AGAIN} the URL leads to a server that takes writes"),
    "unavailable": (StoreUnavailable, f"{_TRY_AGAIN} the database is up, and has room"),
    "misconfigured": (
        StoreMisconfigured,
        "check the store's URL, the database's tables and the user's rights",
    ),
    "corrupt": (StoreCorrupt, "stop writing, keep the file as it is and restore a backup"),
    "other": (StoreError, "see its cause, which is logged at DEBUG"),
}
_UTF8 = "set the encoding of the connection and the database to UTF-8 (on MariaDB utf8mb4)"
_SMALLER = "or lower the store's max_message_bytes or max_turn_messages"
OVER_PACKET = f"a message is larger than the server's max_allowed_packet: raise that, {_SMALLER}"
_NOT_A_DATABASE = (
    "the file is another program's, or encrypted as a whole (SQLCipher), which this package does "
    "not read: name another; if it was the store's own, keep it as it is and restore a backup"
)
_NAMED_STATEMENTS = (
    "behind a pooler that lends connections for a transaction, have the driver prepare no named "
    "statements: connect_args prepare_threshold=None for psycopg, statement_cache_size=0 for "
    "asyncpg"
)
_UPGRADE = (
    "its tables are missing, or are those of an earlier version: upgrade them with "
    "hermes_session_mw.migrations.upgrade, or let the store do it (create_schema=True)"
)
_IN_USE = "as it may: raise that, or make the pool smaller"


class _Code(NamedTuple):
    """What an error's code says; ``outcome_unknown``: a COMMIT may have happened all the same."""

    category: Category
    advice: str = ""
    outcome_unknown: bool = False


def _ended(what: str) -> _Code:
    """Return what the code says of a statement that the server ended, which may be a COMMIT."""
    return _Code("unavailable", f"{what}; try again", outcome_unknown=True)


# The same for all codes of a category without an advice of their own.
_CONFLICT, _LOST, _READ_ONLY = _Code("conflict"), _Code("lost"), _Code("read_only")
_UNAVAILABLE, _MISCONFIGURED = _Code("unavailable"), _Code("misconfigured")
_CORRUPT, _OTHER = _Code("corrupt"), _Code("other")
_NOT_UTF8, _NO_TABLE = _Code("misconfigured", _UTF8), _Code("misconfigured", _UPGRADE)

# https://www.sqlite.org/rescode.html, by the first part of the name.
_SQLITE: dict[str, _Code] = {
    "SQLITE_BUSY": _Code("conflict", "another writer holds the lock; try again"),
    "SQLITE_LOCKED": _CONFLICT,
    "SQLITE_FULL": _Code("unavailable", "make room on the disk; no restart is needed"),
    "SQLITE_IOERR": _Code("unavailable", "check the disk; no restart is needed"),
    "SQLITE_READONLY": _Code(
        "unavailable", "make the file, those named -wal and -shm, and the folder writable"
    ),
    "SQLITE_CANTOPEN": _Code("unavailable", "check that the file's folder is there, and writable"),
    "SQLITE_TOOBIG": _Code(
        "misconfigured", f"a message is larger than SQLite takes: {_SMALLER[3:]}"
    ),
    "SQLITE_CORRUPT": _CORRUPT,
    # Also a sound file that is encrypted, as SQLCipher's are: nothing has to be restored then.
    "SQLITE_NOTADB": _Code("corrupt", _NOT_A_DATABASE),
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html; the longest prefix decides.
_SQLSTATE: dict[str, _Code] = {
    "08": _LOST,
    "40": _CONFLICT,  # serialization, deadlock
    "40003": _LOST,  # statement completion unknown
    "55P03": _CONFLICT,  # lock not available
    "57P": _LOST,  # shutting down, crashed, starting up
    "57": _UNAVAILABLE,  # cancelled, by a statement's time-out for instance
    "53": _UNAVAILABLE,  # disk full, out of memory, too many connections
    "58": _UNAVAILABLE,  # system error
    "25006": _READ_ONLY,  # a standby, or a primary that is one now
    "22021": _NOT_UTF8,  # text that is none in the client's encoding
    "22P05": _NOT_UTF8,  # text that the database's encoding does not have
    "26": _Code("misconfigured", _NAMED_STATEMENTS),  # no prepared statement of this name
    "42P05": _Code("misconfigured", _NAMED_STATEMENTS),  # or another one
    "28": _MISCONFIGURED,  # wrong password
    "3D": _MISCONFIGURED,  # no such database
    "3F": _MISCONFIGURED,  # no such schema
    "42": _MISCONFIGURED,  # no right to it
    "42P01": _NO_TABLE,
    "42703": _NO_TABLE,  # or no such column
    "XX001": _CORRUPT,
    "XX002": _CORRUPT,
}

_LOCK_WAIT = 1205
# https://mariadb.com/kb/en/mariadb-error-codes/
_MYSQL: dict[int, _Code] = {
    _LOCK_WAIT: _CONFLICT,
    1213: _CONFLICT,  # deadlock
    1020: _CONFLICT,  # record has changed since last read
    1050: _CONFLICT,  # another node of a Galera cluster made the table first
    1061: _CONFLICT,  # or its index
    1684: _CONFLICT,  # or is at it
    1180: _LOST,  # a Galera node that lost its cluster during COMMIT
    1927: _LOST,  # connection was killed
    2006: _LOST,  # server has gone away
    2013: _LOST,  # lost connection during query
    2055: _LOST,
    1053: _LOST,  # server shutdown in progress
    1158: _LOST,  # the server could not read what it was sent
    1159: _LOST,  # ... in time
    1160: _LOST,  # or could not write its answer
    1161: _LOST,
    4031: _LOST,  # MySQL closed a connection that was idle for too long
    1047: _Code("read_only", outcome_unknown=True),  # a Galera node without its cluster
    1290: _READ_ONLY,  # the server
    1792: _READ_ONLY,  # the transaction, as the server begins them
    1836: _READ_ONLY,  # the server
    1040: _UNAVAILABLE,  # too many connections
    1203: _Code("unavailable", f"the user has as many connections {_IN_USE}"),
    1226: _Code("unavailable", f"the user has as many of these {_IN_USE}"),
    1129: _UNAVAILABLE,  # too many connections of this host failed
    1021: _UNAVAILABLE,  # disk full
    1114: _UNAVAILABLE,  # table is full
    1317: _ended("the statement was killed at the server"),
    1969: _ended("the statement took longer than the server's max_statement_time"),
    3024: _ended("the statement took longer than the server's max_execution_time"),
    2002: _UNAVAILABLE,  # cannot connect
    2003: _UNAVAILABLE,
    2005: _UNAVAILABLE,  # unknown host
    1044: _MISCONFIGURED,  # access denied
    1045: _MISCONFIGURED,
    1130: _MISCONFIGURED,  # not from this host
    1142: _MISCONFIGURED,
    1698: _MISCONFIGURED,
    1049: _MISCONFIGURED,  # no such database
    1146: _NO_TABLE,  # no such table
    1054: _NO_TABLE,  # no such column
    1153: _Code("misconfigured", OVER_PACKET),  # a larger packet than the server takes
    1366: _NOT_UTF8,  # text that the column's character set does not have
}

# The number for a lock that was not had is also that of a Galera node that does not get to read
# what the others have written (wsrep_sync_wait); at once if it has no quorum. A statement that
# takes no lock can have met nothing else, but for a table that is being changed; nor can
# SQLAlchemy's own, of which it tells none, while it connects.
_NOT_IN_SYNC = _Code(
    "read_only",
    f"{_TRY_AGAIN} the Galera node belongs to a cluster that has a quorum (wsrep_sync_wait), or "
    "its table is locked",
)
_TAKES_NO_LOCK = re.compile(
    r"(START TRANSACTION|SELECT)\b(?!.*\b(FOR (UPDATE|SHARE)|LOCK IN SHARE MODE)\b)", re.DOTALL
)

_NO_RIGHT = frozenset({"42501", "1142"})
"""The codes for a user without the right to change a table."""

# SQLite has one code for all errors of a statement.
_MISSING = re.compile(r"no such (table|column)|table \w+ has no column")

# A refused login, of which libpq passes on the text without the SQLSTATE. Of several hosts one is
# enough: the others may be the standbys that accept no writes.
_REFUSED = re.compile(
    r"authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects|no such (database|user)"
    r"|(database|role) \".*\" (does not exist|is not permitted)|permission denied for database"
    r"|no password supplied|does not support SSL|unsupported startup parameter"
)
# MariaDB has one number (1105) for errors that have none of their own.
_OVER_WRITE_SET = "Maximum writeset size exceeded"
_TURN_TOO_LARGE = _Code(
    "misconfigured",
    f"the turn is larger than the server's wsrep_max_ws_size: raise that, {_SMALLER}",
)
_PROTOCOL_VIOLATION = "08P01"
# PgBouncer's, under this SQLSTATE, which stands for every violation of the protocol.
_NO_TRANSACTIONS = "not allowed in statement pooling mode"
_STATEMENT_POOLING = _Code(
    "misconfigured", "set PgBouncer's pool_mode to transaction: in statement mode there are none"
)
# PgBouncer's as well, while it refuses a login: under the same SQLSTATE, or without one by libpq.
_NOT_PASSED_ON = "unsupported startup parameter"
_STARTUP_PARAMETER = _Code(
    "misconfigured",
    "PgBouncer passes on few of a connection's parameters: take the others out of the URL and of "
    "connect_args (psycopg's options, asyncpg's server_settings), and set them by ALTER ROLE ... "
    "SET; those that its ignore_startup_parameters names are accepted, and have no effect",
)
# pgpool-II's, of the server's connection, under the SQLSTATE of every internal error (XX000).
_LOST_BY_PGPOOL = re.compile(r"unable to (read|write|flush) data (from|to) (DB node|frontend)")
# psycopg2 tells of the closed connection, and not of what was said before: PgBouncer closes those
# that begin a transaction in statement mode, as SQLAlchemy does while it connects.
_CLOSED = "server closed the connection unexpectedly"
_CLOSED_AT_BEGIN = _Code(
    "lost",
    f"{_TRY_AGAIN} the database is up, and that the pool_mode of a PgBouncer before it is not "
    "statement, in which there are no transactions",
)
# Of an error without a code: no connection was to be had.
_NO_CONNECTION = _Code(
    "unavailable",
    f"{_TRY_AGAIN} the database is up, and takes as many connections as the store has threads",
)
# PostgreSQL's function that rejects a prepared statement's old plan. Its SQLSTATE, 0A000, is that
# of every feature that is not supported. For asyncpg, SQLAlchemy has an error of its own.
_CHECKS_PLAN = "RevalidateCachedQuery"
_NO_THREAD = "can't start new thread"


@dataclass(frozen=True, slots=True)
class Failure:
    """A classified database error.

    Attributes:
        category: the kind of error.
        summary: the class and the code of the driver's error, and its text where that is safe.
        advice: what to do about it.
        outcome_unknown: if it came during COMMIT, that may have happened.
        may_quote: whether the error's own text may contain an id or a message.
    """

    category: Category
    summary: str
    advice: str
    outcome_unknown: bool = False
    may_quote: bool = False

    def as_store_error(self, *, in_doubt: bool) -> StoreError:
        """Return the package's own error; ``in_doubt`` says that a COMMIT may have happened."""
        if in_doubt:
            return AppendInDoubt(
                f"the session store failed during COMMIT ({self.summary}): {self.advice}; the "
                "append may have been stored: repeat it with the same turn_id"
            )
        error, _ = _BY_CATEGORY[self.category]
        return error(f"the session store failed ({self.summary}): {self.advice}")


def errors_of(dbapi: Any) -> tuple[type[Exception], ...]:
    """Return the classes of what an engine raises: SQLAlchemy's, the driver's and the system's.

    ``dbapi`` is the engine's ``dialect.loaded_dbapi``.
    """
    asyncpg = getattr(dbapi, "asyncpg", None)
    if asyncpg is None:
        return (*DATABASE_ERRORS, dbapi.Error)
    # Before 2.1, SQLAlchemy does not wrap what asyncpg raises while it connects.
    own = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return (*DATABASE_ERRORS, dbapi.Error, *own)


def classify(exc: Exception) -> Failure:
    """Classify ``exc``, one of ``DATABASE_ERRORS`` or a driver's own error."""
    if isinstance(exc, StatementError):
        exc.hide_parameters = True  # a log of the cause must not contain ids and messages
    if isinstance(exc, PoolTimeout):
        return Failure(
            "unavailable",
            "QueuePool",
            "every database connection is in use; try again, or make the pool larger",
        )
    cause = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    known, code = _find_code(exc, cause)
    category = known.category
    advice = known.advice or _BY_CATEGORY[category][1]
    may_quote = category in _MAY_QUOTE or advice is _UTF8
    summary = f"{type(cause).__name__} {code}".rstrip()
    if not may_quote:
        summary = f"{summary}: {_text(cause)}"
    outcome_unknown = category == "lost" or known.outcome_unknown
    return Failure(category, summary, advice, outcome_unknown, may_quote)


def classify_other(exc: Exception) -> Failure:
    """Classify an error that is neither a database's nor a driver's.

    Drivers do not wrap Python's errors for a value that they cannot send or read.
    """
    name = type(exc).__name__
    if isinstance(exc, UnicodeError):
        return Failure("misconfigured", name, _UTF8, may_quote=True)
    if isinstance(exc, RuntimeError) and str(exc) == _NO_THREAD:
        advice = "the system cannot start a thread; try again, or without threads use MemoryStore"
        return Failure("unavailable", f"{name}: {_NO_THREAD}", advice)
    return Failure("other", name, _BY_CATEGORY["other"][1], may_quote=True)


def refuses_writes(exc: SQLAlchemyError) -> bool:
    """Tell whether the server, the file, or the user's rights allow no writes."""
    cause = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    known, code = _find_code(exc, cause)
    is_read_only = known.category == "read_only" or code.startswith("SQLITE_READONLY")
    return is_read_only or code in _NO_RIGHT


def _find_code(exc: Exception, cause: BaseException) -> tuple[_Code, str]:
    """Return what the error's code says, and the code itself, "" if there is none."""
    number = _mysql_number(cause)
    if number is not None:
        return _by_number(number, exc, cause), str(number)
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg2's
    known = _by_text(cause, state)
    if known is not None:
        return known, state or ""
    if state:
        prefixes = (state, state[:3], state[:2])
        return next((_SQLSTATE[each] for each in prefixes if each in _SQLSTATE), _OTHER), state
    name = getattr(cause, "sqlite_errorname", None)
    if name:
        is_missing = _MISSING.match(str(cause))
        # By the first part of the name, such as SQLITE_IOERR of SQLITE_IOERR_FSYNC.
        short = "_".join(name.split("_")[:2])
        return _NO_TABLE if is_missing else _SQLITE.get(short, _OTHER), name
    return _without_code(exc, cause), ""


def _by_text(cause: BaseException, state: str | None) -> _Code | None:
    """Return what an error of PostgreSQL's or a pooler's says whose SQLSTATE does not."""
    if _is_plan_stale(cause):
        return _Code("stale")
    if _NO_TRANSACTIONS in str(cause):
        return _STATEMENT_POOLING
    if state in (None, _PROTOCOL_VIOLATION) and _NOT_PASSED_ON in str(cause):
        return _STARTUP_PARAMETER
    return _LOST if _LOST_BY_PGPOOL.match(str(cause)) else None


def _without_code(exc: Exception, cause: BaseException) -> _Code:
    category = _category_without_code(exc, cause)
    began = getattr(exc, "statement", None) or "BEGIN "
    if category == "lost" and str(cause).startswith(_CLOSED) and began.startswith("BEGIN "):
        return _CLOSED_AT_BEGIN
    return _NO_CONNECTION if category == "unavailable" else _Code(category)


def _by_number(number: int, exc: Exception, cause: BaseException) -> _Code:
    if _OVER_WRITE_SET in str(cause):
        return _TURN_TOO_LARGE
    if number == _LOCK_WAIT:
        statement = getattr(exc, "statement", None)
        if statement is None or _TAKES_NO_LOCK.match(statement):
            return _NOT_IN_SYNC
    return _MYSQL.get(number, _OTHER)


def _category_without_code(exc: Exception, cause: BaseException) -> Category:
    class_name = type(cause).__name__
    if str(cause).startswith("Could not decode"):  # sqlite3's
        return "corrupt"
    if _REFUSED.search(str(cause)) and class_name == "OperationalError":
        return "misconfigured"
    if _matches_no_host(cause):
        return "unavailable"
    # Without a code no server answered: the connection failed. A driver's error that SQLAlchemy did
    # not wrap came while a pooled connection was checked out.
    is_raw = not isinstance(exc, DATABASE_ERRORS)
    if getattr(exc, "connection_invalidated", False) or is_raw or is_out_of_step(cause):
        return "lost"
    # Or a subclass, as psycopg's ConnectionTimeout is.
    names = {each.__name__ for each in type(cause).__mro__}
    of_connection = names & {"OperationalError", "InterfaceError"}
    return "unavailable" if of_connection or isinstance(cause, OSError) else "other"


def _is_plan_stale(cause: BaseException) -> bool:
    """Tell whether a prepared statement would return other columns than when it was prepared."""
    diagnostics = getattr(cause, "diag", None)  # psycopg's and psycopg2's
    function = getattr(diagnostics, "source_function", None)
    return function == _CHECKS_PLAN or type(cause).__name__ == "InvalidCachedStatementError"


def _matches_no_host(cause: BaseException) -> bool:
    """Tell whether asyncpg found no host of the kind that the URL asks for, though all answer.

    SQLAlchemy 2.1 wraps the error, 2.0 does not.
    """
    errors = (cause, cause.__cause__)
    return "TargetServerAttributeNotMatched" in [type(each).__name__ for each in errors]


def is_out_of_step(cause: BaseException | None) -> bool:
    """Tell whether PyMySQL read the answer to another statement.

    Seen when a Galera node ended a statement; SQLAlchemy would use the connection again.
    """
    first = cause.args[0] if cause is not None and cause.args else None
    return isinstance(first, str) and first.startswith("Packet sequence number wrong")


def _mysql_number(cause: BaseException) -> int | None:
    """Return the error number, an error's first argument with MySQL's drivers."""
    first = cause.args[0] if cause.args else None
    return first if isinstance(first, int) and not isinstance(cause, OSError) else None


def _text(cause: BaseException) -> str:
    text = cause.args[1] if _mysql_number(cause) is not None and len(cause.args) > 1 else cause
    lines = str(text).split("\n")
    # With several hosts there is a line for each; that of the host that refused the login decides.
    decisive = next((line for line in lines if _REFUSED.search(line)), lines[0])
    return decisive[:200]
