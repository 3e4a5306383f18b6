"""The adapters, held by tests that run where their frameworks are installed.

The tables in ``docs/framework-stores.md`` are what these runs gave. After a change that is meant,
write them anew with ``make frameworks``, or by this module with ``HERMES_WRITE_FRAMEWORKS=1``.
"""

import os

import pytest

from tests.adapters.framework_page import FOLDER, PAGE, PYTHON, page_now, run
from tests.support.requirements import needs


@pytest.fixture(autouse=True)
def _frameworks() -> None:
    needs(None if PYTHON.exists() else "no frameworks: make .frameworks/.installed")


@pytest.mark.timeout(1200)  # the tests of seven frameworks
def test_the_adapters_do_what_their_frameworks_want() -> None:
    """Their tests pass beside the real frameworks, and there are some for each."""
    done = run()
    assert done.returncode == 0, done.output
    assert {case.file for case in done.cases} == {path.stem for path in FOLDER.glob("test_*.py")}


def test_the_page_has_what_was_seen() -> None:
    """The page's tables are these runs'."""
    now = page_now(PAGE.read_text())
    if os.environ.get("HERMES_WRITE_FRAMEWORKS"):
        PAGE.write_text(now)
    assert now == PAGE.read_text()
