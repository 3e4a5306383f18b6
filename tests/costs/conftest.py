"""Databases for tests that count."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support import mariadb, postgres


@pytest.fixture
def url(request: pytest.FixtureRequest, driver: str, tmp_path: Path) -> Iterator[URL]:
    """A database of the test's own, in which nobody else answers."""
    if driver.startswith("sqlite"):
        yield URL.create(driver, database=f"{tmp_path}/sessions.db")
        return
    make, server = {
        "postgresql": (postgres.database, "postgres_server"),
        "mysql": (mariadb.database, "mysql_server"),
    }[driver.split("+", maxsplit=1)[0]]
    with make(request.getfixturevalue(server)) as made:
        yield made.set(drivername=driver)
