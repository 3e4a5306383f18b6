"""What is behind the proxies: it tells, beside them, what reached it and who has left."""

import json
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.datastructures import URL, Headers
from starlette.types import Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore

PIECES = 12
FIELD = b"x-hermes-session-id"


class Stream:
    """One stream: what was written, and whether its client was seen to leave.

    Attributes:
        written: how many pieces were.
        left: how many were written when the client's leaving was noticed.
        ended: whether the application has returned.
    """

    def __init__(self) -> None:
        self.written = 0
        self.left: int | None = None
        self.ended = False
        self.releases = anyio.Semaphore(0)

    def told(self) -> dict[str, Any]:
        """Return it as JSON."""
        begun = self.written > 0
        return {"begun": begun, "left": self.left, "ended": self.ended}


streams: dict[str, Stream] = defaultdict(Stream)
counts: dict[str, int] = defaultdict(int)
lines: list[str] = []


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    """Send a whole response."""
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [length, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def name_of(scope: Scope) -> str:
    """Return the stream's name by the query."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode()).get("name", [""])[0]


async def body_of(receive: Receive) -> bytes:
    """Read the request's body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def seen(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell which session it is, and how the request came."""
    told = {
        "id": scope["state"]["hermes_session"].id,
        "version": scope["http_version"],
        "url": str(URL(scope=scope)),
        "forwarded": ", ".join(Headers(scope=scope).getlist("x-forwarded-for")),
    }
    await answer(send, json.dumps(told).encode(), (b"content-type", b"application/json"))


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell the body's length."""
    await answer(send, str(len(await body_of(receive))).encode())


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a piece at once, and each other one when it is released."""
    await body_of(receive)
    own = streams[name_of(scope)]
    event_stream = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": event_stream})

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        own.left = own.written
        tasks.cancel_scope.cancel()

    async def write() -> None:
        while own.written < PIECES:
            piece = f"data: piece {own.written}\n\n".encode()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            own.written += 1
            await own.releases.acquire()
        await send({"type": "http.response.body"})
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            tasks.start_soon(write)
    finally:
        own.ended = True


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a piece, and raise when it is released."""
    own = streams[name_of(scope)]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: piece 0\n\n", "more_body": True})
    own.written = 1
    await own.releases.acquire()
    raise LookupError("in the middle of the stream")


async def counted(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell how many requests for this path have come; some responses are for shared caches."""
    counts[scope["path"]] += 1
    public = [(b"cache-control", b"public, max-age=60")] if "public" in scope["path"] else []
    await answer(send, str(counts[scope["path"]]).encode(), *public)


async def socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, tell the id, and send back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["state"]["hermes_session"].id})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


Endpoint = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]
ROUTES: dict[str, Endpoint] = {
    "/seen": seen,
    "/upload": upload,
    "/stream": stream,
    "/broken": broken,
    "/ws": socket,
    "/counted/ours": counted,
    "/counted/public": counted,
    "/static/silent": counted,
    "/static/public": counted,
}


async def routes(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the paths above, each to its kind of connection."""
    if (scope["path"] == "/ws") != (scope["type"] == "websocket"):
        await answer(send, b"not found", status=404)
    else:
        await ROUTES[scope["path"]](scope, receive, send)


served = HermesSessionMiddleware(routes, MemoryStore(), exclude=["/static"])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the test's own questions outside of the middleware, and all else within."""
    path = scope.get("path", "")
    if scope["type"] != "http" or not path.startswith("/told"):
        if path in ROUTES:
            lines[:] = [v.decode("latin-1") for k, v in scope["headers"] if k.lower() == FIELD]
        await served(scope, receive, send)
    elif path == "/told/lines":
        await answer(send, json.dumps(lines).encode())
    else:
        own = streams[name_of(scope)]
        if scope["method"] == "POST":
            own.releases.release()
        await answer(send, json.dumps(own.told()).encode())
