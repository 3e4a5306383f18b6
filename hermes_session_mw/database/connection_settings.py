"""What the SQL and its drivers rely on in a connection: set where it is ours, and always checked.

Some drivers bind values at the server, others write them into the statement's text
(docs/threats.md). What they write is read as they meant it only if the server's modes and character
sets are those that they go by, so that each connection proves it once, with values that do no harm
if it is not so. A connection of an engine of our own is set to what is right; one of a borrowed
engine is the caller's, who may need its settings as they are, and is refused if they will not do.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, Executable, Text, bindparam, event, func, literal_column, select
from sqlalchemy.exc import DBAPIError, StatementError

from hermes_session_mw.database.connection import Database, is_ours
from hermes_session_mw.database.dialects import MYSQL, BytesKey
from hermes_session_mw.database.errors import understand
from hermes_session_mw.exceptions import ConfigurationError, StoreMisconfigured
from hermes_session_mw.logging import logger

# The server's own defaults may be any. Of the isolation levels it is the one that the statements
# were tested with, and that goes with every format of the binary log.
_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
_MYSQL_SETTINGS = (
    f"SET NAMES utf8mb4, SESSION sql_mode = '{_MODE}', SESSION autocommit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)

# A backslash, the sign of a parameter, and letters of two and four bytes. No quotation mark, so
# that no server can take its end for the text's.
_PROBE = "a\\b %s \u00e9 \U0001d11e"
_TEXT = bindparam("text", type_=Text())
_KEY = bindparam("key", type_=BytesKey())
_HEX = _PROBE.encode().hex().upper()
_VALUES = {"text": _PROBE, "key": _PROBE}

_ASKS: dict[str, Executable] = {
    "sqlite": select(_TEXT),
    "postgresql": select(_TEXT, func.octet_length(_TEXT)),
    **dict.fromkeys(
        MYSQL,
        select(
            func.convert(_TEXT.op("USING")(literal_column("utf8mb4"))),
            func.hex(func.convert(_TEXT.op("USING")(literal_column("utf8mb4")))),
            func.hex(_KEY),
            literal_column("@@sql_mode"),
            literal_column("@@autocommit"),
        ),
    ),
}

_STRICT = {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"}
_OTHER_SQL = {"ORACLE", "EMPTY_STRING_IS_NULL"}
_CHECKED = "hermes_settings"
_NO_BACKSLASH_ESCAPES = 512  # of what MySQL's server tells with each answer

_MANGLED = (
    "values do not come back as they go in: the driver and the server differ about the "
    "connection's character set, or about backslashes in texts"
)


def set_each(engine: Engine) -> None:
    """Have each new connection of an engine of our own set to what the store relies on."""
    if engine.dialect.name in MYSQL:
        # Before SQLAlchemy's own, which looks at the first connection's mode.
        event.listen(engine, "connect", _set, insert=True)


def check_isolation(options: Mapping[str, Any]) -> None:
    """Refuse options of an engine under which nothing would be committed.

    Raises:
        ConfigurationError: they name an isolation level.
    """
    if "isolation_level" in options or "isolation_level" in options.get("execution_options", {}):
        raise ConfigurationError(
            "engine_options: isolation_level is the store's own, which begins and commits its "
            "transactions itself"
        )


def check_settings(database: Database) -> None:
    """Check a connection when it is first used, and when its driver knows of a change since.

    One round trip each; two on MySQL.

    Raises:
        StoreMisconfigured: what is stored over it would not be what was given, or be cut off.
        SQLAlchemyError: it could not be asked.
    """
    info = database.connection.info
    seen = None if is_ours(database.connection) else _seen(database)
    if _CHECKED in info and info[_CHECKED] == seen:
        return
    problem = next(_problems(database), None)
    if problem is not None:
        raise StoreMisconfigured(f"the database connection cannot be used: {problem}")
    info[_CHECKED] = seen


def _set(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for statement in _MYSQL_SETTINGS:
        cursor.execute(statement)
    cursor.close()


def _seen(database: Database) -> tuple[Any, ...]:
    """Return what the driver itself knows of a connection that others use too."""
    driver: Any = database.connection.connection.driver_connection
    return (
        getattr(driver, "server_status", 0) & _NO_BACKSLASH_ESCAPES,  # PyMySQL, asyncmy
        getattr(getattr(driver, "info", None), "encoding", None),  # psycopg
        getattr(driver, "text_factory", None),  # sqlite3, aiosqlite
        getattr(driver, "row_factory", None),
    )


def _problems(database: Database) -> Iterator[str]:
    row = _ask(database)
    if database.dialect in MYSQL:
        yield from _problems_on_mysql(database, row)
    elif database.dialect == "postgresql":
        if row != (_PROBE, len(_PROBE.encode())):
            yield f"{_MANGLED}; set client_encoding to UTF8, and use a database whose encoding is"
    else:
        yield from _problems_on_sqlite(database, row)


def _problems_on_mysql(database: Database, row: tuple[Any, ...]) -> Iterator[str]:
    if row[:3] != (_PROBE, _HEX, _HEX):
        yield f"{_MANGLED}; set charset=utf8mb4, and no NO_BACKSLASH_ESCAPES in sql_mode"
    else:
        yield from _problems_of_modes(database, set(row[3].split(",")))
        if not row[4]:
            yield "it does not commit by itself (autocommit)"
        if database.connection.get_isolation_level() == "READ UNCOMMITTED":
            yield "it reads what may never be committed: choose another isolation level"


def _problems_of_modes(database: Database, modes: set[str]) -> Iterator[str]:
    if not modes & _STRICT:
        yield "its sql_mode is not strict, and cuts off what does not fit: add STRICT_TRANS_TABLES"
    for mode in modes & _OTHER_SQL:
        yield f"its sql_mode reads SQL in another way: take {mode} out of it"
    # SQLAlchemy reads the tables' definitions by what it saw when the engine first connected.
    preparer = database.connection.dialect.identifier_preparer
    if ("ANSI_QUOTES" in modes) != (preparer.initial_quote == '"'):
        yield (
            "SQLAlchemy does not know of its ANSI_QUOTES: set sql_mode by a connect listener with "
            "insert=True, and alike for all of the engine's connections"
        )


def _problems_on_sqlite(database: Database, row: tuple[Any, ...]) -> Iterator[str]:
    if row != (_PROBE,):
        yield "rows do not come back as sqlite3 makes them: leave text_factory and row_factory be"
    driver: Any = database.connection.connection.driver_connection
    if getattr(driver, "autocommit", None) is False:  # Python 3.12's
        yield "it is never outside of a transaction: leave sqlite3's autocommit be"


def _ask(database: Database) -> tuple[Any, ...]:
    """Return the probe's row, or an empty one where the driver or the server balked at it."""
    try:
        ((*row,),) = database.rows(_ASKS[database.dialect], _VALUES)
    except (UnicodeError, LookupError, TypeError, ValueError, StatementError) as exc:
        # Without a meaning of its own it is the statement that failed, and the driver made that.
        if isinstance(exc, DBAPIError) and understand(exc).meaning != "other":
            raise
        logger.debug("a connection was asked what it makes of texts", exc_info=True)
        return ()
    return tuple(row)
