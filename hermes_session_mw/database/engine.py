"""Engines of our own: how they are made and set up.

Nothing here opens a connection before one is asked for.
"""

import math
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import sqlalchemy
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from hermes_session_mw.database.connection import go_direct
from hermes_session_mw.database.connection_settings import set_each
from hermes_session_mw.database.pool_checks import renew_after_loss
from hermes_session_mw.database.sqlite_file import SQLiteFile
from hermes_session_mw.exceptions import ConfigurationError, StoreMisconfigured

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

# Each driver's own name for the seconds that it waits: for SQLite's lock, for a connection.
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

# A named prepared statement is one server connection's own: behind a pooler that lends one for a
# transaction, the next has none of the name, or another. A statement without a name is sent anew
# each time, in the same round trip, by asyncpg also where SQLAlchemy keeps it in its own cache.
_NO_NAMED_STATEMENTS: dict[str, dict[str, Any]] = {
    "psycopg": {"prepare_threshold": None},  # SQLAlchemy's name for the asyncio one, too
    "asyncpg": {"statement_cache_size": 0},
}


def check_positive(**numbers: object) -> None:
    """Refuse a number that nothing could meet, or no timer can count to.

    Raises:
        ConfigurationError: it is not more than 0, or has no end.
    """
    for name, number in numbers.items():
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not (is_number and 0 < number < math.inf):  # type: ignore[operator]  # mypy forgets it
            raise ConfigurationError(f"{name}: {number!r} is not a number of more than 0")


def is_async_engine(value: object) -> TypeGuard["AsyncEngine"]:
    """Tell whether ``value`` is an ``AsyncEngine``, without importing what defines them."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return module is not None and isinstance(value, module.AsyncEngine)


def is_async(url: URL) -> bool:
    """Tell whether the URL's driver is an asyncio one."""
    return bool(url.get_dialect().is_async)


def default_threads(url: URL) -> int:
    """Return how many operations to run at once.

    One for a database in memory, which is one connection. Few for SQLite, whose threads only
    wait for each other's interpreter lock (docs/speed.md). More for a server that is waited for.
    """
    if not _is_sqlite(url):
        return 10
    return 1 if _in_memory(url) else 2


def extra_writers(url: URL, threads: int) -> int | None:
    """Return how many may write beside ``threads`` that read; None where all may do both.

    SQLite has one writer at a time: the others would only keep readers, who need not wait for
    any, from their threads.
    """
    return 1 if _is_sqlite(url) and threads > 1 else None


def sqlite_file(url: URL, patience: float) -> SQLiteFile | None:
    """Return what watches over the file that ``url`` names, None where it names none."""
    if not _is_sqlite(url) or _in_memory(url):
        return None
    (name, *_), options = url.get_dialect()().create_connect_args(url)
    path = urllib.parse.unquote(urllib.parse.urlsplit(name).path) if options.get("uri") else name
    return SQLiteFile(path, patience)


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
        raise StoreMisconfigured(f"engine_options: no engine can be made so ({exc})") from exc


def _arguments(
    url: URL, *, pool_size: int, timeout: float, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return keyword arguments for ``create_engine``: ``options`` over our own choices."""
    driver = url.get_dialect().driver
    connect_args = dict(options.get("connect_args", {}))
    argument = _TIMEOUT_ARGUMENT.get(driver)
    if argument is not None:
        # libpq takes whole seconds only, and takes 1 for 2.
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
        # A database in memory too: its one connection may not be in two hands at once.
        "poolclass": AsyncAdaptedQueuePool if is_async(url) else QueuePool,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": timeout,
        # What was given up is made anew at once, for whoever gave it up; the rest stays.
        "pool_use_lifo": True,
        # Nothing is left open: transactions are ended in so many words. Saves MySQL a round trip.
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
    go_direct(engine)
    set_each(engine)
    renew_after_loss(engine)
    # Who may only read cannot set a file up, and reads it as it is.
    if engine.dialect.name == "sqlite" and engine.url.query.get("mode") != "ro":
        event.listen(engine, "connect", _set_pragmas)
    if file is not None:
        file.watch(engine)


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Readers then never wait for a writer. The file remembers it.
    cursor.execute("PRAGMA journal_mode = WAL")
    # What was acknowledged survives a power cut; NORMAL would promise that for a crash alone.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _in_memory(url: URL) -> bool:
    database = url.database or ":memory:"
    return ":memory:" in database or url.query.get("mode") == "memory"
