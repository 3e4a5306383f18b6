"""Databases of a test's own, by the driver that it uses them with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support import mariadb, postgres


@contextmanager
def own_database(request: pytest.FixtureRequest, driver: str, folder: Path) -> Iterator[URL]:
    """Make an empty database: a file in the folder, or one of the tests' servers, dropped later."""
    backend = driver.split("+", maxsplit=1)[0]
    if backend == "sqlite":
        yield URL.create(driver, database=f"{folder}/sessions.db")
        return
    make, server = {
        "postgresql": (postgres.database, "postgres_server"),
        "mysql": (mariadb.database, "mysql_server"),
    }[backend]
    with make(request.getfixturevalue(server)) as made:
        yield made.set(drivername=driver) if "+" in driver else made


def key_of(backend: str, key: str) -> str | bytes:
    """Return a key as a test's own SQL has to give it: MySQL's columns are binary."""
    return key.encode() if backend == "mysql" else key
