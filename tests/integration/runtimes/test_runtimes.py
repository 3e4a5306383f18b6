"""The package by other interpreters, options and event loops; docs/installation.md says which.

Its tables are what these runs gave. After a change that is meant, write them anew with ``make
runtimes``, which leaves the rows of interpreters that a machine does not have as they are.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.junit import read_report
from tests.support.requirements import needs
from tests.support.server import ROOT

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".runtimes"
PYODIDE = ENVIRONMENTS / "pyodide" / "node_modules" / "pyodide"
PAGE = ROOT / "docs" / "installation.md"
BEGIN, END = "<!-- make runtimes writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_RUNTIMES"))
OWN = "CPython 3.11"
"""The interpreter of the tests' own environment, where the page is written."""

# What runtimes differ in: tasks, threads, generators, cancellation. Left out are the contracts of
# a store's other operations, seven hundred tests of other SQL on the same way.
TESTS = [
    "asgi/test_stamping.py",
    "asgi/test_websockets.py",
    "contract/test_store_contract.py",
    "database/workers/test_thread_executor.py",
    "session/test_answers.py",
    "session/test_no_threads.py",
    "session/test_turn_and_response.py",
]
FEW = ["session/test_no_threads.py"]
HERE_ONLY = "not postgresql and not mysql and not mariadb"
RIGHT = "right"


class Runtime(NamedTuple):
    """An interpreter, by what the page calls it, and how it is started."""

    name: str
    environment: str | None = None
    options: tuple[str, ...] = ()
    loop: str = ""

    @property
    def row(self) -> str:
        """What begins its row."""
        loop = {"": "", "eager": ", `asyncio.eager_task_factory`", "uvloop": ", uvloop"}[self.loop]
        return f"{self.name}{''.join(f', `{each}`' for each in self.options)}{loop}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        if self.environment is None:
            return Path(sys.executable)
        return ENVIRONMENTS / self.environment / "bin" / "python"


RUNTIMES = [
    Runtime(OWN, options=("-O", "-X dev", "-W error"), loop="uvloop"),
    Runtime("CPython 3.12", "python3.12", loop="eager"),
    Runtime("CPython 3.13", "python3.13"),
    Runtime("CPython 3.14", "python3.14", loop="eager"),
]

Rows = dict[str, list[str]]
"""The cells of a table after the first, by the first."""


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Every row, filled in as the tests run."""
    return {}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Runtime, Future[list[str]]]]:
    """The runs of all interpreters, which begin together: most of their time they wait."""
    present = [each for each in RUNTIMES if each.python.exists()]
    with ThreadPoolExecutor(len(present)) as threads:
        yield {
            each: threads.submit(start, each, tmp_path_factory.mktemp("runtime"), TESTS)
            for each in present
        }


def start(runtime: Runtime, folder: Path, tests: list[str]) -> list[str]:
    """Run tests by it, and return its version, how many passed, and what was seen."""
    report = folder / "report.xml"
    options = [part for each in runtime.options for part in each.split(" ")]
    plugins = ["-p", "no:cacheprovider", "-p", "tests.integration.runtimes.loops"]
    # Of `-O` pytest says that assertions outside of tests are left out; those of tests are not.
    plugins += ["-W", "ignore::pytest.PytestConfigWarning"]
    chosen = ["-m", "not long", "-k", HERE_ONLY, *(f"tests/{each}" for each in tests)]
    written = [f"--basetemp={folder}/tests", f"--junitxml={report}"]
    done = subprocess.run(
        [runtime.python, *options, "-m", "pytest", "-q", *plugins, *written, *chosen],
        cwd=ROOT,
        env={
            **os.environ,
            "HERMES_TEST_LOOP": runtime.loop,
            "PYTEST_ADDOPTS": "",
            # Each process would else compile what it imports anew.
            "PYTHONDONTWRITEBYTECODE": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    cases = read_report(report)
    failed = [f"`{each.file}::{each.name}`" for each in cases if each.outcome == "failed"]
    passed = sum(each.outcome == "passed" for each in cases)
    assert passed, done.stdout
    assert bool(failed) == bool(done.returncode), done.stdout + done.stderr
    return [_version(runtime.python), f"{passed} tests", ", ".join(failed) or RIGHT]


def _version(python: Path) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.row)
def test_what_a_runtime_does(runtime: Runtime, request: pytest.FixtureRequest, rows: Rows) -> None:
    """Stores, the middleware and its answers are right by it, in memory and over SQLite."""
    if runtime.environment is None and sys.version_info[:2] != (3, 11):
        pytest.skip("the page has the options and loops with CPython 3.11")
    if not runtime.python.exists():  # CI has each interpreter in a job of its own, with every test
        pytest.skip(f"no {runtime.environment}: make .runtimes/{runtime.environment}/.installed")
    runs: dict[Runtime, Future[list[str]]] = request.getfixturevalue("runs")
    version, passed, seen = runs[runtime].result()
    rows[runtime.row] = [version, passed, seen, str(datetime.now(UTC).date())]
    assert seen == RIGHT


@pytest.mark.timeout(900)
def test_a_few_tests_pass_without_assertions_on_uvloop(tmp_path: Path) -> None:
    """A part of what the others run, which every run of the tests can afford."""
    runtime = Runtime("Python", options=("-O",), loop="uvloop")
    assert start(runtime, tmp_path, FEW)[2] == RIGHT


@pytest.mark.timeout(900)
def test_what_pyodide_does(rows: Rows) -> None:
    """A store in memory is served without a thread; what needs one says so."""
    needs(None if PYODIDE.exists() else "no Pyodide: make .runtimes/pyodide/.installed")
    packages = sysconfig.get_paths()["purelib"]
    done = subprocess.run(
        ["node", HERE / "pyodide.mjs", PYODIDE, packages, ROOT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rows["Pyodide"] = [found["versions"]]
    rows.update({name: [seen] for name, seen in found["seen"].items()})
    if not WRITES:
        shown = read_page()
        assert {name: shown.get(name) for name in found["seen"]} == {
            name: [seen] for name, seen in found["seen"].items()
        }


def test_the_page_has_what_was_run(rows: Rows) -> None:
    """`make runtimes` writes its rows, and leaves those that it did not run."""
    if WRITES:
        before, rest = PAGE.read_text().split(BEGIN)
        text = written({**read_page(), **rows})
        PAGE.write_text(f"{before}{BEGIN}{text}{END}{rest.split(END)[1]}")
    steps = {name: cells for name, cells in read_page().items() if len(cells) == 1}
    assert {name: cells for name, cells in steps.items() if cells == [RIGHT]}
    assert "Pyodide" in steps


def written(rows: Rows) -> str:
    """Return the tables as Markdown."""
    names = [each.row for each in RUNTIMES]
    steps = [name for name, cells in rows.items() if len(cells) == 1 and name != "Pyodide"]
    package = json.loads((HERE / "package.json").read_text())
    version = package["dependencies"]["pyodide"]
    run = [f"| {name} | {' | '.join(rows[name])} |" for name in names if name in rows]
    head = ["| runtime | version | passed | seen | on |", "|---|---|---|---|---|", *run, ""]
    lines = [
        *(head if run else ()),
        f"### Pyodide {version}",
        "",
        "| | seen |",
        "|---|---|",
        *(f"| {name} | {rows[name][0]} |" for name in ("Pyodide", *steps) if name in rows),
    ]
    return "\n" + "\n".join(lines) + "\n\n"


def read_page() -> Rows:
    """Return the rows of the page's tables."""
    shown: Rows = {}
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith("| ") and not line.startswith(("| runtime ", "| | ")):
            first, *others = line.strip("| ").split(" | ")
            shown[first] = others
    return shown
