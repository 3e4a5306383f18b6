"""What is looked at behind each proxy: a function each, which returns a cell of the table."""

import json
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import httpx2
import websockets.exceptions
from websockets.sync.client import connect

from hermes_session_mw import SESSION_HEADER, is_session_id
from tests.integration.proxies.front.app import PIECES
from tests.integration.proxies.front.programs import Ports
from tests.support.certificates import trusting
from tests.support.http2 import http2_client

WITHIN = 8.0
"""Seconds after which something counts as not noticed, or not come."""

LATE = 0.1
"""Seconds after which each of ten pieces has to come to count as late, on a busy machine too."""

LONGEST_ID = "i" * 256


@dataclass(frozen=True)
class Answer:
    """What came back: None as its status stands for a connection that was closed."""

    status: int | None
    ids: Sequence[str] = ()
    body: bytes = b""

    def told(self) -> str:
        """Return its status, and whether it has an id."""
        if self.status is None:
            return "connection closed"
        return f"{self.status}{'' if self.ids else ', no id'}"


def ask(
    port: int,
    path: str,
    *ids: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    """Send a request over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path)
        for name, value in [*((SESSION_HEADER, each) for each in ids), *headers]:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body is not None:
            with suppress(ConnectionError):  # refused by its length
                connection.send(body)
        response = connection.getresponse()
        got = response.headers.get_all(SESSION_HEADER) or []
        return Answer(response.status, got, response.read())
    except (HTTPException, ConnectionError):
        return Answer(None)
    finally:
        connection.close()


class Watched:
    """A stream behind a proxy, and beside it what the application tells of it."""

    _number = 0

    def __init__(self, ports: Ports, path: str = "/stream", method: str = "GET") -> None:
        type(self)._number += 1
        self.name = f"{path.strip('/')}-{self._number}-{ports.plain}"
        self._ports = ports
        self._got = b""
        self._socket = socket.create_connection(("127.0.0.1", ports.plain), timeout=30)
        length = "Content-Length: 2\r\n\r\n{}" if method == "POST" else "\r\n"
        request = f"{method} {path}?name={self.name} HTTP/1.1\r\nHost: localhost\r\n{length}"
        self._socket.sendall(request.encode())

    def comes(self, text: str, within: float = WITHIN) -> bool:
        """Tell whether a text comes within so many seconds."""
        until = time.monotonic() + within
        while text.encode() not in self._got:
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return False
            if not data:
                return False
            self._got += data
        return True

    def ends(self) -> str:
        """Tell how the response ends."""
        with suppress(TimeoutError):
            self._socket.settimeout(WITHIN)
            try:
                while data := self._socket.recv(65536):
                    self._got += data
                    if self._got.endswith(b"\r\n0\r\n\r\n"):
                        return "a clean end"
            except ConnectionResetError:
                return "cut off"
            # Over HTTP/1.0, or closed with the connection, nothing tells the end from a cut.
            chunked = b"chunked" in self._got.lower().split(b"\r\n\r\n")[0]
            return "cut off" if chunked else "a clean end"
        return "nothing"

    def release(self) -> None:
        """Let the application go on by a piece."""
        ask(self._ports.app, f"/told/stream?name={self.name}", method="POST")

    def state(self) -> dict[str, bool | int | None]:
        """Return what the application tells of the stream."""
        told: dict[str, bool | int | None] = json.loads(
            ask(self._ports.app, f"/told/stream?name={self.name}").body
        )
        return told

    def wait_for(self, name: str, within: float = WITHIN) -> bool:
        """Tell whether something is true of the stream within so many seconds."""
        until = time.monotonic() + within
        while self.state()[name] in {None, False}:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def leave(self) -> None:
        """Close the client's connection."""
        self._socket.close()


def two_lines(ports: Ports) -> str:
    """Tell how two session ids arrive, which the middleware refuses."""
    answer = ask(ports.plain, "/seen", "one", "two")
    lines = json.loads(ask(ports.app, "/told/lines").body)
    assert answer.status == 400
    assert len(answer.ids) == 1
    assert is_session_id(answer.ids[0])
    assert answer.ids[0] not in {"one", "two"}
    return {("one", "two"): "two", ("one, two",): "one: `a, b`"}[tuple(lines)]


def longest_id(ports: Ports) -> str:
    """Tell whether an id of 256 characters arrives, and comes back once."""
    answer = ask(ports.plain, "/seen", LONGEST_ID)
    came = json.loads(answer.body)["id"] if answer.status == 200 else None
    return "passes" if came == LONGEST_ID and answer.ids == [LONGEST_ID] else answer.told()


def large_head(ports: Ports) -> str:
    """Tell from which length a header field is refused, and how."""
    for kilobytes in (4, 7, 9, 15, 17, 31, 33, 60, 65, 70):
        large = ("X-Large", "x" * (kilobytes * 1024))
        answer = ask(ports.plain, "/seen", "large", headers=[large])
        if answer.status != 200:
            return f"at {kilobytes} kB: {answer.told()}"
    return "passes 70 kB"


def large_body(ports: Ports) -> str:
    """Tell from which length a body is refused, and how."""
    for megabytes in (1, 2, 7, 20):
        answer = ask(ports.plain, "/upload", "large", method="POST", body=b"x" * (megabytes << 20))
        if answer.status != 200:
            return f"at {megabytes} MB: {answer.told()}"
    return "passes 20 MB"


def pieces(ports: Ports) -> str:
    """Tell when each piece of a stream comes: each is awaited before the next is released."""
    stream = Watched(ports)
    if not stream.comes("piece 0"):
        for _ in range(PIECES):
            stream.release()
        comes = stream.comes(f"piece {PIECES - 1}", 30)
        stream.leave()
        return "at its end" if comes else "never"
    took: list[float] = []
    for number in range(1, 11):
        began = time.monotonic()
        stream.release()
        assert stream.comes(f"piece {number}"), number
        took.append(time.monotonic() - began)
    stream.leave()
    return "at once" if min(took) < LATE else f"each {min(took):.1f} s late"


def _left(ports: Ports, method: str) -> str:
    stream = Watched(ports, method=method)
    if not stream.comes("piece 0"):
        stream.wait_for("begun")
    stream.leave()
    if stream.wait_for("left"):
        return "at once"
    for number in range(1, 7):
        stream.release()
        if stream.wait_for("left", 1):
            return "at the next piece" if number == 1 else "at a later piece"
    return "not in 6 pieces"


def leaves_get(ports: Ports) -> str:
    """Tell when the application hears that the client of a GET has left."""
    return _left(ports, "GET")


def leaves_post(ports: Ports) -> str:
    """Tell when the application hears that the client of a POST has left."""
    return _left(ports, "POST")


def broken(ports: Ports) -> str:
    """Tell what a client sees of an application that raises in the middle of a stream."""
    stream = Watched(ports, "/broken")
    stream.comes("piece 0")
    stream.release()
    end = stream.ends()
    stream.leave()
    return end


def socket_(ports: Ports) -> str:
    """Tell whether a WebSocket works, and whether its handshake has the id."""
    try:
        with connect(
            f"ws://127.0.0.1:{ports.plain}/ws",
            additional_headers={SESSION_HEADER: "socket"},
            open_timeout=WITHIN,
        ) as opened:
            assert opened.response is not None
            ids = opened.response.headers.get_all(SESSION_HEADER)
            assert opened.recv(timeout=WITHIN) == "socket"
            opened.send("hello")
            assert opened.recv(timeout=WITHIN) == "hello"
    except websockets.exceptions.InvalidStatus as exc:
        ids = exc.response.headers.get_all(SESSION_HEADER)
        return f"no: {exc.response.status_code}{'' if ids else ', no id'}"
    except (TimeoutError, websockets.exceptions.WebSocketException) as exc:
        return f"no: {type(exc).__name__}"
    return "yes, stamped" if ids == ["socket"] else f"yes, ids: {ids}"


def _kept(ports: Ports, path: str) -> str:
    first, second = (ask(ports.plain, path, name) for name in ("cache-a", "cache-b"))
    assert first.status == second.status == 200, (first, second)
    if first.body != second.body:
        return "not kept"
    return "handed on" if list(second.ids) != ["cache-a"] else "handed on, with the first one's id"


def cached_ours(ports: Ports) -> str:
    """Tell whether a response that says nothing, and is made private, is kept."""
    return _kept(ports, "/counted/ours")


def cached_public(ports: Ports) -> str:
    """Tell whether a stamped response that says ``public`` is kept."""
    return _kept(ports, "/counted/public")


def cached_silent(ports: Ports) -> str:
    """Tell whether a response that is excluded, and says nothing, is kept."""
    return _kept(ports, "/static/silent")


def cached_static(ports: Ports) -> str:
    """Tell whether a response that is excluded, and says ``public``, is kept."""
    return _kept(ports, "/static/public")


def down(ports: Ports) -> str:
    """Tell what is answered where the application is down; ``ports`` has one of nobody's."""
    return ask(ports.plain, "/seen", "mine").told()


def seen_url(ports: Ports, scheme: str, *, claimed: str) -> tuple[str, str | None, str]:
    """Return the scheme, the name and the client's address that the application sees."""
    port = ports.tls if scheme == "https" else ports.plain
    headers = {"X-Forwarded-Proto": claimed} if claimed else {}
    url = f"{scheme}://localhost:{port}/seen"
    told = httpx2.get(url, headers=headers, verify=trusting(), timeout=30).json()
    seen = urlsplit(told["url"])
    return seen.scheme, seen.hostname, told["forwarded"]


def http_2(ports: Ports, *, tls: bool) -> str:
    """Tell whether clients may speak HTTP/2, and what the application hears then."""
    try:
        with http2_client(
            ports.tls if tls else ports.plain, tls=trusting() if tls else None
        ) as client:
            number = client.request("/seen", [(SESSION_HEADER.lower(), "two")])
            stream = client.wait(number)
            assert stream.all(SESSION_HEADER) == ["two"]
            version = json.loads(stream.body)["version"]
    except Exception:  # noqa: BLE001  # h2 has errors of its own for what is no HTTP/2
        return "no"
    return f"{'yes' if tls else 'without TLS'}; {version} behind it"


Probe = Callable[[Ports], str]
