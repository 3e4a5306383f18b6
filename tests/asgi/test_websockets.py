"""WebSockets: the handshake is stamped, and a refusal comes before it."""

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from hermes_session_mw import (
    HermesSessionMiddleware,
    MemoryStore,
    SessionBusy,
    StoreUnavailable,
    get_session,
    is_session_id,
)
from tests.asgi.test_middleware import HELLO, FailingStore, filled
from tests.support.asgi import HEADER, types

ACCEPT: Message = {"type": "websocket.accept", "subprotocol": None}
CLOSE: Message = {"type": "websocket.close", "code": 1000}
DENIAL = "websocket.http.response"


def websocket_scope(
    value: bytes | None = None, *, spec_version: str | None = "2.4", denial: bool = True
) -> Scope:
    """Return a WebSocket's scope, as servers of different ages make it."""
    asgi = {"version": "3.0", **({"spec_version": spec_version} if spec_version else {})}
    return {
        "type": "websocket",
        "asgi": asgi,
        "path": "/",
        "headers": [] if value is None else [(HEADER, value)],
        "subprotocols": [],
        "state": {},
        **({"extensions": {DENIAL: {}}} if denial else {}),
    }


async def connect(app: ASGIApp, scope: Scope) -> list[Message]:
    """Connect, and return what the application sends."""
    log: list[Message] = []
    incoming = [{"type": "websocket.connect"}]

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1005}

    async def send(message: Message) -> None:
        log.append(message)

    await app(scope, receive, send)
    return log


class Accepting:
    """An application that accepts, says something and closes."""

    def __init__(self, **accept: Any) -> None:
        self.accept = {**ACCEPT, **accept}
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        assert (await receive())["type"] == "websocket.connect"
        await send(self.accept)
        await send({"type": "websocket.send", "text": scope["state"]["hermes_session"].id})
        await send({"type": "websocket.close", "code": 1000})


@pytest.mark.parametrize("accept", [{}, {"headers": []}, {"headers": [(HEADER, b"other")]}])
async def test_an_accept_is_stamped(accept: dict[str, Any]) -> None:
    """The handshake's response carries the id once, and nothing is added for caches."""
    app = Accepting(**accept)
    wrapped = HermesSessionMiddleware(app, MemoryStore())
    log = await connect(wrapped, websocket_scope(b"known"))
    assert log[0] == {**ACCEPT, "headers": [(HEADER, b"known")]}
    assert app.accept == {**ACCEPT, **accept}
    assert log[1:] == [
        {"type": "websocket.send", "text": "known"},
        {"type": "websocket.close", "code": 1000},
    ]


async def test_a_handshake_without_the_header_gets_a_new_session() -> None:
    """An id is minted for it, as for a request."""
    log = await connect(HermesSessionMiddleware(Accepting(), MemoryStore()), websocket_scope())
    ((_, value),) = log[0]["headers"]
    assert is_session_id(value.decode())
    assert log[1]["text"] == value.decode()


@pytest.mark.parametrize("spec_version", ["2.0", None])
async def test_an_old_servers_accept_is_left_alone(spec_version: str | None) -> None:
    """Before version 2.1 of the specification an accept takes no headers."""
    app = Accepting()
    wrapped = HermesSessionMiddleware(app, MemoryStore())
    scope = websocket_scope(b"known", spec_version=spec_version, denial=False)
    log = await connect(wrapped, scope)
    assert log[0] is app.accept


@pytest.mark.parametrize(
    ("spec_version", "denial"),
    [
        ("2.1", False),
        ("2.1rc", True),
        ("2.5", False),
        ("2.10", False),
        ("3.0", False),
        (None, True),
    ],
)
async def test_newer_servers_accept_is_stamped(spec_version: str | None, *, denial: bool) -> None:
    """From version 2.1 on it takes them, and so does a server that knows denial responses."""
    wrapped = HermesSessionMiddleware(Accepting(), MemoryStore())
    scope = websocket_scope(b"known", spec_version=spec_version, denial=denial)
    log = await connect(wrapped, scope)
    assert log[0]["headers"] == [(HEADER, b"known")]


REFUSALS = [
    (b"a b", {}, 400, 1008, "invalid_session_id"),
    (b"unknown", {"unknown_ids": "reject"}, 404, 1008, "session_not_found"),
    (b"known", {"owner": lambda _: None}, 401, 1008, "owner_required"),
    (b"known", {"on_store_error": "unavailable"}, 503, 1013, "session_store_unavailable"),
]


@pytest.mark.parametrize(("value", "options", "status", "code", "name"), REFUSALS)
async def test_a_refusal_is_a_response_where_the_server_can_send_one(
    value: bytes, options: dict[str, Any], status: int, code: int, name: str
) -> None:
    """With the extension the refusal is a stamped denial response, in the shape as over HTTP."""
    app = Accepting()
    broken = FailingStore(StoreUnavailable("x")) if status == 503 else MemoryStore()
    wrapped = HermesSessionMiddleware(app, broken, **options)
    log = await connect(wrapped, websocket_scope(value))
    assert types(log) == [f"{DENIAL}.start", f"{DENIAL}.body"]
    assert log[0]["status"] == status
    assert is_session_id(dict(log[0]["headers"])[HEADER].decode())
    assert (dict(log[0]["headers"])[HEADER] == value) == (status in (401, 503))
    assert json.loads(log[1]["body"])["error"]["code"] == name
    assert app.calls == 0


@pytest.mark.parametrize(("value", "options", "status", "code", "name"), REFUSALS)
async def test_a_refusal_is_a_close_where_the_server_cannot(
    value: bytes, options: dict[str, Any], status: int, code: int, name: str
) -> None:
    """Without the extension the socket is closed before it was accepted, with a code that tells."""
    app = Accepting()
    broken = FailingStore(StoreUnavailable("x")) if status == 503 else MemoryStore()
    wrapped = HermesSessionMiddleware(app, broken, **options)
    log = await connect(wrapped, websocket_scope(value, denial=False))
    assert log == [{"type": "websocket.close", "code": code}]
    assert app.calls == 0


async def _close(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(CLOSE)


async def test_a_close_before_the_accept_is_the_servers_403_with_the_id() -> None:
    """A server answers 403 to such a close, without the id: so it is sent as a response."""
    log = await connect(HermesSessionMiddleware(_close, MemoryStore()), websocket_scope(b"known"))
    assert types(log) == [f"{DENIAL}.start", f"{DENIAL}.body"]
    assert (log[0]["status"], log[1]["body"]) == (403, b"")
    assert [value for name, value in log[0]["headers"] if name == HEADER] == [b"known"]


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param(websocket_scope(b"known", denial=False), id="a server without responses"),
        pytest.param(websocket_scope(b"known", spec_version=None), id="a test client"),
    ],
)
async def test_a_close_before_the_accept_is_left_to_others(scope: Scope) -> None:
    """A server that can send no response gets the close, and so does a client of tests."""
    log = await connect(HermesSessionMiddleware(_close, MemoryStore()), scope)
    assert log == [CLOSE]


async def test_a_crash_before_the_accept_is_a_stamped_500_where_it_can_be() -> None:
    """With the extension a raising application is answered 500, else it is left to the server."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise LookupError("x")

    log: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        log.append(message)

    wrapped = HermesSessionMiddleware(app, MemoryStore())
    with pytest.raises(LookupError):
        await wrapped(websocket_scope(b"known", denial=False), receive, send)
    assert log == []
    with pytest.raises(LookupError):
        await wrapped(websocket_scope(b"known"), receive, send)
    assert types(log) == [f"{DENIAL}.start", f"{DENIAL}.body"]
    assert (log[0]["status"], dict(log[0]["headers"])[HEADER]) == (500, b"known")


@pytest.mark.parametrize(
    ("first", "sent"),
    [(ACCEPT, [ACCEPT["type"]]), (CLOSE, [f"{DENIAL}.start", f"{DENIAL}.body"])],
)
async def test_after_the_handshake_a_crash_is_only_the_exception(
    first: Message, sent: list[str]
) -> None:
    """An accepted or closed socket gets no response any more."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(first)
        raise LookupError("x")

    log: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        log.append(message)

    with pytest.raises(LookupError):
        await HermesSessionMiddleware(app, MemoryStore())(websocket_scope(), receive, send)
    assert types(log) == sent


async def chat(websocket: WebSocket) -> None:
    session = get_session(websocket)
    await websocket.accept()
    await websocket.send_json({"history": session.history})
    await session.append(*HELLO)
    await websocket.close()


async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("no", 403))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_starlette_websocket_has_its_session(backend: Any) -> None:
    """Over a WebSocket the conversation goes on as over HTTP, and a denial is stamped."""
    routes = [WebSocketRoute("/", chat), WebSocketRoute("/denied", denied)]
    app = HermesSessionMiddleware(Starlette(routes=routes), MemoryStore())
    client = TestClient(app, backend=backend)
    headers = {"X-Hermes-Session-Id": "known"}
    for history in ([], HELLO):
        with client.websocket_connect("/", headers=headers) as socket:
            assert socket.receive_json() == {"history": history}
            assert socket.extra_headers == [(HEADER, b"known")]
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect("/denied", headers=headers),
    ):
        pass
    assert caught.value.status_code == 403
    assert caught.value.headers["x-hermes-session-id"] == "known"


async def test_a_history_is_loaded_for_a_websocket() -> None:
    """A known id brings its history to the handshake."""
    seen: list[Any] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["hermes_session"].history)
        await send(ACCEPT)

    await connect(HermesSessionMiddleware(app, await filled()), websocket_scope(b"known"))
    assert seen == [HELLO]


@pytest.mark.parametrize("denial", [True, False])
async def test_a_busy_session_refuses_a_starlette_socket(*, denial: bool) -> None:
    """A conflict before the accept is a denial where the server can send one, else a close."""

    async def busy(_socket: WebSocket) -> None:
        raise SessionBusy(2)

    app = Starlette(routes=[WebSocketRoute("/", busy)])
    wrapped = HermesSessionMiddleware(app, MemoryStore())
    log = await connect(wrapped, websocket_scope(b"known", denial=denial))
    if denial:
        assert log[0]["status"] == 409
        assert dict(log[0]["headers"])[b"retry-after"] == b"2"
    else:
        assert log == [{"type": "websocket.close", "code": 1013}]
