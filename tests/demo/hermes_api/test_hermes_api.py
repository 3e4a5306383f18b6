"""Hermes Agent's own API server and the demo get the same requests, and the docs have the table.

Hermes is the published one, with its own agent: only the model behind both is a stand-in. After a
change that is meant, write the table anew with ``make hermes-api``.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.demo.hermes_api.checks import CHECKS, Check
from tests.demo.hermes_api.servers import Server, both
from tests.support.server import ROOT

# The first of the tests waits for all the checks.
pytestmark = pytest.mark.timeout(600)

PAGE = ROOT / "docs" / "hermes-api.md"
BEGIN, END = "<!-- make hermes-api writes from here -->\n", "<!-- to here -->\n"


class Outcome(NamedTuple):
    """What a check has found.

    Attributes:
        check: which one.
        theirs: what Hermes does.
        ours: what the demo does.
    """

    check: Check
    theirs: str
    ours: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What all checks have found, of both at the same time."""
    with (
        both(tmp_path_factory.mktemp("hermes-api")) as servers,
        ThreadPoolExecutor(len(servers)) as threads,
    ):
        theirs, ours = threads.map(_all_of, servers)
    return [Outcome(*found) for found in zip(CHECKS, theirs, ours, strict=True)]


def test_the_same_is_the_same_and_all_else_has_a_reason(outcomes: list[Outcome]) -> None:
    """A check that is called the same found the same words, and no other one did."""
    for check, theirs, ours in outcomes:
        assert (check.verdict == "same") is (theirs == ours), (check.label, theirs, ours)
        assert (check.verdict == "same") is (check.reason == ""), check.label


def test_the_table_in_the_docs_is_what_ran(outcomes: list[Outcome]) -> None:
    """The documented table is this run's."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    page = "".join([before, BEGIN, "\n", *_table(outcomes), "\n", END, rest.partition(END)[2]])
    if os.environ.get("HERMES_WRITE_HERMES_API"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page


def _all_of(server: Server) -> list[str]:
    return [check.run(server) for check in CHECKS]


def _table(outcomes: list[Outcome]) -> Iterator[str]:
    counts = Counter(check.verdict for check in CHECKS)
    yield f"{len(CHECKS)} checks: {counts['same']} the same, {counts['better']} better, "
    yield f"{counts['differs']} differ.\n\n"
    yield "| what is tried | Hermes Agent 0.19.0 | the demo | |\n|---|---|---|---|\n"
    for check, theirs, ours in outcomes:
        told = f"{check.verdict}: {check.reason}" if check.reason else check.verdict
        yield f"| {check.label} | {theirs} | {ours} | {told} |\n"
