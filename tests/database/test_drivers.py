"""A driver is one that the tests hold to the contract, or it is refused where it is named."""

import re
import sqlite3
import types
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql import mysqldb
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.pool import NullPool

from hermes_session_mw import ConfigurationError, SQLAlchemyStore, StoreMisconfigured
from tests.contract import test_store_contract
from tests.support.requirements import needs_driver

ON_MYSQL = r"\+pymysql:// or (mysql|mariadb)\+asyncmy://"
ON_POSTGRESQL = (
    r"postgresql\+psycopg://, postgresql\+asyncpg://, postgresql\+psycopg_async:// or "
    r"postgresql\+psycopg2://"
)
ON_SQLITE = r"sqlite:// or sqlite\+aiosqlite://"
REFUSED = {
    "mysql+mysqldb://": ON_MYSQL,
    "mysql+mysqlconnector://": ON_MYSQL,
    "mysql+aiomysql://": ON_MYSQL,
    "mysql+pyodbc://": ON_MYSQL,
    "mysql+nosuch://": ON_MYSQL,
    "mariadb+mariadbconnector://": ON_MYSQL,
    "mariadb+mysqldb://": ON_MYSQL,
    "postgresql+pg8000://": ON_POSTGRESQL,
    "postgresql+psycopg2cffi://": ON_POSTGRESQL,
    "sqlite+pysqlcipher://": ON_SQLITE,
    "sqlite+turso:///x.db": ON_SQLITE,
    "sqlite+aioturso:///x.db": ON_SQLITE,
    "sqlite+libsql:///x.db": ON_SQLITE,
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_driver_that_is_not_tested_is_refused(url: str) -> None:
    """Whether it is installed or not, the error names those that may be written in its place."""
    driver = re.escape(url.partition("+")[2].partition(":")[0])
    with pytest.raises(ConfigurationError, match=rf"driver {driver} is not .*{REFUSED[url]}"):
        SQLAlchemyStore(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:secret@h/d", rf"mysqldb, which mysql:// stands for, is not .*{ON_MYSQL}"),
        ("mariadb://u:secret@h/d", rf"mysqldb, which mariadb:// stands for, is not .*{ON_MYSQL}"),
        ("postgres://u:secret@h/d", rf"not a database URL \(postgres://\); write {ON_POSTGRESQL}"),
        ("pgsql://u:secret@h/d", rf"not a database URL \(pgsql://\); write {ON_POSTGRESQL}"),
        ("sqlite3:///x.db", rf"not a database URL \(sqlite3://\); write {ON_SQLITE}"),
        ("oracle://u:secret@h/d", "oracle is not supported; these are: mariadb, mysql"),
        ("duckdb:///x.db", "not a database URL"),
        ("cockroachdb://u:secret@h/d", "not a database URL"),
    ],
)
def test_a_url_that_names_no_driver_that_will_do_is_told_one(url: str, told: str) -> None:
    """What SQLAlchemy would make of it is named, and what to write; the password is not."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        SQLAlchemyStore(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("driver", "told"),
    [("pysqlcipher", r"encryption=Keyring\(\.\.\.\)"), ("turso", "another engine")],
)
def test_a_refusal_tells_what_else_gives_what_the_driver_is_for(driver: str, told: str) -> None:
    """Who wants a file encrypted, or another engine, reads more than the names of drivers."""
    with pytest.raises(ConfigurationError, match=f"aiosqlite://; .*{told}"):
        SQLAlchemyStore(f"sqlite+{driver}:///x.db")


class _Missing(psycopg.PGDialect_psycopg):
    """PostgreSQL's default driver, where it is not installed."""

    @classmethod
    def import_dbapi(cls) -> Any:
        raise ModuleNotFoundError("No module named 'psycopg'")


def test_a_postgresql_url_without_its_driver_names_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which driver ``postgresql://`` stands for depends on SQLAlchemy, so all are named."""
    monkeypatch.setitem(registry.impls, "postgresql", lambda: _Missing)
    with pytest.raises(ConfigurationError, match=rf"not installed.*pip install.*{ON_POSTGRESQL}"):
        SQLAlchemyStore("postgresql://x/y")


def test_an_engine_of_a_driver_that_is_not_tested_is_refused() -> None:
    """An engine of the caller's is held to the same as a URL."""
    dialect, url = mysqldb.MySQLDialect_mysqldb(), URL.create("mysql+mysqldb")
    engine = Engine(NullPool(dict), dialect, url)  # type: ignore[arg-type]  # nothing connects
    with pytest.raises(ConfigurationError, match=rf"driver mysqldb is not .*{ON_MYSQL}"):
        SQLAlchemyStore(engine)


class OtherSQLite(types.ModuleType):
    """A module in sqlite3's place, as pysqlite3 is one."""

    def __init__(self) -> None:
        super().__init__("pysqlite3")
        self.__dict__.update({k: v for k, v in vars(sqlite3).items() if not k.startswith("__")})
        self.Connection = type("Connection", (sqlite3.Connection,), {})


def test_another_sqlite_than_pythons_is_refused(sqlite_url: str) -> None:
    """Two SQLite libraries in one process break each other's locks, so there is one."""
    with pytest.raises(ConfigurationError, match="module pysqlite3 is not"):
        SQLAlchemyStore(sqlite_url, engine_options={"module": OtherSQLite()})
    engine = create_engine(sqlite_url, module=OtherSQLite())
    with pytest.raises(ConfigurationError, match="module pysqlite3 is not"):
        SQLAlchemyStore(engine)
    assert isinstance(engine.dialect, pysqlite.SQLiteDialect_pysqlite)


class _Foreign:
    """A connection of another library, which does what sqlite3's does."""

    def __init__(self, path: str) -> None:
        self._own = sqlite3.connect(path, check_same_thread=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


@pytest.mark.parametrize("lent", [False, True])
async def test_connections_of_another_sqlite_are_refused(sqlite_url: str, lent: bool) -> None:
    """``creator`` may bring any library past the driver's name; nothing is written through it."""
    path = str(make_url(sqlite_url).database)
    options: dict[str, Any] = {"creator": lambda: _Foreign(path)}
    engine = create_engine(sqlite_url, **options)
    store = SQLAlchemyStore(engine) if lent else SQLAlchemyStore(sqlite_url, engine_options=options)
    with pytest.raises(StoreMisconfigured, match=r"test_drivers.*Python's own sqlite3"):
        await store.append("id", [{"role": "user", "content": "Hello."}])
    await store.aclose()
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_every_driver_that_is_taken_is_held_to_the_contract() -> None:
    """What a URL may name is what the store contract runs over, and nothing more."""
    from hermes_session_mw.database.drivers import _DRIVERS  # noqa: PLC0415

    taken = {f"{name}+{driver}" for name, drivers in _DRIVERS.items() for driver in drivers}
    run = {case.database for case in test_store_contract.CASES} - {"memory", "sqlite-in-memory"}
    names = {"sqlite": "sqlite+pysqlite"}
    # MariaDB's dialect is MySQL's under another name.
    assert {name.replace("mariadb", "mysql") for name in taken} == {
        names.get(name, name).replace("mariadb", "mysql") for name in run
    }


@pytest.mark.parametrize("name", ["postgresql+psycopg2", "mysql+pymysql", "mariadb+asyncmy"])
def test_a_tested_driver_is_taken_by_url(name: str) -> None:
    """A store over each is made without a connection."""
    needs_driver(name)
    assert f"{name}://" in repr(SQLAlchemyStore(f"{name}://u:p@nowhere.invalid/d"))
