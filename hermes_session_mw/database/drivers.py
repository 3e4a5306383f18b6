"""Which databases and drivers a store takes: those that the tests hold to the contract.

A driver that is nearly right loses what this package promises where it is needed most: when a
connection breaks, when a COMMIT gets no reply, when a value holds a quote. So whatever is not
tested is refused where it is named, with the name of what is.
"""

import importlib
import sqlite3
from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS
from hermes_session_mw.exceptions import ConfigurationError

_SQLITE_MINIMUM = (3, 35)  # the first with RETURNING

# As SQLAlchemy's dialects call them, the one to recommend first.
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
_MISNAMED = {"postgres": "postgresql", "pgsql": "postgresql", "sqlite3": "sqlite"}


def check_url(url: str | URL) -> URL:
    """Return ``url`` parsed; its database is one that we speak to, by a driver that is there.

    Raises:
        ConfigurationError: it is not, or the driver is not supported, or not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise _no_url(exc) from exc
    backend, _, driver = parsed.drivername.partition("+")
    if backend in _MISNAMED:
        raise ConfigurationError(f"store: not a database URL ({backend}://); {_advice(backend)}")
    if driver and driver not in _DRIVERS.get(backend, (driver,)):
        raise _not_supported(driver, backend)
    try:
        dialect = parsed.get_dialect()
        if dialect.name in SUPPORTED_DIALECTS:  # others may do anything here
            dialect().create_connect_args(parsed)
    except (ArgumentError, NoSuchModuleError, ValueError) as exc:
        raise _no_url(exc) from exc
    check_dialect(dialect.name)
    if not driver and dialect.driver not in _DRIVERS[backend]:
        raise _not_supported(f"{dialect.driver}, which {backend}:// stands for,", backend)
    try:
        dialect.import_dbapi()
        if dialect.is_async:
            importlib.import_module("sqlalchemy.ext.asyncio")
    except ImportError as exc:
        instead = "" if driver else f"; {_advice(backend)}"
        raise ConfigurationError(
            f"store: the driver for {parsed.drivername} is not installed ({exc}): "
            f"pip install {_PACKAGES[dialect.driver]}{instead}"
        ) from exc
    return parsed


def check_engine(dialect: Dialect) -> None:
    """Refuse an engine whose database or driver is not one of those that were tested.

    Raises:
        ConfigurationError: it is not.
    """
    check_dialect(dialect.name)
    if dialect.driver not in _DRIVERS[dialect.name]:
        raise _not_supported(dialect.driver, dialect.name)
    if dialect.driver == "pysqlite" and dialect.loaded_dbapi.Connection is not sqlite3.Connection:
        raise _other_module(dialect.loaded_dbapi.__name__)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse a module in the driver's place, as ``create_engine`` takes one.

    Raises:
        ConfigurationError: one is given.
    """
    if "module" in options:
        raise _other_module(getattr(options["module"], "__name__", "that one"))


def check_dialect(name: str) -> None:
    """Refuse a database that the SQL was not written and tested for.

    Raises:
        ConfigurationError: there is no SQL for it, or the SQLite library is too old.
    """
    if name not in SUPPORTED_DIALECTS:
        known = ", ".join(sorted(SUPPORTED_DIALECTS))
        raise ConfigurationError(f"store: {name} is not supported; these are: {known}")
    if name == "sqlite" and sqlite3.sqlite_version_info < _SQLITE_MINIMUM:
        raise ConfigurationError(
            f"store: SQLite {sqlite3.sqlite_version} is too old; 3.35 is the first that will do"
        )


def _no_url(exc: Exception) -> ConfigurationError:
    first_line = str(exc).split("\n", 1)[0]
    return ConfigurationError(
        f"store: not a database URL ({first_line}); one is for instance "
        "sqlite:///sessions.db or postgresql+psycopg://user@host/name"
    )


def _not_supported(driver: str, backend: str) -> ConfigurationError:
    return ConfigurationError(
        f"store: the driver {driver} is not among those that are tested; {_advice(backend)}"
    )


def _other_module(name: str) -> ConfigurationError:
    # Two SQLite libraries that have one file open in one process break each other's locks.
    return ConfigurationError(
        f"store: the module {name} is not among the drivers that are tested; leave it out"
    )


def _advice(backend: str) -> str:
    backend = _MISNAMED.get(backend, backend)
    urls = [f"{backend}+{driver}://" for driver in _DRIVERS[backend]]
    if backend == "sqlite":
        urls[0] = "sqlite://"
    return f"write {', '.join(urls[:-1])} or {urls[-1]}"
