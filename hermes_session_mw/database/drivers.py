"""The databases and drivers that a store accepts, and each driver's state of its connection.

Only databases and drivers on which the tests run the store's contract are accepted. Others are
refused by name: they may fail when a connection breaks, when a COMMIT gets no reply, or when a
value contains a quotation mark.
"""

import importlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import isawaitable
from operator import attrgetter, methodcaller
from typing import Any

from sqlalchemy import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.util import await_only

from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS
from hermes_session_mw.exceptions import ConfigurationError

_SQLITE_MINIMUM = (3, 35)  # the first with RETURNING

_OWN_ENGINE = "; it is another engine, which may not open the same file beside SQLite"

# By SQLAlchemy's names, the recommended one first.
_ON_MYSQL = ("pymysql", "asyncmy")
_DRIVERS = {
    "sqlite": ("pysqlite", "aiosqlite"),
    "postgresql": ("psycopg", "asyncpg", "psycopg_async", "psycopg2"),
    "mysql": _ON_MYSQL,
    "mariadb": _ON_MYSQL,
}
_PACKAGES = {
    "psycopg": "'hermes_session_mw[postgresql]'",
    "asyncpg": "'hermes_session_mw[asyncpg]'",
    "psycopg2": "psycopg2-binary",
    "pymysql": "'hermes_session_mw[mysql]'",
    "asyncmy": "'hermes_session_mw[asyncmy]'",
    "aiosqlite": "'hermes_session_mw[aiosqlite]'",
}
# Why, where another driver would not give what these are taken for.
_INSTEAD = {
    "pysqlcipher": "; for encryption at rest give the store encryption=Keyring(...)",
    "turso": _OWN_ENGINE,
    "aioturso": _OWN_ENGINE,
    "libsql": _OWN_ENGINE,
}
_MISNAMED = {"postgres": "postgresql", "pgsql": "postgresql", "sqlite3": "sqlite"}


def check_url(url: str | URL) -> URL:
    """Return ``url`` parsed, after checking its database and its driver.

    Raises:
        ConfigurationError: it is not a URL, the database or the driver is not supported, or the
            driver is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise _not_a_url(exc) from exc
    backend, _, driver = parsed.drivername.partition("+")
    if backend in _MISNAMED:
        raise ConfigurationError(f"store: not a database URL ({backend}://); {_advice(backend)}")
    if driver and driver not in _DRIVERS.get(backend, (driver,)):
        raise _not_supported(driver, backend)
    dialect = _dialect_of(parsed)
    check_dialect(dialect.name)
    if not driver and dialect.driver not in _DRIVERS[backend]:
        raise _not_supported(f"{dialect.driver}, which {backend}:// stands for,", backend)
    _check_installed(parsed, dialect, "" if driver else f"; {_advice(backend)}")
    return parsed


def _dialect_of(url: URL) -> type[Dialect]:
    try:
        dialect = url.get_dialect()
        if dialect.name in SUPPORTED_DIALECTS:  # others may do anything here
            dialect().create_connect_args(url)
    except (ArgumentError, NoSuchModuleError, ValueError) as exc:
        raise _not_a_url(exc) from exc
    return dialect


def _check_installed(url: URL, dialect: type[Dialect], alternatives: str) -> None:
    try:
        dialect.import_dbapi()
        if dialect.is_async:
            importlib.import_module("sqlalchemy.ext.asyncio")
    except ImportError as exc:
        raise ConfigurationError(
            f"store: the driver for {url.drivername} is not installed ({exc}): "
            f"pip install {_PACKAGES[dialect.driver]}{alternatives}"
        ) from exc


def check_engine(dialect: Dialect) -> None:
    """Raise ``ConfigurationError`` for an engine whose database or driver is not supported."""
    check_dialect(dialect.name)
    if dialect.driver not in _DRIVERS[dialect.name]:
        raise _not_supported(dialect.driver, dialect.name)
    if dialect.driver == "pysqlite" and dialect.loaded_dbapi.Connection is not sqlite3.Connection:
        raise _other_module(dialect.loaded_dbapi.__name__)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ``ConfigurationError`` for ``module``, which makes another module the driver."""
    if "module" in options:
        raise _other_module(getattr(options["module"], "__name__", "that one"))


def check_dialect(name: str) -> None:
    """Raise ``ConfigurationError`` for a database that is not supported, or too old a SQLite."""
    if name not in SUPPORTED_DIALECTS:
        known = ", ".join(sorted(SUPPORTED_DIALECTS))
        raise ConfigurationError(f"store: {name} is not supported; these are: {known}")
    if name == "sqlite" and sqlite3.sqlite_version_info < _SQLITE_MINIMUM:
        raise ConfigurationError(
            f"store: SQLite {sqlite3.sqlite_version} is too old; use 3.35 or newer"
        )


def _not_a_url(exc: Exception) -> ConfigurationError:
    first_line = str(exc).split("\n", 1)[0]
    return ConfigurationError(
        f"store: not a database URL ({first_line}); one is for instance "
        "sqlite:///sessions.db or postgresql+psycopg://user@host/name"
    )


def _not_supported(driver: str, backend: str) -> ConfigurationError:
    return ConfigurationError(
        f"store: the driver {driver} is not among those that are tested; {_advice(backend)}"
        f"{_INSTEAD.get(driver, '')}"
    )


def _other_module(name: str) -> ConfigurationError:
    # Two SQLite libraries with the same file open in one process break each other's locks.
    return ConfigurationError(
        f"store: the module {name} is not among the drivers that are tested; leave it out"
    )


def _advice(backend: str) -> str:
    backend = _MISNAMED.get(backend, backend)
    urls = [f"{backend}+{driver}://" for driver in _DRIVERS[backend]]
    if backend == "sqlite":
        urls[0] = "sqlite://"
    return f"write {', '.join(urls[:-1])} or {urls[-1]}"


# A server says in each answer whether a transaction is open (PostgreSQL's ReadyForQuery, MySQL's
# status flags), and SQLite is asked within the process: neither costs a round trip.
_SERVER_STATUS_IN_TRANS = 1  # https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html
_PQTRANS_OPEN = (2, 3)  # PQTRANS_INTRANS, PQTRANS_INERROR


def _libpq_in_transaction(connection: Any) -> bool:
    return connection.info.transaction_status in _PQTRANS_OPEN


def _pymysql_in_transaction(connection: Any) -> bool:
    return bool(connection.server_status & _SERVER_STATUS_IN_TRANS)


IN_TRANSACTION: dict[str, Callable[[Any], bool]] = {
    "pysqlite": attrgetter("in_transaction"),
    "aiosqlite": attrgetter("in_transaction"),
    "psycopg": _libpq_in_transaction,
    "psycopg2": _libpq_in_transaction,
    "asyncpg": methodcaller("is_in_transaction"),
    "pymysql": _pymysql_in_transaction,
    "asyncmy": methodcaller("get_transaction_status"),
}
"""By driver: whether a transaction is open on its connection, including one that has failed."""


def _execute_by_psycopg(connection: Any, sql: str) -> Any:
    cursor = connection.execute(sql, prepare=False)
    return (await_only(cursor) if isawaitable(cursor) else cursor).statusmessage


def _execute_by_psycopg2(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.statusmessage


def _execute_by_asyncpg(connection: Any, sql: str) -> Any:
    return await_only(connection.execute(sql))  # the simple protocol, which prepares nothing


EXECUTE_WITH_TAG: dict[str, Callable[[Any, str], Any]] = {
    "psycopg": _execute_by_psycopg,
    "psycopg2": _execute_by_psycopg2,
    "asyncpg": _execute_by_asyncpg,
}
"""By driver: executes a command without preparing it, and returns PostgreSQL's command tag.

Only the tag tells a COMMIT from a ROLLBACK, which is how the server ends a transaction that has
failed. Behind a pooler a prepared COMMIT's name may stand for another statement, so none is used.
"""


FetchPrepared = Callable[[Any, str, tuple[Any, ...]], Sequence[Any]]


def _fetch_by_asyncpg(adapted: Any, sql: str, parameters: tuple[Any, ...]) -> Sequence[Any]:
    return await_only(_fetch_prepared(adapted, sql, parameters))


async def _fetch_prepared(adapted: Any, sql: str, parameters: tuple[Any, ...]) -> Any:
    try:
        # Without a name; SQLAlchemy keeps what is known of it.
        prepared, _ = await adapted._prepare(sql, 0)  # noqa: SLF001
        return await prepared.fetch(*parameters)
    except Exception as exc:  # noqa: BLE001
        adapted._handle_exception(exc)  # noqa: SLF001  # raises it as the dialect's own


FETCH_PREPARED: dict[str, FetchPrepared] = {"asyncpg": _fetch_by_asyncpg}
"""By driver: executes a prepared statement without a cursor, and returns its rows."""


def join_writes(connection: Any) -> None:
    """Have a connection of asyncpg's send a statement by one system call, and not by two.

    Without a name, a statement is parsed each time: asyncpg writes its text (a Parse message), and
    then its parameters and the rest. asyncio sends each at once, and wakes the server twice. uvloop
    sends what was written in one turn of the loop together, and its transports are left as they
    are.
    """
    transport = connection._transport  # noqa: SLF001
    write, writelines = transport.write, transport.writelines
    held = b""

    def write_joined(data: Any) -> None:
        nonlocal held
        if _is_parse_message(data):
            held += data
            return
        text, held = held, b""
        write(text + data if text else data)

    def write_lines_joined(lines: Any) -> None:
        nonlocal held
        text, held = held, b""
        writelines([text, *lines] if text else lines)

    with suppress(AttributeError):
        transport.write, transport.writelines = write_joined, write_lines_joined


def _is_parse_message(data: Any) -> bool:
    """Tell whether it is one Parse message of PostgreSQL's protocol, and nothing more."""
    return data[0] == _PARSE and int.from_bytes(data[1:5]) == len(data) - 1


_PARSE = ord("P")


def _process_by_libpq(connection: Any) -> int:
    return int(connection.info.backend_pid)


SERVER_PROCESS: dict[str, Callable[[Any], int]] = {
    "psycopg": _process_by_libpq,
    "psycopg2": _process_by_libpq,
    "asyncpg": methodcaller("get_server_pid"),
}
"""By driver of PostgreSQL: the id of the server's process, as it was told when it connected."""


def _take_by_psycopg(connection: Any) -> list[str]:
    libpq = connection.pgconn  # of asyncio's connection, too
    libpq.consume_input()
    return [each.extra.decode() for each in iter(libpq.notifies, None)]


def _take_by_psycopg2(connection: Any) -> list[str]:
    connection.poll()
    payloads = [each.payload for each in connection.notifies]
    connection.notifies.clear()
    return payloads


TAKE_NOTIFICATIONS: dict[str, Callable[[Any], list[str]]] = {
    "psycopg": _take_by_psycopg,
    "psycopg2": _take_by_psycopg2,
}
"""By driver over libpq: reads what has come, without waiting; returns what notifications say."""
