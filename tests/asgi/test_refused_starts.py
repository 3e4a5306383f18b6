"""A response that the server refuses has not begun: another can be sent, and has the id."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, ResponseStarted, SessionBusy
from tests.support.asgi import HEADER, http_scope, stamps, types

REFUSED = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\nb")]}
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
Work = Callable[[Any, Send], Awaitable[None]]


class Server:
    """A server's ``send``, which is strict as the real ones are; ``log`` is what it has taken."""

    def __init__(self, *starts: str, error: type[Exception] = ValueError) -> None:
        self.log: list[Message] = []
        self._starts = starts
        self._error = error

    async def __call__(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        begins = message["type"] in self._starts
        if begins == any(sent["type"] in self._starts for sent in self.log) or any(
            b"\n" in value for _, value in message.get("headers", ())
        ):
            raise self._error("the server does not send this")
        self.log.append(message)


async def run(work: Work, server: Server, scope: Scope | None = None) -> None:
    """Have an application that does ``work`` serve one connection, and fail as it fails."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await work(scope["state"]["hermes_session"], send)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = scope or http_scope([(HEADER, b"id")])
    await HermesSessionMiddleware(app, MemoryStore())(scope, receive, server)


async def test_a_start_that_the_server_refuses_is_answered_500() -> None:
    """The application's error reaches the server, and the client has a 500 with its id."""
    server = Server("http.response.start")

    async def work(_session: Any, send: Send) -> None:
        await send(REFUSED)

    with pytest.raises(ValueError, match="does not send"):
        await run(work, server)
    assert types(server.log) == ["http.response.start", "http.response.body"]
    assert server.log[0]["status"] == 500
    assert stamps(server.log) == ["id"]


async def test_an_application_may_send_another_start() -> None:
    """Until a start is taken the client knows nothing, and the session may still be rotated."""
    server = Server("http.response.start")
    new: list[str] = []

    async def work(session: Any, send: Send) -> None:
        with pytest.raises(ValueError, match="does not send"):
            await send(REFUSED)
        assert not session.is_told
        new.append(await session.rotate())
        await send(START)
        assert session.is_told
        with pytest.raises(ResponseStarted):
            await session.rotate()
        await send(BODY)

    await run(work, server)
    assert stamps(server.log) == new


async def test_who_swallows_the_refusal_has_answered_nothing() -> None:
    """An application that returns after a refused start is answered 500, as one that sent none."""
    server = Server("http.response.start")

    async def work(_session: Any, send: Send) -> None:
        with pytest.raises(ValueError, match="does not send"):
            await send(REFUSED)

    await run(work, server)
    assert [server.log[0]["status"], *stamps(server.log)] == [500, "id"]


async def test_a_conflict_after_a_refused_start_is_a_409() -> None:
    """What the application raises then is answered as if it had sent nothing."""
    server = Server("http.response.start")

    async def work(_session: Any, send: Send) -> None:
        with pytest.raises(ValueError, match="does not send"):
            await send(REFUSED)
        raise SessionBusy(1)

    await run(work, server)
    assert [server.log[0]["status"], *stamps(server.log)] == [409, "id"]


async def test_a_second_start_does_not_undo_the_first() -> None:
    """A response that has begun goes on having begun, whatever is refused after it."""
    server = Server("http.response.start")

    async def work(session: Any, send: Send) -> None:
        await send(START)
        with pytest.raises(ValueError, match="does not send"):
            await send(START)
        assert session.is_told
        raise SessionBusy(1)

    with pytest.raises(SessionBusy):
        await run(work, server)
    assert types(server.log) == ["http.response.start"]


async def test_a_client_that_has_left_is_sent_nothing_more() -> None:
    """Where the connection is closed nobody can be answered, and nothing is tried."""
    tried: list[str] = []

    class Closed(Server):
        async def __call__(self, message: Message) -> None:
            tried.append(message["type"])
            raise BrokenPipeError

    async def work(session: Any, send: Send) -> None:
        try:
            await send(START)
        finally:
            assert session.is_told

    with pytest.raises(BrokenPipeError):
        await run(work, Closed())
    assert tried == ["http.response.start"]


async def test_a_start_that_was_cancelled_may_be_out() -> None:
    """Nobody knows whether the server has taken it: there is no second one, and no new id."""
    tried: list[str] = []

    class Slow(Server):
        async def __call__(self, message: Message) -> None:
            tried.append(message["type"])
            await anyio.sleep_forever()

    async def work(session: Any, send: Send) -> None:
        with anyio.move_on_after(0.01):
            await send(START)
        assert session.is_told
        raise SessionBusy(1)

    with pytest.raises(SessionBusy):
        await run(work, Slow())
    assert tried == ["http.response.start"]


async def test_headers_that_are_none_are_not_a_beginning() -> None:
    """Where the application's headers cannot be read it has sent nothing, and is answered 500."""
    server = Server("http.response.start")

    async def work(session: Any, send: Send) -> None:
        try:
            await send({**START, "headers": [b"not a pair"]})
        finally:
            assert not session.is_told

    with pytest.raises(ValueError, match="unpack"):
        await run(work, server)
    assert [server.log[0]["status"], *stamps(server.log)] == [500, "id"]


@pytest.mark.parametrize("can_deny", [True, False])
async def test_a_handshake_that_is_answered_as_a_request(can_deny: bool) -> None:
    """A WebSocket that is answered by ``http.response.start`` is denied, where the server can."""
    starts = ("websocket.http.response.start", "websocket.accept", "websocket.close")
    server = Server(*starts)
    scope = http_scope([(HEADER, b"id")], type="websocket")
    if can_deny:
        scope["extensions"] = {"websocket.http.response": {}}

    async def work(_session: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    with pytest.raises(ValueError, match="does not send"):
        await run(work, server, scope)
    sent = [(message["type"], message.get("status")) for message in server.log]
    denied = [("websocket.http.response.start", 500), ("websocket.http.response.body", None)]
    assert sent == (denied if can_deny else [])
    if can_deny:
        assert (HEADER, b"id") in server.log[0]["headers"]


@pytest.mark.parametrize(
    ("status", "version", "said", "expected"),
    [
        (500, "1.1", [], [b"close"]),
        (500, "1.0", [], [b"close"]),
        (503, "1.1", [], [b"close"]),
        (500, "1.1", [(b"Connection", b"keep-alive")], [b"keep-alive"]),
        (500, "2", [], []),
        (500, "3", [], []),
        (499, "1.1", [], []),
        (200, "1.1", [], []),
    ],
)
async def test_an_error_page_says_that_the_connection_closes(
    status: int, version: str, said: list[tuple[bytes, bytes]], expected: list[bytes]
) -> None:
    """Over HTTP/1.x what may be followed by an exception says so, and leaves the rest alone."""
    server = Server("http.response.start")

    async def work(_session: Any, send: Send) -> None:
        await send({**START, "status": status, "headers": said})
        await send(BODY)

    await run(work, server, http_scope(http_version=version))
    headers = server.log[0]["headers"]
    assert [value for key, value in headers if key.lower() == b"connection"] == expected


async def test_our_own_error_says_that_the_connection_closes() -> None:
    """The 500 for an application that raised is followed by its exception; a denial is no HTTP."""

    async def work(_session: Any, _send: Send) -> None:
        raise LookupError

    server = Server("http.response.start")
    with pytest.raises(LookupError):
        await run(work, server)
    assert (b"connection", b"close") in server.log[0]["headers"]
    server = Server("websocket.http.response.start")
    denying: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
    with pytest.raises(LookupError):
        await run(work, server, http_scope([], type="websocket", **denying))
    assert b"connection" not in dict(server.log[0]["headers"])


async def test_a_server_that_takes_nothing_sees_the_first_error() -> None:
    """Where there is no session yet, and the 500 is refused as well, the first error is told."""

    def new_id() -> str:
        raise LookupError

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it is not asked")

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(_: Message) -> None:
        raise ValueError("the server does not send this")

    with pytest.raises(LookupError):
        await HermesSessionMiddleware(app, MemoryStore(), new_id=new_id)(
            http_scope(), receive, send
        )
