"""Database errors: what each means, and the package's own that it becomes at the store's edge.

A MySQL error is known by its number (its drivers give some of them a SQLSTATE that says less),
then comes the SQLSTATE, then SQLite's name. The text of a new error names the driver's class and
code, and its first line only where that cannot hold a value: an id or a message must not get into a
log this way.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...exceptions import (
    AppendInDoubt,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
)

DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""What an engine raises: asyncpg lets a refused connection through as the OSError that it is."""

Meaning = Literal["conflict", "lost", "unavailable", "misconfigured", "corrupt", "other"]
"""What an error says.

``conflict``: another transaction was in the way, and this one is undone. ``lost``: the connection
is gone; where that was during COMMIT, nobody knows whether it happened. The others are not mended
by trying again at once.
"""

REPEATABLE: frozenset[Meaning] = frozenset({"conflict", "lost"})
MAY_QUOTE: frozenset[Meaning] = frozenset({"other", "corrupt"})
"""The meanings of which some errors' own text holds a value: an id, or a message."""

# https://www.sqlite.org/rescode.html, by the first part of the name.
_SQLITE: dict[str, Meaning] = {
    "SQLITE_BUSY": "conflict",
    "SQLITE_LOCKED": "conflict",
    "SQLITE_FULL": "unavailable",
    "SQLITE_IOERR": "unavailable",
    "SQLITE_READONLY": "unavailable",
    "SQLITE_CANTOPEN": "unavailable",
    "SQLITE_CORRUPT": "corrupt",
    "SQLITE_NOTADB": "corrupt",
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html; the longest prefix decides.
_SQLSTATE: dict[str, Meaning] = {
    "08": "lost",
    "40": "conflict",  # serialization, deadlock
    "40003": "lost",  # statement completion unknown
    "55P03": "conflict",  # lock not available
    "57P": "lost",  # shutting down, crashed, starting up
    "57": "unavailable",  # cancelled, by a statement's time-out for instance
    "53": "unavailable",  # disk full, out of memory, too many connections
    "58": "unavailable",  # system error
    "25006": "unavailable",  # read only: a standby
    "28": "misconfigured",  # wrong password
    "3D": "misconfigured",  # no such database
    "3F": "misconfigured",  # no such schema
    "42": "misconfigured",  # no such table, no right to it
    "XX001": "corrupt",
    "XX002": "corrupt",
}

# https://mariadb.com/kb/en/mariadb-error-codes/
_MYSQL: dict[int, Meaning] = {
    1205: "conflict",  # lock wait time-out
    1213: "conflict",  # deadlock
    1020: "conflict",  # record has changed since last read
    1050: "conflict",  # another node of a Galera cluster made the table first
    1061: "conflict",  # or its index
    1684: "conflict",  # or is at it
    1180: "lost",  # a Galera node that lost its cluster during COMMIT
    1927: "lost",  # connection was killed
    2006: "lost",  # server has gone away
    2013: "lost",  # lost connection during query
    2055: "lost",
    1040: "unavailable",  # too many connections
    1047: "unavailable",  # a Galera node without its cluster
    1053: "lost",  # server shutdown in progress
    1021: "unavailable",  # disk full
    1114: "unavailable",  # table is full
    1290: "unavailable",  # read only
    1836: "unavailable",  # read only
    2002: "unavailable",  # cannot connect
    2003: "unavailable",
    1044: "misconfigured",  # access denied
    1045: "misconfigured",
    1142: "misconfigured",
    1049: "misconfigured",  # no such database
    1146: "misconfigured",  # no such table
    1054: "misconfigured",  # no such column
}

# SQLite has one code for all that a statement may have wrong.
_LACKS = re.compile(r"no such (table|column)|table \w+ has no column")

_NO_CLUSTER = "1047"  # which a Galera node answers at COMMIT too, for what its cluster may have

_CURES: dict[Meaning, str] = {
    "conflict": "another writer was in the way; try again",
    "lost": "try again; if it lasts, see whether the database is up",
    "unavailable": "try again; if it lasts, see whether the database is up, and has room",
    "misconfigured": "check the store's URL, the database's tables and the user's rights",
    "corrupt": "stop writing, keep the file as it is and restore a backup",
    "other": "see its cause, which is logged at DEBUG",
}
_SQLITE_CURES = {
    "SQLITE_BUSY": "another writer holds the lock; try again",
    "SQLITE_FULL": "make room on the disk; no restart is needed",
    "SQLITE_IOERR": "check the disk; no restart is needed",
    "SQLITE_READONLY": "make the file, those named -wal and -shm, and the folder writable",
    "SQLITE_CANTOPEN": "check that the file's folder is there, and writable",
}
_ERRORS: dict[Meaning, type[StoreError]] = {
    "conflict": StoreUnavailable,
    "lost": StoreUnavailable,
    "unavailable": StoreUnavailable,
    "misconfigured": StoreMisconfigured,
    "corrupt": StoreCorrupt,
    "other": StoreError,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A database error, understood; ``leaves_open``: where at COMMIT, it may have happened."""

    meaning: Meaning
    what: str
    cure: str
    leaves_open: bool = False

    def as_store_error(self, *, in_doubt: bool) -> StoreError:
        """Return the package's own error for it; ``in_doubt``: a commit may have happened."""
        if in_doubt:
            return AppendInDoubt(
                f"the session store failed during COMMIT ({self.what}): {self.cure}; the append "
                "may have been stored: repeat it with the same turn_id"
            )
        return _ERRORS[self.meaning](f"the session store failed ({self.what}): {self.cure}")


def raised_over(dbapi: Any) -> tuple[type[Exception], ...]:
    """Return what an engine raises: SQLAlchemy's errors, the driver's and the system's.

    ``dbapi`` is the driver as the engine's dialect knows it.
    """
    asyncpg = getattr(dbapi, "asyncpg", None)
    if asyncpg is None:
        return (*DATABASE_ERRORS, dbapi.Error)
    # Until 2.1, SQLAlchemy hands on as it is what asyncpg raises while it connects.
    own = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return (*DATABASE_ERRORS, dbapi.Error, *own)


def understand(exc: Exception) -> Failure:
    """Return what ``exc`` says: one of ``DATABASE_ERRORS``, or a driver's own."""
    if isinstance(exc, StatementError):
        exc.hide_parameters = True  # whoever logs the cause must not log ids and messages
    if isinstance(exc, PoolTimeout):
        return Failure(
            "unavailable",
            "QueuePool",
            "every database connection is in use; try again, or make the pool larger",
        )
    cause = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    meaning, code = _meaning(exc, cause)
    what = f"{type(cause).__name__} {code}".rstrip()
    if meaning not in MAY_QUOTE:
        what = f"{what}: {_text(cause)}"
    cure = _SQLITE_CURES.get(_short(code), _CURES[meaning])
    return Failure(meaning, what, cure, leaves_open=meaning == "lost" or code == _NO_CLUSTER)


def _meaning(exc: Exception, cause: BaseException) -> tuple[Meaning, str]:  # noqa: PLR0911  # one each
    number = _mysql_number(cause)
    if number is not None:
        return _MYSQL.get(number, "other"), str(number)
    state = getattr(cause, "sqlstate", None)
    if state:
        known = (_SQLSTATE[prefix] for prefix in _prefixes(state) if prefix in _SQLSTATE)
        return next(known, "other"), state
    name = getattr(cause, "sqlite_errorname", None)
    if name:
        if _LACKS.match(str(cause)):
            return "misconfigured", name
        return _SQLITE.get(_short(name), "other"), name
    if str(cause).startswith("Could not decode"):  # sqlite3's, which has no code
        return "corrupt", ""
    # Without a code it is the connection that failed: no server spoke. A driver's error that did
    # not pass through SQLAlchemy was raised where a pooled connection was made ready.
    if getattr(exc, "connection_invalidated", False) or _is_raw(exc) or is_out_of_step(cause):
        return "lost", ""
    named = type(cause).__name__ in ("OperationalError", "InterfaceError")
    return ("unavailable" if named or isinstance(cause, OSError) else "other"), ""


def is_out_of_step(cause: BaseException | None) -> bool:
    """Tell whether PyMySQL found an answer that belongs to another question.

    Seen where a Galera node broke a statement off; SQLAlchemy would use the connection again.
    """
    first = cause.args[0] if cause is not None and cause.args else None
    return isinstance(first, str) and first.startswith("Packet sequence number wrong")


def _is_raw(exc: Exception) -> bool:
    return not isinstance(exc, (SQLAlchemyError, OSError))


def _mysql_number(cause: BaseException) -> int | None:
    """Return the number that MySQL's drivers put first; an OSError has one of its own."""
    first = cause.args[0] if cause.args else None
    return first if isinstance(first, int) and not isinstance(cause, OSError) else None


def _prefixes(state: str) -> tuple[str, str, str]:
    return state, state[:3], state[:2]


def _short(name: str) -> str:
    return "_".join(name.split("_")[:2])


def _text(cause: BaseException) -> str:
    text = cause.args[1] if _mysql_number(cause) is not None and len(cause.args) > 1 else cause
    return str(text).split("\n", 1)[0][:200]
