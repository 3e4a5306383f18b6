"""The applications that the socket benchmarks serve, and the servers that serve them.

A server imports ``app`` from here; environment variables say whether it has the middleware. Below
``/bench/`` the middleware is not asked, so that looking in changes nothing.
"""

import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from asyncio import sleep
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.ports import free_port
from hermes_session_mw import HermesSessionMiddleware

PATIENCE = 30.0
CHUNKS = 20

_SUBJECT = "HERMES_BENCH_SUBJECT"
_STORE = "HERMES_BENCH_STORE"
_READY = "HERMES_BENCH_READY"
_CHUNK = b'data: {"choices": [{"delta": {"content": "a piece"}}]}\n\n'
_ROOT = Path(__file__).parents[1]

_streams = 0  # that are open
_messages = 0  # that they have loaded


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, with a few chunks, or with one and then with nothing until the client left.

    An event stream lets the event loop go round between its chunks, as one that waits for a model
    does.
    """
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"] == "/stream":
        await send(_start(b"text/event-stream"))
        for _ in range(CHUNKS - 1):
            await send(_chunk(more=True))
            await sleep(0)
        await send(_chunk(more=False))
    elif scope["path"] == "/history":
        await _answer(send, b"%d" % len(scope["state"]["hermes_session"].history))
    elif scope["path"] == "/hold":
        await _hold(scope, receive, send)
    else:
        await _answer(send, b'{"answer": 42}')


async def _answer(send: Send, body: bytes) -> None:
    await send(_start(b"application/json", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})


async def _hold(scope: Scope, receive: Receive, send: Send) -> None:
    global _streams, _messages  # noqa: PLW0603  # they are the process's
    session = scope.get("state", {}).get("hermes_session")
    loaded = 0 if session is None else len(session.history)
    _streams += 1
    _messages += loaded
    try:
        await send(_start(b"text/event-stream"))
        await send(_chunk(more=True))
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        _streams -= 1
        _messages -= loaded


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    _announce()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _announce() -> None:
    Path(os.environ[_READY], str(os.getpid())).touch()


def _start(content_type: bytes, length: bytes | None = None) -> Message:
    headers = [(b"content-type", content_type)]
    if length is not None:
        headers.append((b"content-length", length))
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _chunk(*, more: bool) -> Message:
    return {"type": "http.response.body", "body": _CHUNK, "more_body": more}


def build(subject: str, store: str) -> ASGIApp:
    """Return the application, with what tells of it beside."""
    served: ASGIApp = answer
    echoing: ASGIApp = answer
    if subject == "ours":
        served = HermesSessionMiddleware(answer, store)
        echoing = HermesSessionMiddleware(answer, store, autoload=False)

    async def beside(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/bench/"):
            await (echoing if scope.get("path") == "/echo" else served)(scope, receive, send)
            return
        gc.collect()
        facts = {
            "store": repr(getattr(served, "store", "")),
            "streams": _streams,
            "messages": _messages,
        }
        await _answer(send, json.dumps(facts).encode("ascii"))

    return beside


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and the ids of the processes that serve."""

    port: int
    processes: tuple[int, ...]

    def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of the answer to a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return {key.lower(): value for key, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def facts(self) -> dict[str, Any]:
        """Return what the application tells of itself."""
        facts: dict[str, Any] = json.loads(self.ask("/bench/facts")[1])
        return facts

    def cpu(self) -> float:
        """Return the CPU seconds that its processes have taken."""
        files = [
            file for pid in self.processes for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
        ]
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9


PLAIN = "uvicorn"
FAST = "uvicorn[standard]"
_KINDS = {
    PLAIN: {"loop": "asyncio", "http": "h11"},
    FAST: {"loop": "uvloop", "http": "httptools"},
}
"""What serves, as pip installs it under that name."""


@contextmanager
def serve(subject: str, store: str, *, kind: str = FAST, workers: int = 1) -> Iterator[Server]:
    """Run a server until the block ends.

    Raises:
        RuntimeError: it did not start, or had something to complain about.
    """
    with TemporaryDirectory() as directory:
        ready = Path(directory, "ready")
        ready.mkdir()
        log = Path(directory, "log")
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  # nothing in it comes from outside
                _command(port, kind, workers),
                cwd=_ROOT,
                env={**os.environ, _SUBJECT: subject, _STORE: store, _READY: str(ready)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Server(port, _await_ready(process, ready, workers, log, port))
        finally:
            _end(process)
        complaints = log.read_text()
        if complaints:
            raise RuntimeError(f"the server's log ({subject}): {complaints[-2000:]}")


def _command(port: int, kind: str, workers: int) -> list[str]:
    options = {"host": "127.0.0.1", "port": port, "workers": workers, "backlog": 4096}
    options |= {"lifespan": "on", "log-level": "warning", **_KINDS[kind]}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return [
        sys.executable,
        "-m",
        "uvicorn",
        f"{__package__}.apps:app",
        "--no-access-log",
        *arguments,
    ]


def _await_ready(
    process: subprocess.Popen[bytes], ready: Path, workers: int, log: Path, port: int
) -> tuple[int, ...]:
    deadline = time.monotonic() + PATIENCE
    while len(files := list(ready.iterdir())) < workers or not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
    time.sleep(0.1)  # the others of several workers are about to listen too
    return tuple(int(file.name) for file in files)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session, which only its workers share
        process.wait()


# Whoever imports this for its names alone has not chosen any.
app = build(os.environ.get(_SUBJECT, ""), os.environ.get(_STORE, ""))
