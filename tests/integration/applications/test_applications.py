"""What other people's applications do behind the middleware, by sockets and by their own clients.

The table of applications in docs/conformance.md is what these runs gave. After a change that is
meant, write it anew with ``make applications``.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import websockets.exceptions
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from hermes_session_mw import SESSION_HEADER
from tests.integration.applications import gate
from tests.integration.applications.applications import APPLICATIONS, Application, Ask
from tests.support.requirements import needs
from tests.support.server import ROOT, free_port, serving

PAGE = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- make applications writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_APPLICATIONS"))
COLUMNS = (
    "version", "mounted", "pages and errors", "a stream", "a WebSocket", "its files",
    "its own client", "the client's conversation", "handlers reach the session by", "lifespans",
)  # fmt: skip
NAMES = [app.name for app in APPLICATIONS]
NONE = "-"
VARIABLES = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "PYTHONDONTWRITEBYTECODE": "",  # some compile for a minute, which is done once then
}

Cells = dict[str, tuple[str, ...]]
"""The rows, by the application's name."""


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every row, filled in as the tests run."""
    return {}


@dataclass
class Server:
    """An application that is served."""

    app: Application
    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def responses(self) -> list[dict[str, object]]:
        """Return what has begun each response so far."""
        lines = (self.folder / "responses.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def served(app: Application, folder: Path) -> Iterator[Server]:
    """Serve it until the block ends, or until the block has stopped it."""
    port = free_port()
    line = [str(app.python), "-m", "tests.integration.applications.serve", app.module]
    variables = {**VARIABLES, "HOME": str(folder)}
    with serving([*line, str(port), str(folder)], port, folder, ready=app.ready, **variables) as it:
        yield Server(app, port, folder, it)


def pages(server: Server) -> str:
    """Tell each page's status, and where it has not the client's id, once."""
    seen = []
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        for number, ask in enumerate(server.app.pages):
            headers = {**ask.headers, SESSION_HEADER: f"page-{number}"}
            response = client.request(ask.method, ask.path, json=ask.json, headers=headers)
            ids = response.headers.get_list(SESSION_HEADER)
            seen.append(f"{response.status_code}{told(ids, f'page-{number}')}")
    return ", ".join(seen) or NONE


def told(ids: list[str], expected: str) -> str:
    """Tell which ids there are, if it is not the one."""
    if ids == [expected]:
        return ""
    return {0: " without an id", 1: " with another id"}.get(len(ids), " with several ids")


def stream(server: Server) -> str:
    """Tell whether a stream's first piece comes before the second is let go."""
    ask = server.app.stream
    if ask is None:
        return NONE
    (server.folder / "go").unlink(missing_ok=True)
    headers = {**ask.headers, SESSION_HEADER: "stream"}
    first, second = gate.PIECES
    with (
        httpx2.Client(base_url=server.url, timeout=60) as client,
        client.stream(ask.method, ask.path, json=ask.json, headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        text = ""
        pieces = response.iter_text()
        for piece in pieces:
            text += piece
            if first in text:
                break
        assert second not in text
        gate.let_go(server.folder)
        assert second in "".join(pieces)
        return f"piece by piece{told(response.headers.get_list(SESSION_HEADER), 'stream')}"


def handshake(server: Server, ask: Ask | None) -> str:
    """Tell how a WebSocket's handshake is answered."""
    if ask is None:
        return NONE
    try:
        with connect(
            f"ws://127.0.0.1:{server.port}{ask.path}",
            additional_headers={SESSION_HEADER: "socket"},
            subprotocols=[Subprotocol(name) for name in ask.subprotocols] or None,
            open_timeout=60,
        ) as socket:
            assert socket.response is not None
            response = socket.response
    except websockets.exceptions.InvalidStatus as exc:
        response = exc.response
    ids = response.headers.get_all(SESSION_HEADER)
    return f"{response.status_code}{told(ids, 'socket')}"


def sockets(server: Server) -> str:
    """Tell how an accepted handshake is answered, and one that is not."""
    seen = [handshake(server, ask) for ask in (server.app.accepted, server.app.denied)]
    return NONE if set(seen) == {NONE} else ", ".join(seen)


def file(server: Server) -> str:
    """Tell what caches are told of a file of its own."""
    if server.app.file is None:
        return NONE
    headers = {SESSION_HEADER: "file"}
    response = httpx2.get(f"{server.url}{server.app.file}", headers=headers, timeout=60)
    assert response.status_code == 200
    said = response.headers.get("cache-control", "nothing")
    return f"`{said}`{told(response.headers.get_list(SESSION_HEADER), 'file')}"


def driven(server: Server, *ids: str) -> tuple[list[str], list[str]]:
    """Use it by its own client; return the ids that handlers saw, and those on the responses."""
    (server.folder / "go").unlink(missing_ok=True)
    before = len(server.responses())
    line = [server.app.client_python, "-m", "tests.integration.applications.drive"]
    done = subprocess.run(
        [*line, server.app.driver or server.app.module, server.url, str(server.folder), *ids],
        cwd=server.folder, env={**os.environ, **VARIABLES, "PYTHONPATH": str(ROOT)},
        check=False, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    stamped = [each["ids"] for each in server.responses()[before:] if has_headers(each)]
    assert {len(each) for each in stamped if isinstance(each, list)} == {1}
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found, [each[0] for each in stamped if isinstance(each, list)]


def has_headers(response: dict[str, object]) -> bool:
    """Tell whether the message that began it can have headers: a close before the accept cannot."""
    return response["type"] != "websocket.close"


def client(server: Server) -> tuple[str, str, str]:
    """Tell whether its own client works, what its requests' sessions are, and what handlers see."""
    app = server.app
    if app.client is None:
        return NONE, NONE, app.reached or NONE
    seen, stamped = driven(server)
    assert set(seen) <= set(stamped)
    plain = "one" if len(set(stamped)) == 1 else "several"
    if app.is_told is None:
        return f"{app.client}: works", plain, app.reached or NONE
    seen, stamped = driven(server, "conversation")
    assert set(seen) == {"conversation"}
    with_header = "one" if set(stamped) == {"conversation"} else "several"
    conversation = f"{plain}; {with_header} by {app.is_told}"
    return f"{app.client}: works", conversation, app.reached or NONE


def lifespans(server: Server) -> str:
    """Stop it; tell which lifespans ran."""
    # Not by SIGINT, after which Python waits for marimo's kernels, and they wait for marimo.
    server.process.terminate()
    server.process.wait(timeout=60)
    ran = {name for name in ("began", "ended", "closed") if (server.folder / name).exists()}
    assert "closed" in ran
    if not server.app.has_lifespan:
        return "ours"
    assert "began" in ran
    return "both" if "ended" in ran else "ours; of its own the beginning"


@pytest.mark.parametrize("app", APPLICATIONS, ids=lambda app: app.package)
def test_what_an_application_does(app: Application, tmp_path: Path, cells: Cells) -> None:
    """Every response has one id, its own client works, and the client's id is in its handlers."""
    needs(app.missing)
    with served(app, tmp_path) as server:
        row = [app.version(), app.mounted, pages(server), stream(server), sockets(server)]
        row += [file(server), *client(server)]
        bare = [each for each in server.responses() if has_headers(each) and len(ids_of(each)) != 1]
        assert bare == []
        row.append(lifespans(server))
    cells[app.name] = tuple(row)
    if not WRITES:
        assert dict(zip(COLUMNS, read_page()[app.name], strict=True)) == dict(
            zip(COLUMNS, row, strict=True)
        )


def ids_of(response: dict[str, object]) -> list[str]:
    """Return the ids that were on it."""
    ids = response["ids"]
    assert isinstance(ids, list)
    return ids


def test_the_page_has_a_row_for_each_application(cells: Cells) -> None:
    """`make applications` writes them."""
    if WRITES:
        before, rest = PAGE.read_text().split(BEGIN)
        rows = {**read_page(), **cells}  # a run of some leaves the others' as they are
        text = [
            f"\nSeen on {datetime.now(UTC).date()}, with uvicorn.\n",
            f"| | {' | '.join(COLUMNS)} |",
            f"|---|{'---|' * len(COLUMNS)}",
            *(f"| {name} | {' | '.join(rows[name])} |" for name in NAMES if name in rows),
            "\n",
        ]
        PAGE.write_text(f"{before}{BEGIN}{chr(10).join(text)}{END}{rest.split(END)[1]}")
    assert list(read_page()) == NAMES


def read_page() -> Cells:
    """Return the rows of the page's table."""
    shown: Cells = {}
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            name, *rest = line.strip("| ").split(" | ")
            shown[name] = tuple(rest)
    return shown
