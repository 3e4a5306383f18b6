"""What becomes of a store by each driver: those that are taken work, and the others are refused.

The table of docs/databases.md is what these runs gave. After a change that is meant, write it anew
with ``make drivers``.
"""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from hermes_session_mw.database.drivers import _DRIVERS
from tests.support.own_databases import own_database
from tests.support.requirements import needs, needs_driver
from tests.support.server import ROOT

REFUSED_DRIVERS = ROOT / ".drivers"
PAGE = ROOT / "docs" / "databases.md"
BEGIN, END = "<!-- make drivers writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_DRIVERS"))


class Driver(NamedTuple):
    """A driver by its URL's beginning, its distribution, and a module in sqlite3's place."""

    name: str
    package: str | None
    module: str | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.module}" if self.module else self.name

    @property
    def row(self) -> str:
        """What the page calls it."""
        told = f", `module={self.module.partition('.')[0]}`" if self.module else ""
        return f"`{self.name}://`{told}"


TAKEN = [
    Driver("sqlite", None),
    Driver("sqlite+aiosqlite", "aiosqlite"),
    Driver("postgresql+psycopg", "psycopg"),
    Driver("postgresql+psycopg_async", "psycopg"),
    Driver("postgresql+psycopg2", "psycopg2-binary"),
    Driver("postgresql+asyncpg", "asyncpg"),
    Driver("mysql+pymysql", "pymysql"),
    Driver("mysql+asyncmy", "asyncmy"),
]
REFUSED = [
    Driver("sqlite", "pysqlite3-binary", "pysqlite3.dbapi2"),
    Driver("sqlite+pysqlcipher", "sqlcipher3"),
    Driver("sqlite+turso", "pyturso"),
    Driver("sqlite+aioturso", "pyturso"),
    Driver("sqlite+libsql", "sqlalchemy-libsql"),
    Driver("postgresql+pg8000", "pg8000"),
    Driver("mysql+aiomysql", "aiomysql"),
    Driver("mysql+mysqlconnector", "mysql-connector-python"),
]

Cells = dict[str, tuple[str, str, str]]
"""The rows, by what the page calls a driver: its version, what a store does, and what it would."""


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every row, filled in as the tests run."""
    return {}


def probe(
    request: pytest.FixtureRequest, driver: Driver, folder: Path, *options: str
) -> dict[str, str | None]:
    """Use a store by it, in a process of its own, on an empty database of its own."""
    module = ("--module", driver.module) if driver.module else ()
    with own_database(request, driver.name, folder) as made:
        url = made.set(password="a key", host="") if driver.name.endswith("cipher") else made
        line = [sys.executable, "-m", "tests.integration.drivers.probe"]
        done = subprocess.run(
            [*line, url.render_as_string(hide_password=False), *module, *options],
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{REFUSED_DRIVERS}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.stdout, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def seen(failed: str | None) -> str:
    """Tell the step that failed, and by which of the driver's errors where that is known."""
    if failed is None:
        return "the core works"
    step, error, text = failed.split(": ", 2)
    own = re.match(r"the session store failed \((.*?)\)", text)
    return f"fails at {step}: {own[1] if own else error}"


def version(driver: Driver) -> str:
    """Return the version that is installed, of Python's own SQLite its library's."""
    if driver.package is None:
        import sqlite3  # noqa: PLC0415

        return f"SQLite {sqlite3.sqlite_version}"
    (found,) = [
        each.version
        for each in metadata.distributions(path=[str(REFUSED_DRIVERS), *sys.path])
        if _normal(each.name) == _normal(driver.package)
    ][:1]
    return f"{driver.package} {found}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("driver", TAKEN, ids=str)
def test_a_driver_that_is_taken_works(
    driver: Driver, request: pytest.FixtureRequest, tmp_path: Path, cells: Cells
) -> None:
    """The core of the contract holds on a real database, also where it closes what is pooled."""
    needs_driver(driver.name)
    assert probe(request, driver, tmp_path) == {"failed": None}
    cells[driver.row] = (version(driver), "works", "")


@pytest.mark.parametrize("driver", REFUSED, ids=str)
def test_a_driver_that_is_refused_is_so_where_it_is_installed(
    driver: Driver, request: pytest.FixtureRequest, tmp_path: Path, cells: Cells
) -> None:
    """The refusal is a text that names what to write; the page says what it saves from."""
    installed = (REFUSED_DRIVERS / ".installed").exists()
    needs(None if installed else "no drivers: make .drivers/.installed")
    refusal = probe(request, driver, tmp_path)["refused"]
    assert refusal is not None
    assert re.search(r"not among .* that are tested; (write \w+(\+\w+)?://|leave it out)", refusal)
    (tmp_path / "anyway").mkdir()
    failed = probe(request, driver, tmp_path / "anyway", "--anyway")["failed"]
    cells[driver.row] = (version(driver), "refused", seen(failed))
    if not WRITES:
        assert read_page()[driver.row][1:] == cells[driver.row][1:]


def test_the_page_has_a_row_for_each_driver(cells: Cells) -> None:
    """`make drivers` writes them; no driver that is taken is left out."""
    if WRITES:
        before, rest = PAGE.read_text().split(BEGIN)
        day = datetime.now(UTC).date()
        text = [
            f"\nSeen on {day}, with SQLAlchemy {metadata.version('sqlalchemy')}.\n",
            "| | version | a store | taken all the same |",
            "|---|---|---|---|",
            *(f"| {each.row} | {' | '.join(cells[each.row])} |" for each in (*TAKEN, *REFUSED)),
            "\n",
        ]
        PAGE.write_text(f"{before}{BEGIN}{chr(10).join(text)}{END}{rest.split(END)[1]}")
    assert set(read_page()) == {each.row for each in (*TAKEN, *REFUSED)}
    named = {f"{name}+{driver}" for name in _DRIVERS for driver in _DRIVERS[name]}
    named = {each.replace("mariadb", "mysql").replace("+pysqlite", "") for each in named}
    assert named == {each.name for each in TAKEN}


def read_page() -> Cells:
    """Return the rows of the page's table."""
    shown: Cells = {}
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith("| `"):
            name, installed, store, seen = [cell.strip() for cell in line.split("|")[1:-1]]
            shown[name] = (installed, store, seen)
    return shown
