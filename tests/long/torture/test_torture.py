"""A short dose of the torture; ``make torture`` is the long one."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.long.torture.programs import PROGRAMS
from tests.support.requirements import needs

ROUNDS = {
    "kills": 10,
    "servers": 2,
    "lost": 5,
    "pooler": 5,
    "model": 100,
    "prune": 8,
    "replace": 5,
    "clock": 2,
}


@pytest.mark.parametrize(
    ("name", "database"),
    [(name, database) for name, program in PROGRAMS.items() for database in program.databases],
)
def test_what_was_acknowledged_stays(
    name: str, database: str, tmp_path: Path, postgres_server: URL, mysql_server: URL
) -> None:
    """Whatever is killed, paused, lost or set back: what was acknowledged is there, in order."""
    program = PROGRAMS[name]
    needs(program.missing(database))
    shared = {"postgresql": postgres_server, "mysql": mysql_server}
    outcome = program.run(database, tmp_path, ROUNDS[name], shared)
    assert outcome.stored >= outcome.acknowledged > 10
