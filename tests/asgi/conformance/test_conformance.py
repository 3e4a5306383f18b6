"""The promise "every response", case by case and position by position, on both event loops.

The table in ``docs/conformance.md`` is what these runs gave. After a change that is meant, write
it anew with ``make conformance``.
"""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from starlette.types import ASGIApp

from tests.asgi.conformance import other_apps, peers, starlette_apps
from tests.asgi.conformance.driving import CASES, THREAD, Case, Marks, drive, judge
from tests.support.server import ROOT

# What other people's frameworks and middlewares warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

TABLE = ROOT / "docs" / "conformance.md"
BACKENDS = ("asyncio", "trio")

FRAMEWORK_ERRORS = frozenset({"/error", "/group", "/handler"})
RAW = frozenset({"/bare", "/generator", "/trailers"})
STAMPED, WARNED, UNREACHED, MISSED, NONE = "yes", "warns", "unseen", "no", "-"


OUR_MARKS = peers.field(b"x-hermes-session-id")


@dataclass(frozen=True)
class Position:
    """Where a middleware stands.

    Attributes:
        name: the column's head.
        build: makes the application for an event loop.
        marks: what the middleware has put on a starting message.
        warned: cases whose response is made outside of the position, after it was passed.
        unreached: cases that are answered before the position is reached.
        absent: paths of cases that the framework has not, or makes no difference in.
        backends: the event loops that the framework runs on.
        ours: whether a cell that is not as it should be is a failure.
    """

    name: str
    build: Callable[[str], ASGIApp]
    marks: Marks = OUR_MARKS
    warned: frozenset[str] = frozenset()
    unreached: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    backends: tuple[str, ...] = BACKENDS
    ours: bool = True


def on(build: Callable[[], ASGIApp]) -> Callable[[str], ASGIApp]:
    return lambda _: build()


POSITIONS = [
    Position("wrapped around Starlette", on(starlette_apps.wrapped)),
    Position("`install`, Starlette", on(starlette_apps.installed)),
    Position("`install`, FastAPI", on(starlette_apps.installed_in_fastapi)),
    Position("three stacked", on(starlette_apps.stacked)),
    Position(
        "`add_middleware`",
        on(starlette_apps.added),
        warned=FRAMEWORK_ERRORS | {"/upload"},
    ),
    Position("in a `Mount`", on(starlette_apps.mounted)),
    Position(
        "on each `Route`",
        on(starlette_apps.on_routes),
        warned=FRAMEWORK_ERRORS | {"/upload"},
        unreached=frozenset({"/no/such/path", "/json DELETE"}),
    ),
    Position(
        "bare function",
        on(other_apps.bare),
        absent=frozenset({"/teapot", "/upload", "/handler", "/json DELETE"}),
    ),
    Position(
        "wrapped around Litestar",
        on(other_apps.litestar_app),
        absent=RAW | {"/group", "/handler", "/denied"},
    ),
    Position(
        "wrapped around Quart",
        other_apps.quart_app,
        absent=RAW | {"/group", "/handler"},
    ),
    Position(
        "wrapped around Django",
        on(other_apps.django_app),
        absent=RAW | {"/group", "/handler", "/ws", "/denied", "/teapot", "/upload"},
        backends=("asyncio",),
    ),
]

PEERS = [
    Position(
        "asgi-correlation-id",
        on(peers.correlation_id),
        marks=peers.field(b"x-request-id"),
        ours=False,
    ),
    Position(
        "starsessions",
        on(peers.starsessions),
        marks=peers.field(b"set-cookie"),
        absent=frozenset({"/own"}),
        ours=False,
    ),
    Position(
        "Starlette's sessions",
        on(peers.starlette_sessions),
        marks=peers.field(b"set-cookie"),
        absent=frozenset({"/own"}),
        ours=False,
    ),
    Position("naive BaseHTTPMiddleware", on(peers.naive), ours=False),
]


def key(case: Case) -> str:
    return case.path if case.method != "DELETE" else f"{case.path} {case.method}"


def run(position: Position, case: Case, backend: str) -> tuple[str, int]:
    """Return the cell, and how many warnings there were."""
    warnings: list[logging.LogRecord] = []

    def note(record: logging.LogRecord) -> bool:
        warnings.append(record)
        return False

    log = logging.getLogger("hermes_session_mw")
    log.addFilter(note)
    try:
        outcome = drive(position.build(backend), case, backend)
    finally:
        log.removeFilter(note)
    if judge(outcome, case, position.marks):
        return STAMPED, len(warnings)
    if warnings:
        return WARNED, len(warnings)
    return (UNREACHED if key(case) in position.unreached else MISSED), 0


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing_behind() -> Iterator[None]:
    """Collect the frameworks' unclosed files here, so that they do not warn in a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str], str]:
    """Every cell of the table, filled in as the tests run."""
    return {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("position", [*POSITIONS, *PEERS], ids=lambda position: position.name)
def test_a_cell(position: Position, case: Case, cells: dict[tuple[str, str], str]) -> None:
    """Ours is stamped once, or out of sight: one warning says so, if it is called at all."""
    if key(case) in position.absent:
        cells[position.name, case.name] = NONE
        return
    results = sorted({run(position, case, backend) for backend in position.backends})
    if position.ours:
        assert results == [expected(position, case)]
    cells[position.name, case.name] = results[0][0]  # "no" on one event loop comes before "yes"


def expected(position: Position, case: Case) -> tuple[str, int]:
    """Return what must come out of ``run`` in one of our positions."""
    if key(case) in position.warned:
        return WARNED, 1
    return (UNREACHED if key(case) in position.unreached else STAMPED), 0


@pytest.mark.parametrize("position", POSITIONS, ids=lambda position: position.name)
def test_the_id_is_the_clients(position: Position) -> None:
    """What is stamped is the id that the client sent, in every position."""
    for backend in position.backends:
        outcome = drive(position.build(backend), CASES[0], backend)
        assert position.marks(outcome.starts[0]) == [THREAD]


def test_the_table_in_the_docs_is_what_ran(cells: dict[tuple[str, str], str]) -> None:
    """The documented table is this run's."""
    text = table(cells)
    if os.environ.get("HERMES_WRITE_CONFORMANCE"):
        TABLE.write_text(text)
    assert TABLE.read_text() == text


def table(cells: dict[tuple[str, str], str]) -> str:
    """Return the whole page, with what ``make applications`` writes as it is."""
    ours = [INTRODUCTION, *_rows(POSITIONS, cells), "", BESIDE, *_rows(PEERS, cells), "", ""]
    _, head, applications = TABLE.read_text().partition("## Applications\n")
    return "\n".join(ours) + head + applications


def _rows(positions: list[Position], cells: dict[tuple[str, str], str]) -> list[str]:
    heads = [f"{p.name}{' (asyncio)' if len(p.backends) == 1 else ''}" for p in positions]
    return [
        f"| case | {' | '.join(heads)} |",
        f"|---|{'---|' * len(positions)}",
        *[
            f"| {case.name} | {' | '.join(cells[p.name, case.name] for p in positions)} |"
            for case in CASES
        ],
    ]


INTRODUCTION = """\
# Conformance: every response is stamped

The middleware puts the session id on every response, wherever it is mounted. This table shows which
cases were run, and in which positions. `make conformance` writes it from the runs of
`tests/asgi/conformance`, and the tests fail where a result differs from its cell. Each case is sent
as a raw ASGI scope, under asyncio and under trio.

- `yes`: one response began, with the expected status and exactly one id: the client's.
- `warns`: the response is made outside of the middleware's position, so it cannot be stamped; one
  warning in the log names the cause and the remedy.
- `unseen`: the framework's outer layers answer before the request reaches the middleware.
- `no`: the response went out with no mark, with two, or otherwise not as expected.
- `-`: the framework has no such case.

`tests/integration/servers` holds the same promise over sockets (uvicorn on h11 and httptools,
hypercorn on asyncio and trio, granian), and `make fuzz` against a million generated header values.
[Servers and platforms](servers.md) has where a server falls short by itself, such as granian 2.8
and daphne 4.2, which send no headers with a WebSocket's accept, whoever sets them.
"""

BESIDE = """\
## The same cases with comparable middlewares

Each was added with `add_middleware` to the same Starlette application, as its documentation shows.
What counts is its own mark: the request id's header, the session's cookie, the header.
"""


def test_every_case_is_in_the_table() -> None:
    """No two cases share a row, and no two positions a column."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({position.name for position in POSITIONS + PEERS}) == len(POSITIONS + PEERS)
