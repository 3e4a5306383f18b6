"""Upstreams of the tests' own: servers that do what a well-behaved one does not."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Exchange:
    """One request of the demo's, and the socket to answer it on.

    Attributes:
        path: what was asked for.
        headers: its header fields, by their names in lower case.
        body: its JSON.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        head, _, rest = self._receive_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        self.path = request.split()[1]
        fields = (line.partition(":")[::2] for line in lines)
        self.headers = {name.lower(): value.strip() for name, value in fields}
        length = int(self.headers.get("content-length", "0"))
        while len(rest) < length:
            rest += connection.recv(65536)
        self.body: Any = json.loads(rest) if rest else None

    def send(self, text: str | bytes) -> None:
        """Send bytes as they are."""
        self._connection.sendall(text if isinstance(text, bytes) else text.encode())

    def answer(self, status: int, body: Any, *fields: str, kind: str = "application/json") -> None:
        """Send a whole response; the body is JSON, unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, *fields, f"Content-Length: {len(data)}", kind=kind)
        self.send(data)

    def head(self, status: int = 200, *fields: str, kind: str = "text/event-stream") -> None:
        """Send a response's head; the body ends with the connection, unless a field says how."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close", *fields]
        self.send("\r\n".join(lines) + "\r\n\r\n")

    def event(self, data: Any) -> None:
        """Send an event."""
        self.send(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")

    def delta(self, *, reason: str | None = None, **delta: Any) -> None:
        """Send a chunk as OpenAI sends one."""
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        self.event({"object": "chat.completion.chunk", "model": "raw-1", "choices": [choice]})

    def say(self, *texts: str) -> None:
        """Send a whole answer."""
        self.head()
        self.delta(role="assistant", content="")
        for text in texts:
            self.delta(content=text)
        self.delta(reason="stop")
        self.event("[DONE]")

    def wait_for_the_end(self) -> None:
        """Wait until the other side has closed the connection."""
        with suppress(OSError):
            while self._connection.recv(65536):
                pass

    def _receive_until(self, end: bytes) -> bytes:
        data = b""
        while end not in data:
            received = self._connection.recv(65536)
            if not received:
                raise EOFError
            data += received
        return data


class Upstream:
    """A server that answers each request by the next of its behaviours, and then by the last one.

    Attributes:
        url: where it is, as ``--upstream`` takes it.
        requests: what it was asked, but for lists of its models.
        failures: what went wrong in the behaviours.
    """

    def __init__(self, *behaviours: Callable[[Exchange], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.behaviours = list(behaviours)
        self.requests: list[Exchange] = []
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def models(self, exchange: Exchange) -> None:
        """List its models."""
        exchange.answer(200, {"object": "list", "data": [{"id": "raw"}, {"id": "other"}]})

    def close(self) -> None:
        """Stop listening, and wait until all is answered."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=90)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(60)
                self._threads.append(threading.Thread(target=self._serve, args=[connection]))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(EOFError):
            exchange = Exchange(connection)
            if exchange.path.endswith("/models"):
                with suppress(ConnectionError):  # who asked may have left
                    self.models(exchange)
                return
            self.requests.append(exchange)
            behaviour = self.behaviours[0] if len(self.behaviours) == 1 else self.behaviours.pop(0)
            try:
                behaviour(exchange)
            except Exception as exc:  # noqa: BLE001  # told to the test's thread
                self.failures.append(exc)


@contextmanager
def upstream(
    *behaviours: Callable[[Exchange], None], kind: type[Upstream] = Upstream
) -> Iterator[Upstream]:
    """Serve until the block ends; nothing may have failed by then."""
    server = kind(*behaviours)
    try:
        yield server
    finally:
        server.close()
    assert server.failures == []


def parrot(exchange: Exchange) -> None:
    """Answer with the contents of the messages that came: what a stateless server knows."""
    exchange.say(" / ".join(str(message.get("content")) for message in exchange.body["messages"]))
