"""Driving an ASGI application with raw scopes, and keeping the log of what it sends."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw import HermesSession

HEADER = b"x-hermes-session-id"
Headers = Iterable[tuple[bytes, bytes]]


def http_scope(headers: Headers = (), **extra: Any) -> Scope:
    """Return the scope of a GET request, as a server would make it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **extra,
    }


async def request(
    app: ASGIApp,
    session_id: str | bytes | None = None,
    *,
    scope: Scope | None = None,
    body: bytes = b"",
) -> list[Message]:
    """Send one request, and return the log of ASGI messages that came back."""
    if scope is None:
        value = session_id.encode("latin-1") if isinstance(session_id, str) else session_id
        scope = http_scope() if value is None else http_scope([(HEADER, value)])
    log: list[Message] = []
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        log.append(message)

    await app(scope, receive, send)
    return log


def types(log: list[Message]) -> list[str]:
    """Return the log's message types."""
    return [message["type"] for message in log]


def stamps(log: list[Message]) -> list[str]:
    """Return every session id on the log's response start."""
    start = next(message for message in log if message["type"] == "http.response.start")
    return [bytes(v).decode() for k, v in start["headers"] if bytes(k).lower() == HEADER]


def stamp(log: list[Message]) -> str:
    """Return the one session id that the log's response start carries."""
    (only,) = stamps(log)
    return only


class Recorder:
    """An application that answers 200 and keeps the session of every request."""

    def __init__(self, work: Callable[[HermesSession], Awaitable[object]] | None = None) -> None:
        self.sessions: list[HermesSession] = []
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["state"]["hermes_session"]
        self.sessions.append(session)
        if self._work is not None:
            await self._work(session)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def session(self) -> HermesSession:
        """The session of the last request."""
        return self.sessions[-1]


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[list[Message]]:
    """Run the application's lifespan around a block; yield the log of its messages."""
    log: list[Message] = []
    to_app, from_test = anyio.create_memory_object_stream[Message](2)
    started, stopped = anyio.Event(), anyio.Event()

    async def send(message: Message) -> None:
        log.append(message)
        (stopped if "shutdown" in message["type"] else started).set()

    async with anyio.create_task_group() as tasks, to_app, from_test:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}

        async def run() -> None:
            await app(scope, from_test.receive, send)

        tasks.start_soon(run)
        await to_app.send({"type": "lifespan.startup"})
        await started.wait()
        yield log
        await to_app.send({"type": "lifespan.shutdown"})
        await stopped.wait()
