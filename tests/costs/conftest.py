"""Databases for tests that count, and a clock that adds nothing to what is counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from hermes_session_mw.stores.sqlalchemy.statements import open_answers
from tests.support.own_databases import own_database


@pytest.fixture
def url(request: pytest.FixtureRequest, driver: str, tmp_path: Path) -> Iterator[URL]:
    """A database of the test's own, in which nobody else answers."""
    with own_database(request, driver, tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _clock_of_looks_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each store look for expired answers with its first statement, and not once a second.

    The look is another statement, whose types asyncpg asks for when it meets it first: how many
    round trips there are would depend on how busy the machine is.
    """
    made = open_answers.OpenAnswers
    monkeypatch.setattr(open_answers, "OpenAnswers", lambda: made(clock=lambda: 0.0))
