"""The runs: through the middleware in this process, and through a real server's parsers."""

import re
import socket
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import anyio
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, is_session_id
from tests.long.fuzz.values import Line, expected_id, is_refused, lines
from tests.support.asgi import HEADER, http_scope
from tests.support.server import free_port, serving

# What uvicorn says itself, where its parser does not let a request through to the application.
SERVERS_OWN = (b"Invalid HTTP request received.", b"Request header fields too large")


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer 200."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def check(request: list[Line], status: int, stamps: list[bytes]) -> None:
    """Hold one answer to the promise: one valid id, the client's where it may be, and no 5xx."""
    assert status == (400 if is_refused(request) else 200), (request, status)
    assert len(stamps) == 1, (request, stamps)
    stamped = stamps[0].decode("ascii")
    assert is_session_id(stamped), (request, stamped)
    wanted = expected_id(request)
    assert wanted is None or stamped == wanted, (request, stamped)


def in_process(count: int, seed: int) -> Counter[int]:
    """Send ``count`` requests through the middleware; return how often each status came."""
    app = HermesSessionMiddleware(answer, MemoryStore())
    statuses: Counter[int] = Counter()
    started: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)

    async def run() -> None:
        for request in lines(count, seed):
            started.clear()
            await app(http_scope(request), receive, send)
            (start,) = started
            check(request, start["status"], [v for k, v in start["headers"] if k == HEADER])
            statuses[start["status"]] += 1

    anyio.run(run)
    return statuses


def over_sockets(count: int, seed: int, parser: str, folder: Path) -> Counter[str]:
    """Send ``count`` requests to uvicorn; return how often each status came, and from whom."""
    port = free_port()
    command = ["-m", "uvicorn", "tests.long.fuzz.served:app", "--port", str(port), "--http", parser]
    quiet = ["--log-level", "critical", "--no-access-log"]
    seen: Counter[str] = Counter()
    with (
        serving([sys.executable, *command, *quiet], port, folder, ready="/"),
        closing(_Client(port)) as client,
    ):
        for request in lines(count, seed, most=60_000):
            status, head, body = client.send(request)
            stamps = re.findall(rb"(?im)^x-hermes-session-id:[ \t]*(.*?)[ \t]*\r$", head)
            if status == 400 and not stamps and any(said in body for said in SERVERS_OWN):
                seen["400 by the server"] += 1
                continue
            assert status in (200, 400), (request, status)
            assert len(stamps) == 1, (request, head)
            assert is_session_id(stamps[0].decode("ascii")), (request, stamps)
            if not any(set(value) & set(b"\r\n\0") for _, value in request):
                check(request, status, stamps)
            seen[f"{status} by the application"] += 1
    return seen


class _Client:
    """Writes requests as bytes, as no well-behaved library would, over a kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = b""

    def send(self, request: list[Line]) -> tuple[int, bytes, bytes]:
        """Return the answer's status, head and body."""
        head = b"".join(name + b": " + value + b"\r\n" for name, value in request)
        data = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n"
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self._socket.sendall(data)
        answer = self._read()
        # Bytes that end a header early may have begun a second request: leave it behind.
        if b"connection: close" in answer[1].lower() or any(b"\n" in v for _, v in request):
            self.close()
        return answer

    def close(self) -> None:
        """Leave the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer = b""

    def _read(self) -> tuple[int, bytes, bytes]:
        while b"\r\n\r\n" not in self._buffer:
            received = self._receive()
            assert received, "the server closed the connection without an answer"
            self._buffer += received
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        head += b"\r\n"
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        # Our own answers tell their length; the server's go on until it closes.
        size = int(length[1]) if length else sys.maxsize
        while len(rest) < size and (received := self._receive()):
            rest += received
        self._buffer = rest[size:]
        return int(head.split(b" ", 2)[1]), head, rest[:size]

    def _receive(self) -> bytes:
        assert self._socket is not None
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            # A server that closes before it has read all of a bad request resets the connection.
            return b""
