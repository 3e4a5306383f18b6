"""Creates and configures engines of our own, without opening a connection."""

import math
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import sqlalchemy
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from hermes_session_mw.database.connection import replace_after_disconnect, use_directly
from hermes_session_mw.database.connection_settings import set_on_connect
from hermes_session_mw.database.drivers import join_writes
from hermes_session_mw.database.sqlite_file import SQLiteFile, set_pragmas
from hermes_session_mw.exceptions import ConfigurationError, StoreMisconfigured

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

# By driver: its argument for the seconds to wait, for SQLite's lock or for a connection.
_TIMEOUT_ARGUMENT = {
    "pysqlite": "timeout",
    "aiosqlite": "timeout",
    "asyncpg": "timeout",
    "psycopg": "connect_timeout",
    "psycopg_async": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
    "asyncmy": "connect_timeout",
}

_TAKES_ENCODING = ("psycopg", "psycopg_async", "psycopg2")

# A named prepared statement exists on one server connection. Behind a pooler that assigns one for a
# transaction, the next has no such statement, or another one. Without a name it is prepared anew
# each time in the same round trip, by asyncpg even if SQLAlchemy has it in its own cache.
_NO_NAMED_STATEMENTS: dict[str, dict[str, Any]] = {
    "psycopg": {"prepare_threshold": None},  # SQLAlchemy's name for the asyncio one, too
    "asyncpg": {"statement_cache_size": 0},
}


def check_positive(**numbers: object) -> None:
    """Raise ``ConfigurationError`` for a number that is not positive, or not finite."""
    for name, number in numbers.items():
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not (is_number and 0 < number < math.inf):  # type: ignore[operator]  # mypy forgets it
            raise ConfigurationError(f"{name}: {number!r} is not a finite number above 0")


def is_async_engine(value: object) -> TypeGuard["AsyncEngine"]:
    """Tell whether ``value`` is an ``AsyncEngine``, without importing SQLAlchemy's extension."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return module is not None and isinstance(value, module.AsyncEngine)


def is_async(url: URL) -> bool:
    """Tell whether the URL's driver is an asyncio one."""
    return bool(url.get_dialect().is_async)


def default_threads(url: URL) -> int:
    """Return how many operations run at once, by default.

    One for a database in memory, which is one connection. Few for a SQLite file, because more
    threads would only wait for the interpreter lock (docs/speed.md). More for a server.
    """
    if not _is_sqlite(url):
        return 10
    return 1 if _in_memory(url) else 2


def extra_writers(url: URL, threads: int) -> int | None:
    """Return how many threads write beside ``threads`` that read; None if all do both.

    SQLite has one writer at a time. Waiting writers would occupy threads that readers could use at
    once.
    """
    return 1 if _is_sqlite(url) and threads > 1 else None


def connections_of(pool_size: int, options: Mapping[str, Any]) -> float:
    """Return how many connections an engine with these options has at most, infinity if unknown.

    ``options`` are the caller's, who may have another pool, or wait for it otherwise.
    """
    if not options.keys().isdisjoint(("poolclass", "max_overflow", "pool_timeout")):
        return math.inf
    return options.get("pool_size", pool_size) or math.inf


def sqlite_file(url: URL, timeout: float) -> SQLiteFile | None:
    """Return the file that ``url`` names, or None.

    ``timeout`` is the seconds to wait in its write queue.
    """
    if not _is_sqlite(url) or _in_memory(url):
        return None
    (name, *_), options = url.get_dialect()().create_connect_args(url)
    path = urllib.parse.unquote(urllib.parse.urlsplit(name).path) if options.get("uri") else name
    return SQLiteFile(path, timeout)


def make_engine(url: URL, file: SQLiteFile | None, **settings: Any) -> Engine:
    """Return a new engine, not connected yet; ``settings`` are as for `_arguments`."""
    engine = _checked(sqlalchemy.create_engine, url, settings)
    _set_up(engine, file)
    return engine


def make_async_engine(url: URL, file: SQLiteFile | None, **settings: Any) -> "AsyncEngine":
    """Return a new asyncio engine, not connected yet; ``settings`` are as for `_arguments`."""
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  # needs greenlet

    engine = _checked(create_async_engine, url, settings)
    _set_up(engine.sync_engine, file)
    return engine


def _checked(create: Callable[..., T], url: URL, settings: dict[str, Any]) -> T:
    try:
        return create(url, **_arguments(url, **settings))
    except (ArgumentError, TypeError) as exc:
        raise StoreMisconfigured(f"engine_options: create_engine refuses them ({exc})") from exc


def _arguments(
    url: URL, *, pool_size: int, timeout: float, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of ``create_engine``: ``options`` take precedence over our own."""
    driver = url.get_dialect().driver
    connect_args = dict(options.get("connect_args", {}))
    argument = _TIMEOUT_ARGUMENT.get(driver)
    if argument is not None:
        # libpq takes whole seconds, at least 2.
        seconds = timeout if argument == "timeout" else max(int(timeout), 2)
        connect_args.setdefault(argument, seconds)
    for name, value in _NO_NAMED_STATEMENTS.get(driver, {}).items():
        connect_args.setdefault(name, value)
    if driver in _TAKES_ENCODING:
        connect_args["client_encoding"] = "utf8"  # whatever the role's, or PGCLIENTENCODING
    if driver == "pymysql":
        connect_args.setdefault("read_timeout", timeout)  # the handshake has no other
    if driver == "pysqlite":
        connect_args.setdefault("check_same_thread", False)
    pool: dict[str, Any] = {
        # For a database in memory too: its only connection must not be used by two at once.
        "poolclass": AsyncAdaptedQueuePool if is_async(url) else QueuePool,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": timeout,
        # The connection last given back is used next: one that was invalidated is replaced at once.
        "pool_use_lifo": True,
        # Transactions are ended explicitly. Saves MySQL a round trip.
        "pool_reset_on_return": None,
    }
    return {
        "isolation_level": "AUTOCOMMIT",
        "hide_parameters": True,
        **({} if "poolclass" in options else pool),
        **options,
        "connect_args": connect_args,
    }


def _set_up(engine: Engine, file: SQLiteFile | None) -> None:
    use_directly(engine)
    set_on_connect(engine)
    replace_after_disconnect(engine)
    if engine.dialect.driver == "asyncpg":
        event.listen(engine, "connect", lambda _, record: join_writes(record.driver_connection))
    # A read-only file is used as it is.
    if engine.dialect.name == "sqlite" and engine.url.query.get("mode") != "ro":
        set_pragmas(engine, (SQLiteFile if file is None else file).pragmas)
    if file is not None:
        file.watch(engine)


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _in_memory(url: URL) -> bool:
    database = url.database or ":memory:"
    return ":memory:" in database or url.query.get("mode") == "memory"
