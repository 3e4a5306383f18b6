"""Databases for tests that count."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.own_databases import own_database


@pytest.fixture
def url(request: pytest.FixtureRequest, driver: str, tmp_path: Path) -> Iterator[URL]:
    """A database of the test's own, in which nobody else answers."""
    with own_database(request, driver, tmp_path) as made:
        yield made
