"""The checks beside Hermes Agent 0.19, which the tests install; the other versions have a run."""

from pathlib import Path

import pytest

from hermes_session_mw.stores.hermes_state.rules import RELEASES
from tests.long.hermes_versions.checks import CHECKS
from tests.long.hermes_versions.run import outcome
from tests.long.hermes_versions.together import together
from tests.long.hermes_versions.versions import Version
from tests.stores.hermes_state.agent import CODE
from tests.support.requirements import needs

NEWEST = Version(*RELEASES[-1], CODE)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not (CODE / "hermes_state.py").exists():
        needs("no Hermes Agent in .hermes-agent: run 'make .hermes-agent/.installed'")


@pytest.mark.parametrize("label", CHECKS)
def test_nothing_differs_from_hermes(label: str) -> None:
    """What a check looks at is the same in Hermes and here."""
    assert outcome(label, CHECKS[label], NEWEST, NEWEST).differences == []


def test_both_write_while_they_are_killed(tmp_path: Path) -> None:
    """What either has acknowledged is there once and whole, and indexes and counts are right."""
    assert together(tmp_path, NEWEST, turns=200, kills=6) == []
