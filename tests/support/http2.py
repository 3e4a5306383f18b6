"""A client of HTTP/2 that shows each event of a stream: pushes, early hints, resets, windows."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

Pairs = Sequence[tuple[str, str]]


@dataclass
class Stream:
    """What came on one stream.

    Attributes:
        hints: the headers of each informational response.
        headers: the response's, with ``:status``; None before it has begun.
        body: what has come of its body.
        ended: whether its end has come.
        reset: the error code that it was reset with.
        request: the headers of the request that a push stands for.
    """

    hints: list[list[tuple[str, str]]] = field(default_factory=list)
    headers: list[tuple[str, str]] | None = None
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    request: list[tuple[str, str]] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        """The response's status."""
        return None if self.headers is None else int(dict(self.headers)[":status"])

    def all(self, name: str) -> list[str]:
        """Return the response's values of a header."""
        return [value for key, value in self.headers or [] if key == name.lower()]


class Http2Client:
    """One connection. Every method that waits raises ``TimeoutError`` after 20 seconds.

    Attributes:
        streams: by their numbers, pushed ones too.
        settings: what the server said of itself.
        going_away: the error code of its GOAWAY.
        closed: whether the server has closed the connection.
        reads: whether windows are opened again as data comes.
    """

    def __init__(self, connected: socket.socket, host: str, *, reads: bool = True) -> None:
        self.streams: dict[int, Stream] = {}
        self.settings: dict[Any, int] = {}
        self.going_away: int | None = None
        self.closed = False
        self.reads = reads
        self._socket = connected
        self._host = host
        self._scheme = "https" if isinstance(connected, ssl.SSLSocket) else "http"
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._flush()

    def request(
        self, path: str, headers: Pairs = (), *, method: str = "GET", body: bytes | None = None
    ) -> int:
        """Send a request; return its stream's number."""
        scheme = [(":scheme", self._scheme), (":authority", self._host), (":path", path)]
        return self._open([(":method", method), *scheme, *headers], body)

    def connect(self, path: str, headers: Pairs = ()) -> int:
        """Open a WebSocket by an extended CONNECT (RFC 8441); return its stream's number."""
        self.wait_for(lambda: bool(self.settings) or self.closed)
        pseudo = [(":protocol", "websocket"), (":scheme", self._scheme), (":path", path)]
        version = ("sec-websocket-version", "13")
        first = [(":method", "CONNECT"), *pseudo, (":authority", self._host)]
        return self._open([*first, version, *headers], None, ends=False)

    def _open(self, headers: Pairs, body: bytes | None, *, ends: bool = True) -> int:
        number = self._h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        self._h2.send_headers(number, headers, end_stream=body is None and ends)
        if body is not None:
            self._h2.send_data(number, body, end_stream=True)
        self._flush()
        return number

    def cancel(self, number: int) -> None:
        """Reset a stream, as a client that has lost interest."""
        self._h2.reset_stream(number, error_code=8)
        self._flush()

    def wait(self, number: int) -> Stream:
        """Return a stream whose response has come whole, or broken off."""
        stream = self.streams[number]
        self.wait_for(lambda: stream.ended or stream.reset is not None or self.closed)
        return stream

    def wait_for_body(self, number: int, length: int) -> bytes:
        """Return the body as soon as it has this length, or the stream its end."""
        stream = self.streams[number]
        self.wait_for(
            lambda: (
                len(stream.body) >= length
                or stream.ended
                or stream.reset is not None
                or self.closed
            )
        )
        return stream.body

    def wait_for(self, condition: Any, seconds: float = 20) -> None:
        """Read until a condition is true."""
        while not condition():
            self._socket.settimeout(seconds)
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
                if not condition():
                    raise ConnectionResetError("the server has closed the connection")
                return
            for event in self._h2.receive_data(data):
                self._take(event)
            self._flush()

    def _take(self, event: h2.events.Event) -> None:
        number: int = getattr(event, "stream_id", None) or 0
        stream = self.streams.setdefault(number, Stream()) if number else Stream()
        match event:
            case h2.events.InformationalResponseReceived():
                stream.hints.append(texts(event.headers))
            case h2.events.ResponseReceived():
                stream.headers = texts(event.headers)
            case h2.events.DataReceived():
                stream.body += event.data
                if self.reads and event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, number)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.reset = int(event.error_code or 0)
            case h2.events.PushedStreamReceived(pushed_stream_id=int(promised)):
                pushed = self.streams.setdefault(promised, Stream())
                pushed.request = texts(event.headers)
            case h2.events.RemoteSettingsChanged():
                changed = event.changed_settings.values()
                self.settings.update({each.setting: each.new_value for each in changed})
            case h2.events.ConnectionTerminated():
                self.going_away = int(event.error_code or 0)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self._socket.sendall(data)


def texts(headers: Any) -> list[tuple[str, str]]:
    """Return an event's headers, which the configuration has decoded."""
    return [(name, value) for name, value in headers]


@contextmanager
def http2_client(
    port: int, *, tls: ssl.SSLContext | None = None, reads: bool = True
) -> Iterator[Http2Client]:
    """Connect to 127.0.0.1, by prior knowledge without TLS; close it when the block ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        connected = plain
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
            connected = tls.wrap_socket(plain, server_hostname="localhost")
        with connected:
            yield Http2Client(connected, f"localhost:{port}", reads=reads)
