"""Database errors, made into the package's own at the store's edge.

The text of a new error names the driver's class and code, and its first line only where that
cannot hold a value: an id or a message must not get into a log this way.
"""

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...exceptions import StoreCorrupt, StoreError, StoreMisconfigured, StoreUnavailable

DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""What an engine raises: asyncpg lets a refused connection through as the OSError that it is."""

_SEE_CAUSE = "see its cause, which is logged at DEBUG"
_UNAVAILABLE = "try again; if it lasts, see whether the database is up and has room"
_MISCONFIGURED = "check the store's URL, the database's tables and the user's rights"
_CORRUPT = "stop writing, keep the file as it is and restore a backup"

# SQLite's names, https://www.sqlite.org/rescode.html, by their first part.
_SQLITE = {
    "SQLITE_BUSY": (StoreUnavailable, "another writer holds the lock; try again"),
    "SQLITE_LOCKED": (StoreUnavailable, "another writer holds the lock; try again"),
    "SQLITE_FULL": (StoreUnavailable, "make room on the disk; no restart is needed"),
    "SQLITE_IOERR": (StoreUnavailable, "check the disk; no restart is needed"),
    "SQLITE_READONLY": (StoreUnavailable, "make the file and its folder writable"),
    "SQLITE_CANTOPEN": (StoreUnavailable, "check that the file's folder is there, and writable"),
    "SQLITE_CORRUPT": (StoreCorrupt, _CORRUPT),
    "SQLITE_NOTADB": (StoreCorrupt, _CORRUPT),
}

# SQLSTATE classes, https://www.postgresql.org/docs/current/errcodes-appendix.html; the longest
# prefix decides.
_SQLSTATE = {
    "08": (StoreUnavailable, _UNAVAILABLE),  # connection
    "40": (StoreUnavailable, _UNAVAILABLE),  # rolled back: serialization, deadlock
    "53": (StoreUnavailable, _UNAVAILABLE),  # disk full, out of memory, too many connections
    "57": (StoreUnavailable, _UNAVAILABLE),  # shutting down, cancelled
    "58": (StoreUnavailable, _UNAVAILABLE),  # system error
    "55P03": (StoreUnavailable, _UNAVAILABLE),  # lock not available
    "25006": (StoreUnavailable, _UNAVAILABLE),  # read only: a standby
    "28": (StoreMisconfigured, _MISCONFIGURED),  # wrong password
    "3D": (StoreMisconfigured, _MISCONFIGURED),  # no such database
    "42": (StoreMisconfigured, _MISCONFIGURED),  # no such table, no right to it
    "XX001": (StoreCorrupt, _CORRUPT),
    "XX002": (StoreCorrupt, _CORRUPT),
}


def as_store_error(exc: Exception) -> StoreError:
    """Return the package's error for ``exc``, one of ``DATABASE_ERRORS``."""
    if isinstance(exc, StatementError):
        exc.hide_parameters = True  # whoever logs the cause must not log ids and messages
    if isinstance(exc, PoolTimeout):
        return StoreUnavailable(
            "every database connection is in use: try again, or give the engine a larger pool"
        )
    cause = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    kind, cure = _classify(cause)
    return kind(f"the session store failed ({_describe(cause, kind)}): {cure}")


def _classify(cause: BaseException) -> tuple[type[StoreError], str]:
    name = getattr(cause, "sqlite_errorname", None)
    if name:
        if str(cause).startswith("no such table"):
            return StoreMisconfigured, _MISCONFIGURED
        return _SQLITE.get("_".join(name.split("_")[:2]), (StoreError, _SEE_CAUSE))
    state = getattr(cause, "sqlstate", None)
    if state:
        for prefix in (state, state[:2]):
            if prefix in _SQLSTATE:
                return _SQLSTATE[prefix]
        return StoreError, _SEE_CAUSE
    # Without a code it is the connection that failed: no server spoke.
    if isinstance(cause, OSError) or type(cause).__name__ in ("OperationalError", "InterfaceError"):
        return StoreUnavailable, _UNAVAILABLE
    return StoreError, _SEE_CAUSE


def _describe(cause: BaseException, kind: type[StoreError]) -> str:
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""
    named = f"{type(cause).__name__} {code}".rstrip()
    if kind is StoreError:  # of these, some quote the row that they refused
        return named
    first_line = str(cause).split("\n", 1)[0][:200]
    return f"{named}: {first_line}"
