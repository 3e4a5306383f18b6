"""The tables of docs/framework-stores.md, from the tests that run beside the frameworks.

A test there records with pytest's ``record_property`` what the page is to have: a defect is a row,
and so is what each reads of one's conversation. Suites are counted.
"""

import functools
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.junit import Case, read_report
from tests.support.server import ROOT

FOLDER = ROOT / "tests" / "adapters" / "frameworks"
PYTHON = ROOT / ".frameworks" / "bin" / "python"
PAGE = ROOT / "docs" / "framework-stores.md"

OUTCOMES = ("passed", "failed", "skipped")
PLACES = ("theirs", "memory", "sqlite")
"""The parameters of a test that runs over a framework's own store and over ours."""


class Run(NamedTuple):
    """A run of the tests beside the frameworks."""

    returncode: int
    output: str
    cases: list[Case]


class Suite(NamedTuple):
    """Tests that are run over a framework's own store and over ours.

    Attributes:
        framework: as the page has it.
        package: the framework's name as a package.
        own_store: the class of its own.
        tests: what they are, as the page has it.
        module: where they are.
        group: their class, of which each test counts; or the one test that records how many passed.
    """

    framework: str
    package: str
    own_store: str
    tests: str
    module: str
    group: str

    def first_cell(self) -> str:
        """Return the framework with its version, which begins the row."""
        return f"| {self.framework}<br>{self.package} {pinned(self.package)} |"


OWN_TESTS = Suite(
    "OpenAI Agents SDK", "openai-agents", "SQLiteSession",
    "its own tests of sessions, with our class in the place of its own", "", "",
)  # fmt: skip
"""What only ``make frameworks`` runs: it downloads them."""

SUITES = [
    Suite(
        "Claude Agent SDK", "claude-agent-sdk", "InMemorySessionStore",
        "its `run_session_store_conformance`", "test_claude_agent.py", "test_it_conforms",
    ),
    Suite(
        "LangGraph", "langgraph-checkpoint", "AsyncSqliteSaver",
        "`langgraph-checkpoint-conformance`",
        "test_langgraph.py", "test_langgraphs_conformance_suite",
    ),
    Suite(
        "pydantic-ai", "pydantic-ai-slim", "InMemoryConversationStore",
        "checks of ours", "test_pydantic_ai.py", "TestBesideTheirs",
    ),
    Suite(
        "Google ADK", "google-adk", "InMemorySessionService",
        "checks of ours, after its contract", "test_google_adk.py", "TestTheRules",
    ),
    Suite(
        "Agent Framework", "agent-framework-core", "FileHistoryProvider",
        "checks of ours", "test_agent_framework.py", "TestBesideTheirs",
    ),
    Suite(
        "LlamaIndex", "llama-index-core", "SQLAlchemyChatStore",
        "checks of ours", "test_llama_index.py", "TestBesideTheirs",
    ),
]  # fmt: skip


@functools.cache
def run() -> Run:
    """Run the tests where the frameworks are, once, in one process: most of them import several."""
    options = ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "--confcutdir", "."]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [PYTHON, "-m", "pytest", *options, f"--junitxml={report}"],
            cwd=FOLDER,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        cases = read_report(report) if report.exists() else []
    return Run(done.returncode, done.stdout + done.stderr, cases)


def pinned(name: str) -> str:
    """Return the version of a framework that the adapters are tested with."""
    requirements = (FOLDER / "requirements.txt").read_text()
    found = re.search(rf"(?m)^{re.escape(name)}==(\S+)$", requirements)
    assert found is not None, name
    return found[1]


def page_now(text: str) -> str:
    """Return the page's text with what the modules' runs have come to.

    The row of `OWN_TESTS` stays as it is, if it is of the version that is installed.
    """
    begin = OWN_TESTS.first_cell()
    kept = [line for line in text.splitlines(keepends=True) if line.startswith(begin)]
    rows = [*kept[:1], *(suite_row(suite, _counts(suite)) for suite in SUITES)]
    text = with_block(text, "suites", [*SUITES_HEAD, *rows])
    cases = run().cases
    text = with_block(text, "defects", _defects(cases))
    return with_block(text, "pairs", _pairs(cases))


def with_block(text: str, name: str, lines: Iterable[str]) -> str:
    """Return a page's text with other lines in one of the blocks that a run writes."""
    begin, end = f"<!-- make frameworks writes the {name} from here -->\n", "<!-- to here -->\n"
    before, found, rest = text.partition(begin)
    assert found, f"the page has no place for the {name}"
    return "".join([before, begin, "\n", *lines, "\n", end, rest.partition(end)[2]])


# Suites

SUITES_HEAD = [
    "| framework | tests | with its own store | with ours, in memory | with ours, SQLite |\n",
    "|---|---|---|---|---|\n",
]


class Counts(NamedTuple):
    """How many tests of a suite had each outcome.

    Attributes:
        outcomes: by the outcome's name.
        parts: how many there are of each kind, as the page has it.
    """

    outcomes: Mapping[str, int]
    parts: str = ""

    def cell(self) -> str:
        """Return what the table has of them."""
        numbers = {name: self.outcomes.get(name, 0) for name in OUTCOMES}
        told = ", ".join(f"{count} {name}" for name, count in numbers.items() if count)
        return f"{told}: {self.parts}" if self.parts else told or "-"


def suite_row(suite: Suite, counts: Mapping[str, Counts]) -> str:
    """Return a row of the table of suites, from the counts by place."""
    theirs, memory, sqlite = (counts.get(place, Counts({})).cell() for place in PLACES)
    cells = (suite.tests, f"`{suite.own_store}`: {theirs}", memory, sqlite)
    return f"{suite.first_cell()} {' | '.join(cells)} |\n"


def _counts(suite: Suite) -> dict[str, Counts]:
    module = suite.module.removesuffix(".py")
    cases = [
        case for case in run().cases if case.file == module and case.name.startswith(suite.group)
    ]
    if not suite.group.startswith("Test"):
        told = [case.recorded for case in cases if "place" in case.recorded]
        return {
            each["place"]: Counts(
                {name: int(each[name]) for name in OUTCOMES}, each.get("parts", "")
            )
            for each in told
        }
    return {
        place: Counts(Counter(case.outcome for case in cases if f"[{place}]" in case.name))
        for place in PLACES
    }


# Defects


def _defects(cases: Iterable[Case]) -> Iterator[str]:
    yield "| framework, and its own store | what is done | its own store | ours |\n"
    yield "|---|---|---|---|\n"
    for case in cases:
        if "defect" in case.recorded:
            told = case.recorded
            cells = (told["framework"], told["defect"], told["theirs"], told["ours"])
            yield f"| {' | '.join(cells)} |\n"


# Pairs


def _pairs(cases: Iterable[Case]) -> Iterator[str]:
    rows = [case.recorded for case in cases if "writer" in case.recorded]
    readers = [row["writer"] for row in rows]
    yield f"| written by | {' | '.join(readers)} |\n|---|{'---|' * len(readers)}\n"
    for row in rows:
        yield f"| {row['writer']} | {' | '.join(row.get(each, '-') for each in readers)} |\n"


# A framework's own tests


def with_own_tests(text: str, counts: Mapping[str, Counts], failed: Mapping[str, list[str]]) -> str:
    """Return a page's text with how `OWN_TESTS` ended, and which failed, by the reason why."""
    row = re.compile(rf"(?m)^\| {re.escape(OWN_TESTS.framework)}<br>.*\n")
    text, replaced = row.subn(lambda _: suite_row(OWN_TESTS, counts), text)
    assert replaced == 1, "the page has no row for them"
    return with_block(text, "failures", _failures(failed))


def _failures(failed: Mapping[str, list[str]]) -> Iterator[str]:
    for why, names in failed.items():
        tests = Counter(map(_test, names))
        told = [f"`{name}`" + (f" ({count})" if count > 1 else "") for name, count in tests.items()]
        yield f"- {len(names)}: {why}. {', '.join(told)}\n"


def _test(name: str) -> str:
    file, _, test = name.partition("[")[0].partition("::")
    return f"{file}.py::{test}"
