"""HTTP/2 and HTTP/3 from end to end; docs/http2.md has what was seen.

After a change that is meant, write its tables anew with ``make http2``.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest

from tests.integration.http2 import probes
from tests.integration.http2.probes import ROWS, becomes
from tests.integration.http2.readers import READERS, reading
from tests.integration.http2.targets import Target, granian, hypercorn, proxied
from tests.integration.proxies.front.programs import PROGRAMS
from tests.integration.servers.commands import PYTHON, pinned
from tests.support import browser
from tests.support.server import ROOT

PAGE = ROOT / "docs" / "http2.md"
BEGIN, END = "<!-- make http2 writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_HTTP2"))
HTTP_3 = "hypercorn, HTTP/3"
NONE = "-"

TARGETS: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "hypercorn": hypercorn,
    "granian": granian,
    "nginx": partial(proxied, "nginx"),
    "HAProxy": partial(proxied, "HAProxy"),
    "Caddy": partial(proxied, "Caddy"),
}
RIGHT = {
    "ids on a page, a 500 and a 400": {"one"},
    "a client that cancels a quiet stream is noticed": {"at once"},
    "a client that closes its connection is noticed": {"at once"},
    "a WebSocket by an extended CONNECT": {"yes, stamped", "not offered"},
    "a push": {"in its request's session", "not offered"},
}
"""What holds over HTTP/2 wherever it is spoken."""
RESPONSE = "the version, and the id"
LEAVES = "it leaves, and the application hears it"
STOP = "a graceful stop while it reads"
WHAT = (RESPONSE, LEAVES, STOP)

Cells = dict[tuple[str, str], str]
"""What was seen, by the target and the row."""


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every cell, filled in as the tests run."""
    return {}


@contextmanager
def a_folder() -> Iterator[Path]:
    """Make a folder that a proxy's own user may go into, which pytest's is not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("name", TARGETS)
def test_what_http_2_does(name: str, cells: Cells) -> None:
    """Over HTTP/2 every response has one id, and a client that leaves is noticed."""
    with a_folder() as folder, TARGETS[name](folder) as target:
        seen = {row: look(target) for row, look in ROWS}
    assert {row: seen[row] for row, right in RIGHT.items() if seen[row] not in right} == {}
    cells.update({(name, row): cell for row, cell in seen.items()})
    if WRITES:
        return
    shown = read_page()
    told = [row for row, _ in ROWS if row in RIGHT]  # the others may change with a version
    assert {row: shown.get((name, row)) for row in told} == {row: seen[row] for row in told}


def test_what_http_3_does(cells: Cells) -> None:
    """Over HTTP/3 every response and handshake has one id, and a push its request's."""
    module = "tests.integration.http2.http3_driver"
    with a_folder() as folder, hypercorn(folder) as target:
        done = subprocess.run(
            [PYTHON, "-m", module, str(target.port), target.certificate],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, str] = json.loads(done.stdout)
    for row in ("ids on a page, a 500 and a 400", "a WebSocket by an extended CONNECT", "a push"):
        assert seen[row] in RIGHT[row]
    cells.update({(HTTP_3, row): seen.get(row, NONE) for row, _ in ROWS})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", TARGETS)
def test_what_a_client_sees(name: str, reader: str, cells: Cells) -> None:
    """A client reads one id over HTTP/2, its leaving is heard, and a graceful stop waits for it."""
    with a_folder() as folder, TARGETS[name](folder) as target:
        seen = seen_by(reader, target, folder)
    assert seen[RESPONSE] == "HTTP/2, one"
    assert seen[LEAVES] == "at once"
    cells.update({(name, f"{reader}: {what}"): cell for what, cell in seen.items()})


def test_what_chromium_sees_over_http_3(cells: Cells) -> None:
    """A page reads one id over HTTP/3."""
    with a_folder() as folder, hypercorn(folder) as target:
        seen = seen_by("Chromium", target, folder, quic=True)
    assert seen[RESPONSE] == "HTTP/3, one"
    cells.update({(HTTP_3, f"Chromium: {what}"): cell for what, cell in seen.items()})


def seen_by(reader: str, target: Target, folder: Path, *, quic: bool = False) -> dict[str, str]:
    """Have a client read and leave, and read while the target stops; return its cells."""
    stream, options = probes.new_name(), {"quic": quic}
    with reading(reader, target, f"/stream?name={stream}", folder / "leaves", **options) as client:
        assert client.comes("piece 0"), client.ends()
        head = client.text().split("data: ")[0].lower()
        client.leave()
        heard = becomes(lambda: target.tell(stream)["left"] is not None)
    with reading(reader, target, f"/gated?name={stream}", folder / "stops", **options) as client:
        assert client.comes("piece 0"), client.ends()
        target.stop()
        becomes(lambda: client.process.poll() is not None, 2)  # where it breaks off by that alone
        (target.folder / f"go-{stream}").touch()
        end = client.ends()
    assert ("piece 5" in client.text()) or end != "whole"
    version = {"h3": "HTTP/3", "h2": "HTTP/2"}.get(head.split()[0], head.split()[0].upper())
    ids = {1: "one"}.get(head.count("reader"), "not one")
    return dict(
        zip(
            WHAT,
            (f"{version}, {ids}", "at once" if heard else "not", end.split(":")[0]),
            strict=True,
        )
    )


def test_the_page_has_a_cell_for_each_case(cells: Cells) -> None:
    """Each target has a column, and each row a cell; `make http2` writes them."""
    if WRITES:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{written(cells)}{END}{rest.split(END)[1]}")
    shown = read_page()
    assert [(name, row) for name in TARGETS for row in rows_of() if (name, row) not in shown] == []


def rows_of() -> list[str]:
    """Return the names of all rows."""
    return [
        *(row for row, _ in ROWS),
        *(f"{reader}: {what}" for reader in READERS for what in WHAT),
    ]


def written(cells: Cells) -> str:
    """Return the tables as Markdown."""
    missing = [(name, row) for name in TARGETS for row in rows_of() if (name, row) not in cells]
    assert missing == []
    columns = ["hypercorn", HTTP_3, *(name for name in TARGETS if name != "hypercorn")]
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    text = [f"\nSeen on {datetime.now(UTC).date()} with {versions}.\n"]
    looks, clients = rows_of()[: len(ROWS)], rows_of()[len(ROWS) :]
    for title, heads, rows in [
        ("What each does", columns, looks),
        ("What clients see", columns, clients),
    ]:
        text += [
            f"## {title}\n",
            f"| | {' | '.join(heads)} |",
            f"|---|{'---|' * len(heads)}",
            *(
                f"| {row} | {' | '.join(cells.get((head, row), NONE) for head in heads)} |"
                for row in rows
            ),
            "",
        ]
    return "\n".join(text) + "\n"


def _versions() -> dict[str, str]:
    """Return the versions of what was run."""

    def output(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    servers = {name: pinned(name) for name in ("hypercorn", "h2", "aioquic", "granian", "uvicorn")}
    proxies = {each.name: each.read_version() for each in PROGRAMS if each.name in TARGETS}
    return {
        **servers,
        **proxies,
        "curl": output("curl", "--version").split()[1],
        "Node": output("node", "--version").strip().removeprefix("v"),
        "httpx2": httpx2.__version__,
        "Chromium": output(str(browser.program()), "--version").split()[1],
    }


def read_page() -> Cells:
    """Return the cells of the page's tables."""
    shown: Cells = {}
    heads: list[str] = []
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith("| | "):
            heads = line.removeprefix("| | ").removesuffix(" |").split(" | ")
        elif line.startswith("| "):
            row, *found = line.strip("| ").split(" | ")
            shown.update({(head, row): cell for head, cell in zip(heads, found, strict=True)})
    return shown
