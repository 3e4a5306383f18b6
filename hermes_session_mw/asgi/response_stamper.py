"""What goes out on one connection: the stamp on its first message, and nothing touched else.

A turn that the answer ends is given back before the answer's last part goes out: a client that has
all of it finds the session free, and one that never takes the rest keeps nobody waiting.
"""

from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw.asgi.error_responses import Refusal, server_error
from hermes_session_mw.asgi.headers import Stamp, content_length, say_close
from hermes_session_mw.ids import mint_session_id

if TYPE_CHECKING:
    from contextvars import Token

    from hermes_session_mw.logging import HasId
    from hermes_session_mw.session.session import HermesSession

_DENIAL = "websocket.http.response"
_RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start")
_STARTS = frozenset((*_RESPONSE_STARTS, "websocket.accept", "websocket.close"))
_BODIES = frozenset({"http.response.body", "http.response.zerocopysend"})
_WHOLE_FILE = "http.response.pathsend"
_SERVER_ERRORS = 500


class ResponseStamper:
    """Stamps what one connection sends.

    Attributes:
        session: the session whose id is stamped, as it is when the message goes out.
        token: what makes the session the current one no more.
        started: whether a response, or a WebSocket's opening or closing, has begun to go out.
    """

    __slots__ = ("_missing", "_scope", "_send", "_stamp", "session", "started", "token")

    def __init__(self, scope: Scope, send: Send, stamp: Stamp) -> None:
        self._scope = scope
        self._send = send
        self._stamp = stamp
        self.session: HermesSession | None = None
        self.started: bool = False
        self.token: Token[HasId | None] | None = None
        # Bytes that the body still has to bring; None where nobody has said so.
        self._missing: int | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Send ``message``, and stamp it if it is one that begins a response.

        No coroutine of its own: of a stream, all but the first message go through as they are, and
        the last one where a turn ends with it.
        """
        kind = message["type"]
        if kind in _STARTS:
            return self._begin(kind, message)
        session = self.session
        if session is not None and session.held is not None and self._is_last(kind, message):
            return self._finish(session, message)
        return self._send(message)

    async def _begin(self, kind: str, message: Message) -> None:
        headers, session = message.get("headers") or (), self.session
        # Where making an id raised there is no session; its response gets an id all the same.
        value = (mint_session_id() if session is None else session.id).encode("ascii")
        # Stamped first: where the application's headers are none, nothing has begun.
        if kind in _RESPONSE_STARTS:
            stamped = self._stamp.response(headers, value)
            if message.get("status", 0) >= _SERVER_ERRORS and self._speaks_http_1():
                # An exception may follow, whereupon the server closes the connection: a proxy that
                # kept it would lose the next client's request.
                say_close(stamped)
            self._missing = (
                None if session is None or session.held is None else content_length(stamped)
            )
            message = {**message, "headers": stamped}
        elif kind == "websocket.accept" and self._accept_takes_headers():
            message = {**message, "headers": self._stamp.once(headers, value)}
        before, self.started = self.started, True
        if session is not None:
            session.is_told = True
        try:
            await self._send(message)
        except OSError:  # the client has left: nobody can be answered
            raise
        except Exception:
            # The server has refused it, and waits for another. One that was cancelled may be out.
            self.started = before
            if session is not None:
                session.is_told = before
            raise

    def _is_last(self, kind: str, message: Message) -> bool:
        """Tell whether the message completes the response's body."""
        if kind == _WHOLE_FILE:
            return True
        if kind not in _BODIES:
            return False
        if self._missing is not None:
            self._missing -= len(message.get("body", b""))
            if self._missing <= 0:
                return True
        return not message.get("more_body", False)

    async def _finish(self, session: "HermesSession", message: Message) -> None:
        await session.give_back_answered()
        await self._send(message)

    def _speaks_http_1(self) -> bool:
        scope = self._scope
        return scope["type"] == "http" and str(scope.get("http_version", "")).startswith("1")

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
