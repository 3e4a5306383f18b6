"""What caches are told of wrapped frameworks' files, and by which path they are excluded.

The table of docs/caches.md is what these runs gave. After a change that is meant, write it anew
with ``make assets``.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from hermes_session_mw import SESSION_HEADER
from tests.support.requirements import needs
from tests.support.server import ROOT, free_port, serving

PYTHON = ROOT / ".assets" / "bin" / "python"
PAGE = ROOT / "docs" / "caches.md"
BEGIN, END = "<!-- make assets writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_ASSETS"))
LINK = re.compile(r"""["'(]([\w./@~?=:%-]+\.(?:js|css)\b[\w.?=&%-]*)["')]""")


class Framework(NamedTuple):
    """A framework: its name, its distribution, where its page is, and which path is excluded."""

    name: str
    package: str
    page: str
    exclude: str


FRAMEWORKS = [
    Framework("NiceGUI", "nicegui", "/", "/_nicegui/VERSION"),
    Framework("Datasette", "datasette", "/", "/-/static"),
    Framework("Shiny", "shiny", "/", "/lib"),
    Framework("marimo", "marimo", "/", "/assets"),
    Framework("Gradio", "gradio", "/", "/assets"),
    Framework("Panel", "panel", "/", "/static"),
    Framework("Chainlit", "chainlit", "/chat", "/chat/assets"),
]
COLUMNS = ("`exclude`", "a file, excluded as by itself", "not excluded")

Cells = dict[str, tuple[str, ...]]
"""The rows, by the framework's name."""


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every row, filled in as the tests run."""
    return {}


@contextmanager
def served(framework: Framework, folder: Path, *exclude: str) -> Iterator[httpx2.Client]:
    """Serve its application, with a path excluded or not."""
    folder.mkdir()
    port = free_port()
    command = [str(PYTHON), "-m", "tests.integration.assets.serve", framework.package, str(port)]
    line = [*command, str(folder), *exclude]
    variables = {"GRADIO_ANALYTICS_ENABLED": "False", "HOME": str(folder)}
    with (
        serving(line, port, folder, ready=framework.page, **variables),
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True) as client,
    ):
        yield client


def told(response: httpx2.Response) -> str:
    """Tell what a response says about caching, and whether it has an id."""
    assert response.status_code == 200, response.url
    ids = response.headers.get_list(SESSION_HEADER)
    said = response.headers.get("cache-control")
    return f"{f'`{said}`' if said else 'nothing'}, {'an id' if ids else 'no id'}"


def version(framework: Framework) -> str:
    """Return the version that is installed."""
    code = f"import importlib.metadata as m; print(m.version('{framework.package}'))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.package)
def test_files_are_left_to_caches(framework: Framework, tmp_path: Path, cells: Cells) -> None:
    """Excluded, a framework's files have no id and their own directives, and its page has an id."""
    needs(None if PYTHON.exists() else "no frameworks: make .assets/.installed")
    exclude = framework.exclude.replace("VERSION", version(framework))
    with served(framework, tmp_path / "stamped") as client:
        page = client.get(framework.page)
        files = {str(page.url.join(found)) for found in LINK.findall(page.text)}
        inside = sorted(file for file in files if httpx2.URL(file).path.startswith(f"{exclude}/"))
        assert inside, files
        file = httpx2.URL(inside[0]).raw_path.decode()
        stamped = client.get(file)
    with served(framework, tmp_path / "excluded", exclude) as client:
        left = client.get(file)
        assert client.get(framework.page).headers.get_list(SESSION_HEADER)
    own = told(left)
    assert own.endswith(", no id")
    assert told(stamped).endswith(", an id")
    seen = f"`{framework.exclude}`", own, told(stamped)
    cells[framework.name] = (version(framework), *seen)
    if not WRITES:
        assert read_page()[framework.name] == cells[framework.name]


def test_the_page_has_a_row_for_each_framework(cells: Cells) -> None:
    """`make assets` writes them."""
    if WRITES:
        before, rest = PAGE.read_text().split(BEGIN)
        day = datetime.now(UTC).date()
        text = [
            f"\nSeen on {day}.\n",
            f"| | version | {' | '.join(COLUMNS)} |",
            f"|---|---|{'---|' * len(COLUMNS)}",
            *(f"| {each.name} | {' | '.join(cells[each.name])} |" for each in FRAMEWORKS),
            "\n",
        ]
        PAGE.write_text(f"{before}{BEGIN}{chr(10).join(text)}{END}{rest.split(END)[1]}")
    assert set(read_page()) == {framework.name for framework in FRAMEWORKS}


def read_page() -> Cells:
    """Return the rows of the page's table."""
    shown: Cells = {}
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            name, *rest = line.strip("| ").split(" | ")
            shown[name] = tuple(rest)
    return shown
