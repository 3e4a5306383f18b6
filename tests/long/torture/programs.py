"""Each program, on each database that it is for."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from tests.long.torture.checker import Outcome
from tests.long.torture.clock import Clock, library, turn_clock
from tests.long.torture.kills import kill_writers
from tests.long.torture.lost_commits import lose_commits
from tests.long.torture.model.supervisor import check_against_the_model
from tests.long.torture.pooler import disturb_pooler
from tests.long.torture.replacements import kill_replacing_writers
from tests.long.torture.servers import kill_server
from tests.long.torture.turns import remove_under_turns
from tests.support import mariadb, pgbouncer, postgres

Shared = Mapping[str, URL]
"""Servers that are used as they are; each program makes a database of its own there."""
Run = Callable[[str, Path, int, Shared], Outcome]


@dataclass(frozen=True)
class Program:
    """What runs on a database, so many rounds, with a folder for whatever it writes."""

    run: Run
    databases: list[str]
    own_servers: bool = False
    fakes_time: bool = False
    pools: bool = False

    def missing(self, database: str) -> str | None:
        """Return what has to be installed first, if anything."""
        if self.fakes_time and library() is None:
            return "no libfaketime: install faketime"
        if self.pools and pgbouncer.missing():
            return pgbouncer.missing()
        if self.own_servers and database == "postgresql" and postgres.binaries() is None:
            return "no PostgreSQL to start: install postgresql"
        if self.own_servers and database == "mysql" and mariadb.binary() is None:
            return "no MariaDB to start: install mariadb-server"
        return None


_DATABASE = {"postgresql": postgres.database, "mysql": mariadb.database}
_OWN_SERVER = {"postgresql": postgres.own_server, "mysql": mariadb.own_server}
# A new server has them; nothing has to be dropped on one that may be down.
_OWN_DATABASE = {"postgresql": "postgres", "mysql": "test"}
_DRIVERS = {
    "postgresql": ["postgresql+psycopg", "postgresql+asyncpg"],
    "mysql": ["mysql+pymysql", "mysql+asyncmy"],
}


def _kills(database: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    with _database(database, folder, shared) as url:
        return kill_writers(url, folder, rounds)


def _servers(database: str, folder: Path, rounds: int, _: Shared) -> Outcome:
    with _OWN_SERVER[database]() as server:
        url = server.url.set(database=_OWN_DATABASE[database])
        urls = [url.set(drivername=driver) for driver in _DRIVERS[database]]
        return kill_server(server, urls, folder, rounds)


def _lost(driver: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    with _database(driver.partition("+")[0], folder, shared) as url:
        return lose_commits(url, driver, folder, rounds)


def _pooler(driver: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    with _database("postgresql", folder, shared) as url:
        return disturb_pooler(url, driver, folder, rounds)


def _clock(database: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    with Clock() as clock:
        if database == "sqlite":
            with _database(database, folder, shared) as url:
                return turn_clock(clock, url, folder, rounds, clock.environment)
        with _OWN_SERVER[database](**clock.environment) as server:
            url = server.url.set(database=_OWN_DATABASE[database])
            return turn_clock(clock, url, folder, rounds, {})


def _prune(driver: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    with _database_by(driver, folder, shared) as url:
        return remove_under_turns(url, folder, rounds)


def _model(driver: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    with _database_by(driver, folder, shared) as url:
        return check_against_the_model(url, folder, rounds, seed=random.getrandbits(32))


@contextmanager
def _database_by(driver: str, folder: Path, shared: Shared) -> Iterator[URL]:
    with _database(driver.partition("+")[0], folder, shared) as url:
        yield url if driver == "sqlite" else url.set(drivername=driver)


def _replace(database: str, folder: Path, rounds: int, shared: Shared) -> Outcome:
    if database == "sqlite":
        with _database(database, folder, shared) as url:
            return kill_replacing_writers([url], folder, rounds)
    with _OWN_SERVER[database]() as server:
        url = server.url.set(database=_OWN_DATABASE[database])
        urls = [url.set(drivername=driver) for driver in _DRIVERS[database]]
        return kill_replacing_writers(urls, folder, rounds, server)


@contextmanager
def _database(name: str, folder: Path, shared: Shared) -> Iterator[URL]:
    if name == "sqlite":
        yield URL.create("sqlite", database=f"{folder}/torture.db")
        return
    with _DATABASE[name](shared[name]) as url:
        yield url


ALL = ["sqlite", "postgresql", "mysql"]
EACH_DRIVER = ["sqlite", *(driver for each in _DRIVERS.values() for driver in each)]
PROGRAMS = {
    "kills": Program(_kills, ALL),
    "servers": Program(_servers, ALL[1:], own_servers=True),
    "lost": Program(_lost, EACH_DRIVER[1:]),
    "pooler": Program(
        _pooler,
        ["postgresql+psycopg", "postgresql+psycopg_async", "postgresql+asyncpg"],
        pools=True,
    ),
    "model": Program(_model, EACH_DRIVER),
    "prune": Program(
        _prune, ["sqlite", "postgresql+psycopg", "postgresql+asyncpg", "mysql+pymysql"]
    ),
    "replace": Program(_replace, ALL, own_servers=True),
    "clock": Program(_clock, ALL, own_servers=True, fakes_time=True),
}
