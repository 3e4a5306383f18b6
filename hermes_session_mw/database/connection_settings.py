"""The settings of a connection that the SQL and the drivers rely on.

Some drivers bind parameters at the server, others write them into the statement's text
(docs/threats.md). The server reads that text as the driver meant it only if its modes and character
sets are those that the driver assumes. So each connection is probed once, with values that do no
harm if they are misread. An engine of our own sets them; a connection of the caller's engine, which
may need others, is refused if its settings are unsuitable.

A pooler in between may refuse transactions (PgBouncer's ``pool_mode = statement``), of which many
operations have none. So an engine's first connection that leads to one begins a transaction: what
cannot work at all fails at the first use, and not at the first edit.
"""

import sqlite3
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import (
    Dialect,
    Engine,
    Executable,
    Text,
    bindparam,
    event,
    func,
    literal_column,
    select,
)
from sqlalchemy.exc import DBAPIError, StatementError

from hermes_session_mw.database.connection import Database, is_own
from hermes_session_mw.database.dialects import MYSQL, BytesKey
from hermes_session_mw.database.drivers import SERVER_PROCESS
from hermes_session_mw.database.errors import classify
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.exceptions import ConfigurationError, StoreMisconfigured
from hermes_session_mw.logging import logger

# These override the server's defaults. The statements are tested with this isolation level, and
# every format of the binary log allows it.
_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
_MYSQL_SETTINGS = (
    f"SET NAMES utf8mb4, SESSION sql_mode = '{_MODE}', SESSION autocommit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)

# A backslash, a parameter's placeholder, and characters of two and four bytes. No quotation mark,
# which a server that misreads it could take for the end of the text.
_PROBE = "a\\b %s \u00e9 \U0001d11e"
_TEXT = bindparam("text", type_=Text())
_KEY = bindparam("key", type_=BytesKey())
_HEX = _PROBE.encode().hex().upper()
_PARAMETERS = {"text": _PROBE, "key": _PROBE}

_PROBES: dict[str, Executable] = {
    "sqlite": select(_TEXT),
    "postgresql": select(_TEXT, func.octet_length(_TEXT), func.pg_backend_pid()),
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
_NO_BACKSLASH_ESCAPES = 512  # a status flag in each answer of MySQL's

# By dialect: each engine has its own.
_with_transactions: weakref.WeakSet[Dialect] = weakref.WeakSet()

_MANGLED = (
    "values do not come back as they go in: the driver and the server differ about the "
    "connection's character set, or about backslashes in texts"
)


def set_on_connect(engine: Engine) -> None:
    """Set each new connection of an engine of our own to what the store relies on."""
    if engine.dialect.name in MYSQL:
        # Before SQLAlchemy's listener, which looks at the first connection's mode.
        event.listen(engine, "connect", _set, insert=True)


def check_isolation(options: Mapping[str, Any]) -> None:
    """Raise ``ConfigurationError`` for an isolation level: nothing would be committed."""
    if "isolation_level" in options or "isolation_level" in options.get("execution_options", {}):
        raise ConfigurationError(
            "engine_options: isolation_level is the store's own, which begins and commits its "
            "transactions itself"
        )


def check_settings(database: Database) -> None:
    """Probe a connection at its first use, and after a change that its driver reports.

    A probe is one round trip, or two on MySQL; behind a pooler of PostgreSQL's two more, once for
    each engine.

    Raises:
        StoreMisconfigured: texts would be changed or cut off.
        SQLAlchemyError: the probe failed, or a pooler refuses transactions.
    """
    info = database.connection.info
    state = None if is_own(database.connection) else _driver_state(database)
    if _CHECKED in info and info[_CHECKED] == state:
        return
    problem = next(_problems(database), None)
    if problem is not None:
        raise StoreMisconfigured(f"the database connection cannot be used: {problem}")
    info[_CHECKED] = state


def _set(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for statement in _MYSQL_SETTINGS:
        cursor.execute(statement)
    cursor.close()


def _driver_state(database: Database) -> tuple[Any, ...]:
    """Return the driver's own state of a connection, which other code may have changed."""
    driver: Any = database.connection.connection.driver_connection
    return (
        getattr(driver, "server_status", 0) & _NO_BACKSLASH_ESCAPES,  # PyMySQL, asyncmy
        getattr(getattr(driver, "info", None), "encoding", None),  # psycopg
        getattr(driver, "text_factory", None),  # sqlite3, aiosqlite
        getattr(driver, "row_factory", None),
    )


def _problems(database: Database) -> Iterator[str]:
    row = _probe(database)
    if database.dialect in MYSQL:
        yield from _problems_on_mysql(database, row)
    elif database.dialect == "postgresql":
        if row[:2] != (_PROBE, len(_PROBE.encode())):
            yield f"{_MANGLED}; set client_encoding to UTF8, and use a database whose encoding is"
        else:
            _check_pooler(database, server_process=row[2])
    else:
        yield from _problems_on_sqlite(database, row)


def _check_pooler(database: Database, *, server_process: int) -> None:
    """Begin a transaction, the first time that a pooler has made up the process it told of."""
    dialect = database.connection.dialect
    told = SERVER_PROCESS.get(dialect.driver)
    if told is None or dialect in _with_transactions:
        return
    if told(database.driver_connection) != server_process:
        with snapshot(database):
            pass
        database.check_no_transaction("after ROLLBACK")
    _with_transactions.add(dialect)


def _problems_on_mysql(database: Database, row: tuple[Any, ...]) -> Iterator[str]:
    if row[:3] != (_PROBE, _HEX, _HEX):
        yield f"{_MANGLED}; set charset=utf8mb4, and no NO_BACKSLASH_ESCAPES in sql_mode"
    else:
        yield from _problems_of_sql_mode(database, set(row[3].split(",")))
        if not row[4]:
            yield "it does not commit by itself (autocommit)"
        if database.connection.get_isolation_level() == "READ UNCOMMITTED":
            yield "it reads uncommitted rows: choose another isolation level"


def _problems_of_sql_mode(database: Database, modes: set[str]) -> Iterator[str]:
    if not modes & _STRICT:
        yield "its sql_mode is not strict, and cuts off what does not fit: add STRICT_TRANS_TABLES"
    for mode in modes & _OTHER_SQL:
        yield f"its sql_mode reads SQL in another way: take {mode} out of it"
    # SQLAlchemy quotes names by the mode that it saw when the engine first connected.
    preparer = database.connection.dialect.identifier_preparer
    if ("ANSI_QUOTES" in modes) != (preparer.initial_quote == '"'):
        yield (
            "SQLAlchemy does not know of its ANSI_QUOTES: set sql_mode by a connect listener with "
            "insert=True, and alike for all of the engine's connections"
        )


def _problems_on_sqlite(database: Database, row: tuple[Any, ...]) -> Iterator[str]:
    if row != (_PROBE,):
        yield "sqlite3's text_factory or row_factory was changed: leave the defaults"
    driver: Any = database.connection.connection.driver_connection
    opened = getattr(driver, "_conn", driver)  # aiosqlite's
    if not isinstance(opened, sqlite3.Connection):
        yield (
            f"it is one of {type(opened).__module__}: connect by Python's own sqlite3, for two "
            "SQLite libraries in one process break each other's locks"
        )
    if getattr(driver, "autocommit", None) is False:  # Python 3.12's
        yield "it is always in a transaction: leave sqlite3's autocommit at its default"


def _probe(database: Database) -> tuple[Any, ...]:
    """Return the probe's row, or an empty one if the driver or the server rejected it."""
    try:
        ((*row,),) = database.rows(_PROBES[database.dialect], _PARAMETERS)
    except (UnicodeError, LookupError, TypeError, ValueError, StatementError) as exc:
        # An error of any category but "other" is not about the statement.
        if isinstance(exc, DBAPIError) and classify(exc).category != "other":
            raise
        logger.debug("a connection rejected the probe of its settings", exc_info=True)
        return ()
    return tuple(row)
