"""Driving one case through one application, and judging what came out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from starlette.types import ASGIApp, Message, Scope

STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
THREAD = "thread-1"

Marks = Callable[[Message], list[str]]
"""What a middleware has put on a starting message: one value for each time."""


@dataclass
class Outcome:
    """What one connection sent, and what it raised."""

    log: list[Message] = field(default_factory=list)
    raised: BaseException | None = None

    @property
    def starts(self) -> list[Message]:
        """The messages that begin a response."""
        return [message for message in self.log if message["type"] in STARTS]

    @property
    def status(self) -> int | None:
        """The response's status; 101 for an accepted WebSocket."""
        return self.starts[0].get("status", 101) if self.starts else None


@dataclass(frozen=True)
class Case:
    """One kind of response: what is asked for, and what comes when all is well."""

    name: str
    path: str
    status: int
    method: str = "GET"
    kind: str = "http"
    body: bytes = b""


CASES = [
    Case("200, whole", "/json", 200),
    Case("200, streamed", "/stream", 200),
    Case("204, empty", "/empty", 204),
    Case("302, redirect", "/redirect", 302),
    Case("404, no such path", "/no/such/path", 404),
    Case("405, wrong method", "/json", 405, method="DELETE"),
    Case("418, an HTTP error raised", "/teapot", 418),
    Case("413, body over the framework's limit", "/upload", 413, method="POST", body=b"x" * 2000),
    Case("500, an unhandled error", "/error", 500),
    Case("500, in an exception group", "/group", 500),
    Case("a handler that raises", "/handler", 500),
    Case("an error after the start", "/crash", 200),
    Case("a start without a headers key", "/bare", 200),
    Case("headers from a generator", "/generator", 200),
    Case("the application sets the header itself", "/own", 200),
    Case("trailers", "/trailers", 200),
    Case("WebSocket accepted", "/ws", 101, kind="websocket"),
    Case("WebSocket denied with a response", "/denied", 403, kind="websocket"),
]


def scope_of(case: Case) -> Scope:
    """Return the case's scope, with the header, as a server of today would make it."""
    websocket = case.kind == "websocket"
    return {
        "type": case.kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws" if websocket else "http",
        "path": case.path,
        "raw_path": case.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"testserver"),
            (b"content-length", str(len(case.body)).encode()),
            (b"x-hermes-session-id", THREAD.encode()),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
        "extensions": {"websocket.http.response": {}, "http.response.trailers": {}},
        **({"subprotocols": []} if websocket else {"method": case.method}),
    }


def drive(app: ASGIApp, case: Case, backend: str) -> Outcome:
    """Send the case's request, and return what came out."""
    outcome = Outcome()
    answered = anyio.Event()
    incoming: list[Message]
    if case.kind == "websocket":
        incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    else:
        incoming = [{"type": "http.request", "body": case.body, "more_body": False}]

    async def receive() -> Message:
        if incoming:
            return incoming.pop(0)
        if case.kind == "websocket":
            return {"type": "websocket.disconnect", "code": 1000}
        await answered.wait()  # until then the client stays
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        outcome.log.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    async def run() -> None:
        with anyio.fail_after(60):
            try:
                await app(scope_of(case), receive, send)
            except Exception as exc:  # noqa: BLE001  # what an application raises is the outcome
                outcome.raised = exc

    anyio.run(run, backend=backend)
    return outcome


def judge(outcome: Outcome, case: Case, marks: Marks) -> bool:
    """Tell whether one response began, as the case wants it, with one mark on it."""
    return (
        len(outcome.starts) == 1
        and outcome.status == case.status
        and len(marks(outcome.starts[0])) == 1
    )
