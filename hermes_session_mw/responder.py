"""What goes out on one connection: the stamp on its first message, and nothing touched else."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from .headers import Stamp
from .ids import mint_session_id
from .refusals import Refusal, server_error

if TYPE_CHECKING:
    from contextvars import Token

    from .logging import HasId
    from .session import HermesSession

_DENIAL = "websocket.http.response"
_RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start")
_STARTS = frozenset((*_RESPONSE_STARTS, "websocket.accept", "websocket.close"))


class Responder:
    """Stamps what one connection sends.

    Attributes:
        session: the session whose id is stamped, as it is when the message goes out.
        token: what makes the session the current one no more.
        started: whether a response, or a WebSocket's opening or closing, has begun to go out.
    """

    __slots__ = ("_scope", "_send", "_stamp", "session", "started", "token")

    def __init__(self, scope: Scope, send: Send, stamp: Stamp) -> None:
        self._scope = scope
        self._send = send
        self._stamp = stamp
        self.session: HermesSession | None = None
        self.started: bool = False
        self.token: Token[HasId | None] | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Send ``message``, and stamp it if it is one that begins a response.

        No coroutine of its own: of a stream, all but the first message go through as they are.
        """
        kind = message["type"]
        if kind in _STARTS:
            # Stamped first: where the application's headers are none, nothing has begun.
            message = self._stamped(kind, message)
            self.started = True
        return self._send(message)

    def _stamped(self, kind: str, message: Message) -> Message:
        headers = message.get("headers") or ()
        session = self.session
        if session is not None:
            session.is_told = True
        # Where making an id raised there is no session; its response gets an id all the same.
        value = (mint_session_id() if session is None else session.id).encode("ascii")
        if kind in _RESPONSE_STARTS:
            return {**message, "headers": self._stamp.response(headers, value)}
        if kind == "websocket.accept" and self._accept_takes_headers():
            return {**message, "headers": self._stamp.once(headers, value)}
        return message

    async def refuse(self, refusal: Refusal, receive: Receive) -> None:
        """Answer with ``refusal`` in the application's place."""
        if self._scope["type"] == "websocket":
            await receive()  # websocket.connect, which is answered by what follows
        await self.answer(refusal)

    async def answer(self, refusal: Refusal) -> None:
        """Answer with ``refusal``; a WebSocket's application has received its connect by now."""
        prefix = self._response_prefix()
        if prefix is None:
            await self.send({"type": "websocket.close", "code": refusal.close_code})
            return
        for message in refusal.response(prefix, self._stamp.name):
            await self.send(message)

    async def answer_server_error(self) -> None:
        """Answer 500, where a response can be sent, for an application that began none."""
        prefix = self._response_prefix()
        if prefix is None:
            return
        with suppress(Exception):  # the application's own error is the one to be seen
            for message in server_error(prefix):
                await self.send(message)

    def _response_prefix(self) -> str | None:
        """Return what the types of a response's messages begin with; None where none can be sent.

        A WebSocket's handshake can be answered with one only where the server says so.
        """
        if self._scope["type"] == "http":
            return "http"
        return "websocket.http" if self._can_deny() else None

    def _accept_takes_headers(self) -> bool:
        # Since version 2.1 of the specification; a missing version means 2.0, but Starlette's
        # TestClient, which gives none, offers what only came later.
        return self._can_deny() or _spec_version(self._scope) >= (2, 1)

    def _can_deny(self) -> bool:
        return _DENIAL in (self._scope.get("extensions") or {})


def _spec_version(scope: Scope) -> tuple[int, ...]:
    version = str(scope.get("asgi", {}).get("spec_version") or "2.0")
    return tuple(int(part) for part in version.split(".") if part.isdigit())
