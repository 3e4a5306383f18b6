"""A short dose of the cuts; ``make cuts`` is the long one."""

from pathlib import Path

import pytest

from tests.long.cuts.program import DATABASES, Size, missing, run
from tests.support.nginx import program
from tests.support.requirements import needs

CUTS = 40


@pytest.mark.parametrize("database", DATABASES)
def test_nothing_is_lost_and_nothing_doubled(database: str, tmp_path: Path) -> None:
    """Whoever is cut off or killed: each answer is whole, or as far as its worker came, once."""
    needs(missing(database))
    program()
    report = run(database, tmp_path, Size(CUTS, conversations=10), seed=16)
    print(report)
    assert report.violations == []
    assert (report.judge.lost, report.judge.doubled) == (0, 0)
    assert report.record.cut >= CUTS
    assert report.judge.states["lived, completed"] > 5
    assert report.turns.looks > 0
