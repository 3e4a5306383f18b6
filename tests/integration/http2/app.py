"""What is served over HTTP/2 and HTTP/3: the proxies' application, and what only these have."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
from starlette.types import Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.integration.proxies.front import app as front
from tests.integration.proxies.front.app import Endpoint, answer

BLOCK = b"x" * 16384


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 64 MB, and count the blocks that the server has taken."""
    own = front.streams[front.name_of(scope)]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(4096):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        own.written += 1
    await send({"type": "http.response.body"})


async def gated(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a piece, and the others when there is a file, for a stopped server takes no request."""
    go = Path(os.environ["HERMES_TEST_FOLDER"], f"go-{front.name_of(scope)}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(6):
        piece = f"data: piece {number}\n\n".encode()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        while not go.exists():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.02)
    await send({"type": "http.response.body"})


async def hints(scope: Scope, receive: Receive, send: Send) -> None:
    """Send early hints where the server can, and the page."""
    if "http.response.early_hint" in (scope.get("extensions") or {}):
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await answer(send, b"ok")


async def push(scope: Scope, receive: Receive, send: Send) -> None:
    """Push a page where the server can, and send another."""
    if "http.response.push" in (scope.get("extensions") or {}):
        await send({"type": "http.response.push", "path": "/seen", "headers": []})
    await answer(send, b"ok")


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise before anything was sent."""
    raise LookupError("before the start")


async def cookies(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell the fields in which cookies came."""
    fields = [value.decode() for key, value in scope["headers"] if key.lower() == b"cookie"]
    await answer(send, json.dumps(fields).encode())


async def blank(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a page for a browser to be on."""
    await answer(send, b"<!doctype html><title>blank</title>", (b"content-type", b"text/html"))


ROUTES: dict[str, Endpoint] = {
    **front.ROUTES,
    "/flood": flood,
    "/gated": gated,
    "/hints": hints,
    "/push": push,
    "/raising": raising,
    "/cookies": cookies,
    "/blank": blank,
}


async def routes(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the paths above."""
    if scope["type"] in {"http", "websocket"}:
        await ROUTES[scope["path"]](scope, receive, send)


served: Any = HermesSessionMiddleware(routes, MemoryStore())


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the test's own questions outside of the middleware, and all else within."""
    if scope["type"] == "http" and scope["path"] == "/told/stream":
        own = front.streams[front.name_of(scope)]
        if scope["method"] == "POST":
            own.releases.release()
        await answer(send, json.dumps({**own.told(), "written": own.written}).encode())
    elif scope["type"] == "http" and scope["path"] == "/told/lines":
        await answer(send, b"[]")
    else:
        await served(scope, receive, send)
