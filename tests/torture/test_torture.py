"""A short dose of the torture; ``make torture`` is the long one."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from .kills import databases, torture


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_killed_writers_lose_nothing_acknowledged(
    name: str, tmp_path: Path, postgres_url: URL, mysql_url: URL
) -> None:
    """Whoever is killed, what was acknowledged is there, whole, once, and in order."""
    url = databases(tmp_path, postgres_url, mysql_url)[name]
    outcome = torture(url, tmp_path, kills=10)
    assert outcome.stored >= outcome.acknowledged > 10
