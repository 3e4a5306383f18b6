"""Each proxy by the configuration that docs/proxies.md has for it, and as it comes.

The tables of that page are what these runs gave. After a change that is meant, write them anew
with ``make proxies``.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from tests.integration.proxies.front import probes
from tests.integration.proxies.front.probes import Probe
from tests.integration.proxies.front.programs import PAGE, PROGRAMS, Kind, Program, running
from tests.support.server import free_port, serving

BEGIN, END = "<!-- make proxies writes from here -->\n", "<!-- to here -->\n"
APP = "tests.integration.proxies.front.app:app"
NO_CACHE = "-"


class Row(NamedTuple):
    """One row: what is looked at, how, and whether a cell of the second table is right."""

    name: str
    probe: Probe
    is_right: Callable[[str], bool] = bool


def is_at_once(cell: str) -> bool:
    return cell == "at once"


def is_noticed(cell: str) -> bool:
    return cell.startswith("at ")


ROWS = [
    Row("two `X-Hermes-Session-Id` lines reach the application as", probes.two_lines),
    Row("an id of 256 characters", probes.longest_id, lambda cell: cell == "passes"),
    Row("a header field that is too large", probes.large_head),
    Row("a body that is too large", probes.large_body),
    Row("the pieces of a stream come", probes.pieces, is_at_once),
    Row("a client that leaves a GET is noticed", probes.leaves_get, is_noticed),
    Row("a client that leaves a POST is noticed", probes.leaves_post, is_noticed),
    Row("a stream in whose middle the application raises is", probes.broken),
    Row("WebSockets", probes.socket_, lambda cell: cell == "yes, stamped"),
]
CACHED = [
    Row("what says nothing about caching", probes.cached_ours, lambda cell: cell == "not kept"),
    Row("what says `public`", probes.cached_public),
    Row("excluded, says nothing", probes.cached_silent),
    Row("excluded, says `public`", probes.cached_static, lambda cell: cell == "handed on"),
]
HTTP_2 = "HTTP/2 for clients"
DOWN = "the application is down"
VERSION = "version"

Cells = dict[tuple[str, Kind, str], str]
"""What was seen, by the proxy, its configuration and the row."""


@pytest.fixture(scope="module")
def app_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an application that the proxies stand before."""
    port, folder = free_port(), tmp_path_factory.mktemp("app")
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(port), "--log-level", "critical"]
    with serving(command, port, folder, ready="/told/lines"):
        yield port


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every cell, filled in as the tests run."""
    return {}


def looked_at(program: Program, folder: Path, app_port: int, kind: Kind) -> dict[str, str]:
    """Return the cells of a proxy with one of its configurations."""
    seen = {VERSION: program.read_version()}
    if kind == "caching" and not program.caches:
        return seen | {row.name: NO_CACHE for row in CACHED}
    with running(program, folder / "proxy", app_port, kind) as ports:
        if kind == "caching":
            return seen | {row.name: row.probe(ports) for row in CACHED}
        rows = [(row.name, row.probe) for row in ROWS]
        rows.append((HTTP_2, partial(probes.http_2, tls=program.tls)))
        seen.update({name: probe(ports) for name, probe in rows})
    with running(program, folder / "down", free_port(), kind) as ports:
        seen[DOWN] = probes.down(ports)
    return seen


CASES: list[tuple[Program, Kind]] = [
    *((program, "right") for program in PROGRAMS),
    *((program, "caching") for program in PROGRAMS),
    *((program, "as it comes") for program in PROGRAMS),
]


@pytest.mark.parametrize(
    ("program", "kind"), CASES, ids=[f"{kind}-{program.name}" for program, kind in CASES]
)
def test_what_a_proxy_does(program: Program, kind: Kind, app_port: int, cells: Cells) -> None:
    """By the page's configuration it does right, and in any case it does what the page says."""
    with TemporaryDirectory() as folder:  # not pytest's, which others may not go into
        Path(folder).chmod(0o755)
        seen = looked_at(program, Path(folder), app_port, kind)
    cells.update({(program.name, kind, name): cell for name, cell in seen.items()})
    if kind != "as it comes":
        wrong = [row.name for row in [*ROWS, *CACHED] if not is_right(row, seen.get(row.name))]
        assert wrong == []
    told = read_page()
    version = seen.pop(VERSION)
    if not os.environ.get("HERMES_WRITE_PROXIES") and told[program.name, VERSION] == version:
        assert {name: told.get((program.name, kind, name)) for name in seen} == seen


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_application_sees_its_own_url(program: Program, app_port: int) -> None:
    """By the page's configuration it sees the scheme, name and address of its client."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with running(program, Path(folder) / "proxy", app_port) as ports:
            seen = [probes.seen_url(ports, "http", claimed="https" if program.tls else "")]
            seen += [probes.seen_url(ports, "https", claimed="http")] if program.tls else []
    name = "chat.example" if program.name == "Squid" else "localhost"
    schemes = ["http", "https"] if program.tls else ["http"]
    assert seen == [(scheme, name, "127.0.0.1") for scheme in schemes]


def test_a_caddy_that_is_told_to_flush_hears_of_no_client_that_leaves(app_port: int) -> None:
    """With ``flush_interval -1`` a leaving client is noticed when something is written."""
    (caddy,) = (program for program in PROGRAMS if program.name == "Caddy")
    flushing = ("127.0.0.1:8000", "127.0.0.1:8000 {\nflush_interval -1\n}")
    told_to_flush = replace(caddy, replaced=[flushing])
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with running(told_to_flush, Path(folder) / "proxy", app_port, "as it comes") as ports:
            assert probes.leaves_get(ports) == "at a later piece"


def is_right(row: Row, cell: str | None) -> bool:
    return cell in {None, NO_CACHE} or row.is_right(str(cell))


def test_the_page_has_a_cell_for_each_case(cells: Cells) -> None:
    """Each proxy has a column, and each of its rows a cell; `make proxies` writes them."""
    if os.environ.get("HERMES_WRITE_PROXIES"):
        before, rest = PAGE.read_text().split(BEGIN)
        _, after = rest.split(END)
        PAGE.write_text(f"{before}{BEGIN}{written(cells)}{END}{after}")
    told = read_page()
    for program, kind in CASES:
        rows = [row.name for row in (CACHED if kind == "caching" else ROWS)]
        assert [name for name in rows if (program.name, kind, name) not in told] == []


TITLES: dict[Kind, str] = {
    "right": "## With the configurations of this page",
    "caching": "## What a cache keeps",
    "as it comes": "## With nothing but the address of the application",
}


def written(cells: Cells) -> str:
    """Return the tables as Markdown."""
    names = [program.name for program in PROGRAMS]
    versions = [cells[name, "right", VERSION] for name in names]
    day = datetime.now(UTC).date()
    text = [f"\nSeen on {day} with Debian's packages, before uvicorn.\n"]
    for kind, title in TITLES.items():
        heads = [f"{name} {version}" for name, version in zip(names, versions, strict=True)]
        rows = [name for at, of, name in cells if (at, of) == (names[0], kind) and name != VERSION]
        text += [
            f"{title}\n",
            f"| | {' | '.join(heads)} |",
            f"|---|{'---|' * len(heads)}",
            *(
                f"| {row} | {' | '.join(cells[name, kind, row] for name in names)} |"
                for row in rows
            ),
            "",
        ]
    return "\n".join(text) + "\n"


def read_page() -> dict[tuple[str, ...], str]:
    """Return the cells of the page's tables, and the versions by the names alone."""
    told: dict[tuple[str, ...], str] = {}
    text = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    for kind, title in TITLES.items():
        if title not in text:
            continue
        head, _, *rows = re.findall(
            r"^\|.*\|$", text.split(title)[1].split("\n## ")[0], re.MULTILINE
        )
        columns = [cell.strip().split(" ") for cell in head.split("|")[2:-1]]
        for name, version in columns:
            told[name, VERSION] = version
        for row in rows:
            first, *others = [cell.strip() for cell in row.split(" | ")]
            for (name, _), cell in zip(columns, others, strict=True):
                told[name, kind, first.removeprefix("| ")] = cell.removesuffix(" |")
    return told
