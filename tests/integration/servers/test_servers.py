"""Every response over real sockets: uvicorn on both parsers, hypercorn on both loops, granian."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import websockets.exceptions
from websockets.sync.client import connect

from hermes_session_mw import is_session_id
from tests.support.http2 import http2_client
from tests.support.server import HUNG, free_port, serving

HEADER = "X-Hermes-Session-Id"
APP = "tests.integration.servers.app:app"

SERVERS: dict[str, Callable[[int], list[str]]] = {
    "uvicorn-h11": lambda port: uvicorn(port, "--http", "h11"),
    "uvicorn-httptools": lambda port: uvicorn(port, "--http", "httptools"),
    "hypercorn-asyncio": lambda port: hypercorn(port, "asyncio"),
    "hypercorn-trio": lambda port: hypercorn(port, "trio"),
    "granian": lambda port: granian(port, "asgi"),
}
# Without a lifespan the engine is made all the same, and nobody tells when it is to be closed.
WITHOUT_LIFESPAN: dict[str, Callable[[int], list[str]]] = {
    "uvicorn-h11": lambda port: uvicorn(port, "--http", "h11", "--lifespan", "off"),
    "granian": lambda port: granian(port, "asginl"),
}
# Granian 2.8 sends no headers of an accept at all, whoever sets them: its limit, not ours.
DROPS_ACCEPT_HEADERS = ("granian",)
# Where the application has accepted nothing and raised, Granian answers by itself.
CANNOT_DENY = ("granian",)


def uvicorn(port: int, *options: str) -> list[str]:
    graceful = ["--timeout-graceful-shutdown", "1"]
    return ["-m", "uvicorn", APP, "--port", str(port), *graceful, *options]


def hypercorn(port: int, worker: str) -> list[str]:
    options = ["--worker-class", worker, "--graceful-timeout", "1"]
    return ["-m", "hypercorn", APP, "--bind", f"127.0.0.1:{port}", *options]


def granian(port: int, interface: str) -> list[str]:
    options = ["--interface", interface, "--host", "127.0.0.1", "--workers-kill-timeout", "1"]
    return ["-m", "granian", APP, "--port", str(port), *options]


@dataclass
class Running:
    """A server that answers."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, session_id: str | None = None) -> httpx2.Response:
        headers = {} if session_id is None else {HEADER: session_id}
        return httpx2.get(f"{self.url}{path}", headers=headers)


@pytest.fixture(params=SERVERS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One server for all the tests of this file."""
    folder = tmp_path_factory.mktemp(request.param)
    yield from run(request.param, SERVERS[request.param], folder)


def run(
    name: str, command: Callable[[int], list[str]], folder: Path
) -> Generator[Running, None, None]:
    port = free_port()
    variables = {"HERMES_TEST_FOLDER": str(folder)}
    with serving(
        [sys.executable, *command(port)], port, folder, ready="/left", **variables
    ) as process:
        yield Running(name, port, process, folder)


def stamp(response: httpx2.Response) -> str:
    (value,) = response.headers.get_list(HEADER)
    assert is_session_id(value)
    return str(value)


def test_pages_and_errors_are_stamped(server: Running) -> None:
    """A page, a 404, the framework's 500, its 413 and a refusal each carry one id."""
    assert stamp(server.get("/", "page")) == "page"
    assert stamp(server.get("/nothing", "missing")) == "missing"
    error = server.get("/error", "error")
    assert (error.status_code, stamp(error)) == (500, "error")
    upload = httpx2.post(f"{server.url}/upload", content=b"x" * 2000, headers={HEADER: "large"})
    assert (upload.status_code, stamp(upload)) == (413, "large")
    refused = server.get("/", "a b")
    assert (refused.status_code, len(stamp(refused))) == (400, 32)
    assert len({stamp(server.get("/left")) for _ in range(5)}) == 5


def test_a_conversation_grows(server: Running) -> None:
    """The turns of one id are counted, and those of another are not."""
    assert [server.get("/", "grows").json()["before"] for _ in range(3)] == [0, 1, 2]
    assert server.get("/", "other").json()["before"] == 0


def test_a_stream_is_seen_event_by_event(server: Running) -> None:
    """Each event reaches the client before the next is let go, each stream under its own id."""
    with (
        httpx2.stream("GET", f"{server.url}/stream", headers={HEADER: "first"}) as first,
        httpx2.stream("GET", f"{server.url}/stream", headers={HEADER: "second"}) as second,
    ):
        assert (stamp(first), stamp(second)) == ("first", "second")
        streams = {"first": first.iter_lines(), "second": second.iter_lines()}
        for name, lines in streams.items():
            assert next(lines) == f"data: {name} 0"
        for _ in range(4):
            httpx2.post(f"{server.url}/next")
        for name, lines in streams.items():
            assert [line for line in lines if line] == [f"data: {name} 1", f"data: {name} 2"]


def test_one_event_at_a_time(server: Running) -> None:
    """Nothing is held back until more has come."""
    with httpx2.stream("GET", f"{server.url}/stream") as response:
        lines = (line for line in response.iter_lines() if line)
        assert next(lines).endswith(" 0")
        for n in (1, 2):
            httpx2.post(f"{server.url}/next")
            assert next(lines).endswith(f" {n}")


@pytest.mark.parametrize("path", ["/recorded-inside", "/recorded-later"])
def test_one_answer_streams_at_a_time(server: Running, path: str) -> None:
    """While an answer streams from a turn another is a 409; read to its end, the next comes in."""
    session_id = path.strip("/")
    for _ in range(10):
        with httpx2.stream("GET", f"{server.url}{path}", headers={HEADER: session_id}) as first:
            assert first.status_code == 200
            pieces = first.iter_text()
            assert next(pieces) == "one "
            second = server.get(path, session_id)
            assert (second.status_code, stamp(second)) == (409, session_id)
            assert second.json()["error"]["code"] == "session_busy"
            assert 1 <= int(second.headers["retry-after"]) <= 60
            httpx2.post(f"{server.url}/next")
            assert "".join(pieces) == "two"
    assert server.get("/", session_id).json()["before"] == 20


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_a_large_answer_that_nobody_reads_holds_no_turn(server: Running, version: str) -> None:
    """While the rest of a whole answer waits for its client, the next request is let in."""
    if version == "HTTP/2" and server.name.startswith("uvicorn"):
        return  # it speaks none
    is_2, session_id = version == "HTTP/2", f"large-{version[-1]}"
    headers = {HEADER: session_id}
    with (
        httpx2.Client(http1=not is_2, http2=is_2) as client,
        client.stream("GET", f"{server.url}/large", headers=headers) as answer,
    ):
        assert (answer.status_code, answer.http_version) == (200, version)
        next(answer.iter_raw())
        with httpx2.stream("GET", f"{server.url}/large", headers=headers) as another:
            assert another.status_code == 200


def test_a_client_that_leaves_ends_its_stream(server: Running) -> None:
    """The application hears that the client is gone, and the server goes on."""
    before = int(server.get("/left").text)
    with httpx2.stream("GET", f"{server.url}/stream", headers={HEADER: "gone"}) as response:
        assert next(response.iter_lines()) == "data: gone 0"
    for _ in range(1000):
        if int(server.get("/left").text) > before:
            break
        time.sleep(0.05)
        httpx2.post(f"{server.url}/next")  # a server may notice only when it writes
    assert int(server.get("/left").text) == before + 1
    assert stamp(server.get("/", "after")) == "after"


def test_a_client_that_leaves_in_silence_ends_its_stream(server: Running) -> None:
    """It is noticed though nothing is sent, and what has come of the answer is stored."""
    before = int(server.get("/left").text)
    with httpx2.stream("GET", f"{server.url}/silent", headers={HEADER: "silent"}) as response:
        assert next(response.iter_lines()) == "data: one"
    for _ in range(300):
        if int(server.get("/left").text) > before:
            break
        time.sleep(0.1)
    assert int(server.get("/left").text) == before + 1
    assert server.get("/", "silent").json()["before"] == 2


def test_a_websocket_handshake_is_stamped(server: Running) -> None:
    """The handshake's response carries the client's id, or a new one, if the server lets it."""
    url = f"ws://127.0.0.1:{server.port}/ws"
    with connect(url, additional_headers={HEADER: "socket"}) as socket:
        assert socket.response is not None
        sent = [] if server.name in DROPS_ACCEPT_HEADERS else ["socket"]
        assert socket.response.headers.get_all(HEADER) == sent
        assert socket.recv() == "socket"
    with connect(url) as socket:
        assert socket.response is not None
        minted = str(socket.recv())
        assert is_session_id(minted)
        assert socket.response.headers.get_all(HEADER) == (sent and [minted])


def test_a_websocket_is_denied(server: Running) -> None:
    """What the application denies or closes, and what the middleware refuses, is stamped."""
    for path, session_id, status in (
        ("/denied", "denied", 403),
        ("/closed", "closed", 403),
        ("/ws", "a b", 400),
    ):
        with (
            pytest.raises(websockets.exceptions.InvalidStatus) as caught,
            connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers={HEADER: session_id}),
        ):
            pass
        response = caught.value.response
        assert response.status_code == status
        (value,) = response.headers.get_all(HEADER)
        assert (value == session_id) == (status == 403)
        assert is_session_id(value)


def test_a_response_that_the_server_refuses_is_a_stamped_500(server: Running) -> None:
    """A header with a line feed is a 500 with the id, or the connection's end: no page without."""
    if server.name.startswith("uvicorn"):
        with pytest.raises(httpx2.RemoteProtocolError):
            server.get("/line-feed", "refused")
    else:
        refused = server.get("/line-feed", "refused")
        assert (refused.status_code, stamp(refused)) == (500, "refused")
        assert refused.headers["connection"] == "close"
    assert stamp(server.get("/", "after")) == "after"


def test_a_handshake_that_is_answered_as_a_request_is_a_stamped_500(server: Running) -> None:
    """What the server refuses to send before the handshake leaves room for a denial of ours."""
    url = f"ws://127.0.0.1:{server.port}/mistaken"
    with (
        pytest.raises(websockets.exceptions.InvalidStatus) as caught,
        connect(url, additional_headers={HEADER: "mistaken"}),
    ):
        pass
    response = caught.value.response
    if server.name in CANNOT_DENY:
        assert response.status_code == 403
    else:
        assert response.status_code == 500
        assert response.headers.get_all(HEADER) == ["mistaken"]


def test_a_pushed_page_is_in_the_session_of_its_request(server: Running) -> None:
    """What a server pushes is a turn of the conversation whose request it came with."""
    if not server.name.startswith("hypercorn"):
        return  # it pushes nothing
    with http2_client(server.port) as client:
        first = client.request("/pushing", [(HEADER.lower(), "pushing")])
        assert client.wait(first).all(HEADER) == ["pushing"]
        (pushed,) = client.streams.keys() - {first}
        page = client.wait(pushed)
        assert (page.status, page.all(HEADER)) == (200, ["pushing"])
        assert json.loads(page.body) == {"id": "pushing", "before": 0}
    assert server.get("/", "pushing").json()["before"] == 1


@pytest.mark.parametrize("name", SERVERS)
def test_a_shutdown_with_an_open_stream_closes_the_store(name: str, tmp_path: Path) -> None:
    """Told to stop while a stream is open, the server ends, and the database is closed whole."""
    running = run(name, SERVERS[name], tmp_path)
    server = next(running)
    server.get("/", "before")
    with httpx2.stream("GET", f"{server.url}/stream", headers={HEADER: "open"}) as response:
        assert stamp(response) == "open"
        assert next(response.iter_lines()) == "data: open 0"
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=HUNG)
    running.close()
    assert (tmp_path / "closed").exists()
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as raw:
        assert raw.execute("SELECT session_id, seq FROM hermes_messages").fetchall() == [
            ("before", 0)
        ]


@pytest.mark.parametrize("name", WITHOUT_LIFESPAN)
def test_a_server_without_lifespan_serves(name: str, tmp_path: Path) -> None:
    """Without lifespan events the engine is made at the first need all the same."""
    running = run(name, WITHOUT_LIFESPAN[name], tmp_path)
    server = next(running)
    assert [server.get("/", "id").json()["before"] for _ in range(2)] == [0, 1]
    running.close()
