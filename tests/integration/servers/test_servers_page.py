"""What each server does with the id, with streams and with SIGTERM; docs/servers.md says it.

After a change that is meant, write its tables anew with ``make servers``.
"""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import websockets.exceptions
from websockets.sync.client import connect

from hermes_session_mw import SESSION_HEADER, is_session_id
from tests.integration.servers.commands import COMMANDS, MISSING, PYTHON, Command
from tests.support.requirements import needs
from tests.support.server import HUNG, ROOT, free_port, serving

PAGE = ROOT / "docs" / "servers.md"
BEGIN, END = "<!-- make servers writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_SERVERS"))
WORKER_GRACE = '_shutdown": 20'
WITHIN = 10.0
"""Seconds after which a server that was told to stop counts as waiting."""

Cells = dict[tuple[str, str], str]
"""What was seen, by the server and the row."""


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every cell, filled in as the tests run."""
    return {}


@dataclass
class Server:
    """A server that answers."""

    command: Command
    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    def get(self, path: str, session_id: str, **options: object) -> httpx2.Response:
        """Get a page with an id."""
        headers = {SESSION_HEADER: session_id}
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=60)

    def handshake(self, path: str, session_id: str) -> str:
        """Tell what answers a WebSocket's handshake, and whether it has the id."""
        url = f"ws://127.0.0.1:{self.port}{path}"
        try:
            with connect(
                url, additional_headers={SESSION_HEADER: session_id}, open_timeout=60
            ) as socket:
                assert socket.response is not None
                response = socket.response
        except websockets.exceptions.InvalidStatus as exc:
            response = exc.response
        ids = response.headers.get_all(SESSION_HEADER)
        assert len(ids) <= 1
        return f"{response.status_code}{', stamped' if ids else ', no id'}"

    def stored(self, session_id: str) -> list[dict[str, str]]:
        """Return a session's messages in the database, oldest first."""
        found = self._rows(
            f"SELECT body FROM hermes_messages WHERE session_id = '{session_id}' ORDER BY seq"
        )
        return [json.loads(text) for (text,) in found]

    def logged(self) -> int:
        """Return how many events of answers are in the database."""
        return len(self._rows("SELECT * FROM hermes_answer_events"))

    def _rows(self, statement: str) -> list[tuple[str]]:
        with closing(sqlite3.connect(self.folder / "sessions.db")) as raw:
            try:
                return raw.execute(statement).fetchall()
            except sqlite3.OperationalError as exc:  # nothing was stored at all
                if "no such table" not in str(exc):
                    raise
                return []


@contextmanager
def served(command: Command, folder: Path, *, grace: bool) -> Iterator[Server]:
    """Serve the application until the block ends, with the page's worker at hand."""
    folder.mkdir()
    worker = PAGE.read_text().split("```python worker.py\n")[1].split("```")[0]
    assert WORKER_GRACE in worker
    (folder / "worker.py").write_text(worker.replace(WORKER_GRACE, '_shutdown": 1'))
    port = free_port()
    line = command.line(port, grace=grace)
    variables = {"HERMES_TEST_FOLDER": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    with serving(line, port, folder, ready="/left", **variables) as process:
        try:
            yield Server(command, port, folder, process)
        finally:
            if process.poll() is None:
                (folder / "go").touch()
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=15)
            if process.poll() is None:
                process.kill()


def ids(server: Server) -> str:
    """A page, a 404, a 500, a 413 and a 400 each have one id, in the one case the client's."""
    for path, status in [("/", 200), ("/nothing", 404), ("/error", 500)]:
        answer = server.get(path, "known")
        assert (answer.status_code, answer.headers.get_list(SESSION_HEADER)) == (status, ["known"])
    refused = server.get("/", "a b")
    (minted,) = refused.headers.get_list(SESSION_HEADER)
    assert refused.status_code == 400
    assert is_session_id(minted)
    return "one"


def pieces(server: Server) -> str:
    """The first piece of a stream comes before the second is let go."""
    url = f"http://127.0.0.1:{server.port}/gated"
    with httpx2.stream("GET", url, headers={SESSION_HEADER: "pieces"}, timeout=60) as response:
        parts = response.iter_text()
        assert next(parts) == "one "
        (server.folder / "go").touch()
        assert "".join(parts) == "two"
    (server.folder / "go").unlink()
    return "at once"


def leaves(server: Server) -> str:
    """A client leaves a stream in which nothing comes."""
    url = f"http://127.0.0.1:{server.port}/silent"
    with httpx2.stream("GET", url, headers={SESSION_HEADER: "gone"}, timeout=60) as response:
        next(response.iter_lines())
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        if server.stored("gone"):
            return "at once"
        time.sleep(0.05)
    return "not"


def conversation(server: Server) -> str:
    """The turns of one conversation are of every worker."""
    for n in range(20):
        assert len(server.get("/pid", "grows").json()) == n
    return "one conversation"


ROWS: list[tuple[str, Callable[[Server], str]]] = [
    ("ids on a page, a 404, a 500 and a 400", ids),
    ("a conversation, by several workers where there are", conversation),
    ("a WebSocket's handshake", lambda server: server.handshake("/ws", "socket")),
    ("... denied by the application, 403", lambda server: server.handshake("/denied", "denied")),
    ("... refused by the middleware, 400", lambda server: server.handshake("/ws", "a b")),
    ("the pieces of a stream come", pieces),
    ("a client that leaves a quiet stream is noticed", leaves),
]
CLOSED = "the store is closed at a stop"
GOES_ON, ENDS, GRACE, ANSWER = (
    "SIGTERM, the stream goes on",
    "SIGTERM, the stream ends before a second is over",
    "SIGTERM, the stream goes on, a grace period of a second",
    "the same, with `session.answer()`",
)
STOPPED = [GOES_ON, ENDS, GRACE, ANSWER]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_what_a_server_does(command: Command, tmp_path: Path, cells: Cells) -> None:
    """Every response has an id, but where the page says that a server drops it."""
    needs(MISSING)
    seen = {}
    with served(command, tmp_path / "one", grace=True) as server:
        for name, look in ROWS:
            seen[name] = look(server)
        (server.folder / "go").touch()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=HUNG)
        seen[CLOSED] = "yes" if (server.folder / "closed").exists() else "no"
    cells.update({(command.name, name): cell for name, cell in seen.items()})
    compare(command, seen)


def stopped(server: Server, *, ends: bool, path: str) -> str:
    """Stop a server while an answer of two pieces streams; tell what is stored, and when."""
    url = f"http://127.0.0.1:{server.port}{path}"
    headers = {SESSION_HEADER: "stopped"}
    with httpx2.stream("GET", url, headers=headers, timeout=60) as response:
        pieces = response.iter_text()
        assert "one " in next(pieces)
        if path == "/gated-answer":
            until = time.monotonic() + 30
            while not server.logged() and time.monotonic() < until:
                time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        if ends:
            time.sleep(0.3)  # the signal is there before the rest of the answer
            (server.folder / "go").touch()
            with suppress(httpx2.TransportError):
                "".join(pieces)
        try:
            server.process.wait(timeout=WITHIN)
        except subprocess.TimeoutExpired:
            return f"{told(server)}, and the server waits"
        return told(server)


def told(server: Server) -> str:
    """Tell what is stored of the answer."""
    messages = server.stored("stopped")
    if not messages:
        return f"nothing{', but it is logged' if server.logged() else ''}"
    _, said = messages
    if "status" not in said:
        assert said["content"] == "one two"
        return "whole"
    assert (said["content"], said["status"]) == ("one ", "incomplete")
    return "what had come"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_stop_in_the_middle_of_a_stream(command: Command, tmp_path: Path, cells: Cells) -> None:
    """A stop that waits keeps the answer whole, one that does not what had come; or it is told."""
    needs(MISSING)
    seen = {}
    cases = [(GOES_ON, False, False, "/gated"), (ENDS, True, False, "/gated")]
    if command.grace:
        cases += [(GRACE, False, True, "/gated"), (ANSWER, False, True, "/gated-answer")]
    else:
        seen[GRACE] = "no such option"
        cases += [(ANSWER, False, False, "/gated-answer")]
    for number, (name, ends, grace, path) in enumerate(cases):
        with served(command, tmp_path / str(number), grace=grace) as server:
            seen[name] = stopped(server, ends=ends, path=path)
    cells.update({(command.name, name): cell for name, cell in seen.items()})
    compare(command, seen)


def test_one_option_has_mangum_keep_the_engine(tmp_path: Path, cells: Cells) -> None:
    """Events of AWS have one id each, and a store is opened once where no lifespan ends."""
    needs(MISSING)
    done = subprocess.run(
        [PYTHON, "-m", "tests.integration.servers.mangum_driver", tmp_path],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    for lifespan, seen in json.loads(done.stdout).items():
        name = f'Mangum, `lifespan="{lifespan}"`'
        for event in EVENTS:
            assert seen[event] == {"ids": [event.replace(" ", "-")], "befores": [0, 1]}
            cells[name, event] = "one id, one conversation"
        cells[name, CONNECTIONS] = str(seen["connections"])
        cells[name, MEDIAN] = f"{seen['milliseconds']} ms"
        assert (seen["connections"] == 0) == (lifespan == "off")


EVENTS = ["HTTP API", "REST API", "load balancer"]
CONNECTIONS = "connections opened by 20 more invocations"
MEDIAN = "median of such an invocation"
MANGUM = ['Mangum, `lifespan="auto"`', 'Mangum, `lifespan="off"`']


def compare(command: Command, seen: dict[str, str]) -> None:
    """Hold what was seen against the page."""
    if not WRITES:
        shown = read_page()
        assert {name: shown.get((command.name, name)) for name in seen} == seen


def test_the_page_has_a_cell_for_each_case(cells: Cells) -> None:
    """Each server has a column, and each row a cell; `make servers` writes them."""
    if WRITES:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{written(cells)}{END}{rest.split(END)[1]}")
    rows = [*(name for name, _ in ROWS), CLOSED, *STOPPED]
    shown = read_page()
    assert [(c.name, row) for c in COMMANDS for row in rows if (c.name, row) not in shown] == []


def written(cells: Cells) -> str:
    """Return the tables as Markdown."""
    python = subprocess.run(
        [PYTHON, "-c", "import platform; print(platform.python_version())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    cells.update({(command.name, "version"): command.version() for command in COMMANDS})
    heads = [command.name for command in COMMANDS]
    tables = [
        ("What each does", heads, ["version", *(name for name, _ in ROWS), CLOSED]),
        ("What is stored if a server is stopped while an answer streams", heads, STOPPED),
        ("AWS Lambda", MANGUM, [*EVENTS, CONNECTIONS, MEDIAN]),
    ]
    text = [f"\nSeen on {datetime.now(UTC).date()}, with Python {python}.\n"]
    for title, columns, rows in tables:
        text += [
            f"## {title}\n",
            f"| | {' | '.join(columns)} |",
            f"|---|{'---|' * len(columns)}",
            *(f"| {row} | {' | '.join(cells[at, row] for at in columns)} |" for row in rows),
            "",
        ]
    return "\n".join(text) + "\n"


def read_page() -> Cells:
    """Return the cells of the page's tables."""
    shown: Cells = {}
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith("| "):
            first, *others = line.strip("| ").split(" | ")
            if len(others) == len(COMMANDS):
                shown.update(
                    {(c.name, first): cell for c, cell in zip(COMMANDS, others, strict=True)}
                )
    return shown
