"""Looks at a server over HTTP/3, and prints the cells as JSON.

Run in the servers' environment: ``-m tests.integration.http2.http3_driver PORT CERTIFICATE``.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived, PushPromiseReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

PORT, CERTIFICATE = int(sys.argv[1]), sys.argv[2]
FIELD = b"x-hermes-session-id"
WITHIN = 5.0

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass
class Stream:
    """What came on one stream, and an event for each change."""

    headers: list[tuple[bytes, bytes]] | None = None
    hints: int = 0
    body: bytes = b""
    ended: bool = False
    reset: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int:
        """The response's status."""
        return int(dict(self.headers or [(b":status", b"0")])[b":status"])

    def all(self) -> list[bytes]:
        """Return its session ids."""
        return [value for key, value in self.headers or [] if key == FIELD]

    async def wait(self, condition: Callable[["Stream"], Any], seconds: float = 20) -> None:
        """Wait until something is true of it."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()


class Client(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.http = H3Connection(self._quic)
        self.streams: dict[int, Stream] = {}
        self.pushes: dict[int, Stream] = {}
        self.promised: list[Any] = []

    def quic_event_received(self, event: Any) -> None:
        """Take an event of the connection."""
        if isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id].reset = True
            self.streams[event.stream_id].changed.set()
        if isinstance(event, ConnectionTerminated):
            for stream in self.streams.values():
                stream.reset = True
                stream.changed.set()
        for each in self.http.handle_event(event):
            self._take(each)

    def _take(self, event: Any) -> None:
        if isinstance(event, PushPromiseReceived):
            self.promised.append(event.headers)
            return
        if getattr(event, "push_id", None) is not None:
            stream = self.pushes.setdefault(event.push_id, Stream())
        else:
            stream = self.streams.setdefault(event.stream_id, Stream())
        if isinstance(event, HeadersReceived):
            if dict(event.headers).get(b":status", b"").startswith(b"1"):
                stream.hints += 1
            elif stream.headers is None:
                stream.headers = event.headers
        elif isinstance(event, DataReceived):
            stream.body += event.data
        stream.ended = event.stream_ended
        stream.changed.set()

    def request(
        self, path: str, headers: Pairs = (), *, method: bytes = b"GET", first: Pairs = ()
    ) -> int:
        """Send a request, and return its stream's number."""
        number: int = self._quic.get_next_available_stream_id()
        self.streams[number] = Stream()
        pseudo = [(b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
        whole = [(b":method", method), *first, *pseudo, *headers]
        self.http.send_headers(number, whole, end_stream=method != b"CONNECT")
        self.transmit()
        return number

    async def get(self, path: str, headers: Pairs = (), method: bytes = b"GET") -> Stream:
        """Return a response that has come whole."""
        stream = self.streams[self.request(path, headers, method=method)]
        await stream.wait(lambda s: s.ended or s.reset)
        return stream

    def leave(self, number: int) -> None:
        """Reset a request, and ask for no more of its response."""
        self._quic.reset_stream(number, 0x10C)
        self._quic.stop_stream(number, 0x10C)
        self.transmit()


def connected() -> Any:
    """Open a connection."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, server_name="localhost"
    )
    configuration.load_verify_locations(CERTIFICATE)
    return connect("127.0.0.1", PORT, configuration=configuration, create_protocol=Client)


async def tell(name: str, *, releases: bool = False) -> dict[str, Any]:
    """Return what the application tells of a stream."""
    async with connected() as client:
        method = b"POST" if releases else b"GET"
        told: dict[str, Any] = json.loads(
            (await client.get(f"/told/stream?name={name}", method=method)).body
        )
        return told


async def version(client: Client) -> str:
    """Tell which version of HTTP the application sees."""
    return str(json.loads((await client.get("/seen")).body)["version"])


async def ids(client: Client) -> str:
    """A page and a 500 have the client's id, and a refusal a new one."""
    for path, status in [("/seen", 200), ("/raising", 500)]:
        stream = await client.get(path, [(FIELD, b"known")])
        assert (stream.status, stream.all()) == (status, [b"known"]), path
    refused = await client.get("/seen", [(FIELD, b"a b")])
    assert (refused.status, len(refused.all())) == (400, 1)
    return "one"


async def twice(client: Client) -> str:
    """Tell what becomes of a request with two ids."""
    stream = await client.get("/seen", [(FIELD, b"one"), (FIELD, b"two")])
    return f"{stream.status}{', stamped' if len(stream.all()) == 1 else ', no id'}"


async def large(client: Client) -> str:
    """Tell what becomes of a field of 20 kB."""
    return str((await client.get("/seen", [(b"x-large", b"x" * 20480)])).status)


async def cookies(client: Client) -> str:
    """Tell in how many fields two cookies come that a client splits."""
    stream = await client.get("/cookies", [(b"cookie", b"a=1"), (b"cookie", b"b=2")])
    return {2: "two fields", 1: "one"}[len(json.loads(stream.body))]


async def heard(name: str) -> str:
    """Tell whether the application hears that a stream's client has left."""
    for _ in range(int(WITHIN / 0.2)):
        if (await tell(name))["left"] is not None:
            return "at once"
        await asyncio.sleep(0.2)
    for _ in range(3):  # it may be noticed where something is written
        await tell(name, releases=True)
        await asyncio.sleep(0.5)
        if (await tell(name))["left"] is not None:
            return "at a later piece"
    return "not"


async def cancelled(client: Client) -> str:
    """Tell whether the application hears that a client cancels a quiet stream."""
    number = client.request("/stream?name=cancelled-3")
    await client.streams[number].wait(lambda s: s.body)
    client.leave(number)
    return await heard("cancelled-3")


async def closed(_: Client) -> str:
    """Tell whether the application hears that a client closes its connection."""
    async with connected() as other:
        number = other.request("/stream?name=closed-3")
        await other.streams[number].wait(lambda s: s.body)
    return await heard("closed-3")


async def broken(client: Client) -> str:
    """Tell what a client sees of an application that raises in the middle of a stream."""
    stream = client.streams[client.request("/broken?name=broken-3")]
    await stream.wait(lambda s: s.body)
    await tell("broken-3", releases=True)
    with suppress(TimeoutError):
        await stream.wait(lambda s: s.ended or s.reset, 3 * WITHIN)
        return "a clean end" if stream.ended else "reset"
    return "nothing"


async def websocket(client: Client) -> str:
    """Tell whether a WebSocket can be opened by an extended CONNECT."""
    await client.get("/seen")
    settings = client.http.received_settings or {}
    if not settings.get(8):
        return "not offered"
    headers = [(b"sec-websocket-version", b"13"), (FIELD, b"socket")]
    protocol = [(b":protocol", b"websocket")]
    number = client.request("/ws", headers, method=b"CONNECT", first=protocol)
    stream = client.streams[number]
    await stream.wait(lambda s: s.headers is not None or s.reset)
    if stream.status != 200:
        return str(stream.status)
    return "yes, stamped" if stream.all() == [b"socket"] else "yes, no id"


async def hints(client: Client) -> str:
    """Tell whether early hints arrive."""
    stream = await client.get("/hints", [(FIELD, b"hinted")])
    assert stream.all() == [b"hinted"]
    return "yes" if stream.hints else "not offered"


async def pushed(client: Client) -> str:
    """Tell whether a page is pushed, and whether it is in the session of its request."""
    await client.get("/push", [(FIELD, b"pushing")])
    if not client.promised:
        return "not offered"
    for _ in range(100):
        if client.pushes and all(stream.ended for stream in client.pushes.values()):
            break
        await asyncio.sleep(0.05)
    (page,) = client.pushes.values()
    own = json.loads(page.body)["id"] == "pushing" and page.all() == [b"pushing"]
    return "in its request's session" if own else "in another session"


ROWS: list[tuple[str, Callable[[Client], Awaitable[str]]]] = [
    ("HTTP version in the application", version),
    ("ids on a page, a 500 and a 400", ids),
    ("two ids", twice),
    ("a header field of 20 kB", large),
    ("two cookies in two fields come in", cookies),
    ("a client that cancels a quiet stream is noticed", cancelled),
    ("a client that closes its connection is noticed", closed),
    ("an application that raises in the middle of a stream", broken),
    ("a WebSocket by an extended CONNECT", websocket),
    ("early hints", hints),
    ("a push", pushed),
]


async def main() -> dict[str, str]:
    """Return the cells."""
    seen = {}
    for name, look in ROWS:
        async with connected() as client:
            try:
                seen[name] = await look(client)
            except TimeoutError:
                seen[name] = "no answer"
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
