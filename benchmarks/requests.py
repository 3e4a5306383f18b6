"""Requests that need no database: what the header path adds to an application, without sockets.

All subjects wrap the same application, and read, mint and stamp the same header. Two peers know no
such header: starsessions and Starlette's SessionMiddleware get a cookie instead, and because the
application leaves its session alone, they read that cookie and stamp nothing. So they do less than
the others.
"""

import json
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from asgi_correlation_id import CorrelationIdMiddleware
from itsdangerous import TimestampSigner
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_context.middleware import RawContextMiddleware
from starlette_context.plugins import RequestIdPlugin
from starsessions import InMemoryStore
from starsessions import SessionMiddleware as StarsessionsMiddleware

from benchmarks.judging import apart, overhead
from benchmarks.measuring import SHORT, Cell, Dose, Spread, Subject, compare
from hermes_session_mw import SESSION_HEADER, HermesSessionMiddleware

LOOPS = ("asyncio", "trio")
CASES = ("mint", "echo")
BODIES = ("plain", "100 chunks")

_FIELD = SESSION_HEADER.lower().encode("ascii")
_ID = "0123456789abcdef0123456789abcdef"  # a UUID too: some of the peers take nothing else
_SECRET = "not-a-secret"  # noqa: S105  # it signs the cookie of a benchmark
_CHUNKS = 100
_CHUNK = b"data: a piece of an answer, as long as models send them\n\n"
_COOKIES = ("starsessions", "SessionMiddleware")
_NO_STAMP = ("bare app", *_COOKIES)

_COMMON_HEADERS = (
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"benchmark"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"content-type", b"application/json"),
)
_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/chat/completions",
    "raw_path": b"/v1/chat/completions",
    "query_string": b"",
    "root_path": "",
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8000),
}

Serve = Callable[[Send], Awaitable[None]]


def measure(dose: Dose) -> list[Cell]:
    """Return a cell for each event loop, case and body."""
    return [
        anyio.run(_measure, loop, case, body, dose, backend=loop)
        for loop in LOOPS
        for case in CASES
        for body in BODIES
    ]


async def _measure(loop: str, case: str, body: str, dose: Dose) -> Cell:
    async with _subjects(_plain if body == "plain" else _chunks) as apps:
        requests = {name: _request(app, _headers(name, case)) for name, app in apps.items()}
        for name, request in requests.items():
            await _check(name, case, request)
        subjects = [Subject.here(name, _operation(request)) for name, request in requests.items()]
        return await compare(
            "requests", {"loop": loop, "case": case, "body": body}, subjects, dose=dose
        )


@asynccontextmanager
async def _subjects(app: ASGIApp) -> AsyncIterator[dict[str, ASGIApp]]:
    with TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'sessions.db'}"
        ours = HermesSessionMiddleware(app, url, autoload=False)
        try:
            yield {
                "bare app": app,
                "ours": ours,
                "floor": _floor(app),
                "asgi-correlation-id": CorrelationIdMiddleware(app, header_name=SESSION_HEADER),
                "starsessions": StarsessionsMiddleware(app, store=InMemoryStore()),
                "SessionMiddleware": SessionMiddleware(app, _SECRET),
                "starlette-context": RawContextMiddleware(app, plugins=(_ContextPlugin(),)),
                "BaseHTTPMiddleware": BaseHTTPMiddleware(app, dispatch=_dispatch),
            }
        finally:
            await ours.store.aclose()


async def _plain(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    await send(_start(b"application/json"))
    await send({"type": "http.response.body", "body": b'{"answer": 42}'})


async def _chunks(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    await send(_start(b"text/event-stream"))
    for _ in range(_CHUNKS - 1):
        await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": _CHUNK})


def _start(content_type: bytes) -> Message:
    headers = [(b"content-type", content_type), (b"x-content-type-options", b"nosniff")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _floor(app: ASGIApp) -> ASGIApp:
    """Return the middleware that somebody writes by hand: no checks, and nothing kept."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        value = b""
        for key, content in scope["headers"]:
            if key == _FIELD:
                value = content
        if not value:
            value = token_hex(16).encode("ascii")

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_FIELD, value)]
            await send(message)

        await app(scope, receive, send_stamped)

    return middleware


class _ContextPlugin(RequestIdPlugin):  # type: ignore[misc]  # it may not be installed
    key = SESSION_HEADER


async def _dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
    session_id = request.headers.get(SESSION_HEADER) or token_hex(16)
    response = await call_next(request)
    response.headers[SESSION_HEADER] = session_id
    return response


def _headers(name: str, case: str) -> list[tuple[bytes, bytes]]:
    if case == "mint":
        return [*_COMMON_HEADERS]
    if name not in _COOKIES:
        return [*_COMMON_HEADERS, (_FIELD, _ID.encode("ascii"))]
    value = _ID.encode("ascii") if name == "starsessions" else _signed({"session_id": _ID})
    return [*_COMMON_HEADERS, (b"cookie", b"session=" + value)]


def _signed(session: dict[str, str]) -> bytes:
    return TimestampSigner(_SECRET).sign(b64encode(json.dumps(session).encode("ascii")))


def _request(app: ASGIApp, headers: list[tuple[bytes, bytes]]) -> Serve:
    """Return a function that has ``app`` serve a request with ``headers``."""

    async def serve(send: Send) -> None:
        # Servers make new ones for each request, and some of the peers add to the headers' list.
        await app({**_SCOPE, "headers": [*headers], "state": {}}, _receive, send)

    return serve


def _operation(serve: Serve) -> Callable[[], Awaitable[None]]:
    async def operate() -> None:
        await serve(_send)

    return operate


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    pass


async def _check(name: str, case: str, serve: Serve) -> None:
    """Raise where a subject does not do what it is measured for."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await serve(keep)
    stamps = [value for key, value in sent[0]["headers"] if key.lower() == _FIELD]
    if name in _NO_STAMP:
        right = not stamps
    elif case == "echo":
        right = stamps == [_ID.encode("ascii")]
    else:
        right = len(stamps) == 1 and len(stamps[0]) == len(_ID)
    if not right or sent[-1].get("more_body"):
        raise RuntimeError(f"{name}, {case}: the response is wrong: {sent[:1]}, stamps {stamps}")


def _tell(cell: Cell) -> None:
    lines = [", ".join(map(str, cell.conditions.values()))]
    for sample in cell.samples:
        if sample.name == "bare app":
            lines.append(f"  {sample.name:20} {Spread.of(sample.wall).middle * 1e6:8.2f} µs")
            continue
        added: Any = overhead(cell, sample.name)
        beside = apart(added, overhead(cell, "floor")).middle
        lines.append(
            f"  {sample.name:20} {Spread.of(sample.wall).middle * 1e6:8.2f} µs, "
            f"{cell.ratio(sample.name, to='bare app').middle:6.2f} times the bare app; "
            f"adds {Spread.of(added).middle * 1e6:8.2f} µs, {beside:6.2f} times the floor's"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    for measured in measure(SHORT):
        _tell(measured)
