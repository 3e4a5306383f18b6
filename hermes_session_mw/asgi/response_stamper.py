"""Adds the session header to what the application sends on one connection.

`SessionHeader` puts the id into headers, and `ResponseStamper` wraps the server's ``send``. A turn
that ends with the response is released before the last part of the body is sent: once a client has
the whole body the session's lease is free, and a client that never reads the last part blocks no
other request.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw.asgi.error_responses import Refusal, forbidden, server_error
from hermes_session_mw.asgi.headers import (
    ALLOW_CREDENTIALS,
    ALLOW_ORIGIN,
    CACHE_CONTROL,
    EXPOSE_HEADERS,
    REPLAYED_HEADER,
    SESSION_KEY_HEADER,
    VARY,
    Pairs,
    RawHeaders,
    add_member,
    close_connection,
    content_length,
    expose,
    is_shared,
    list_members,
    make_private,
    set_exposed,
)
from hermes_session_mw.ids import mint_session_id

if TYPE_CHECKING:
    from hermes_session_mw.session.session import HermesSession

_DENIAL = "websocket.http.response"
_RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start")
_PUSH = "http.response.push"
_STAMPED = frozenset((*_RESPONSE_STARTS, "websocket.accept", "websocket.close", _PUSH))
_BODIES = frozenset({"http.response.body", "http.response.zerocopysend"})
_WHOLE_FILE = "http.response.pathsend"
_ERRORS = 400
_SERVER_ERRORS = 500
_REPLAYED = REPLAYED_HEADER.encode("ascii")
_SESSION_KEY = SESSION_KEY_HEADER.encode("ascii")
_SPECIAL = frozenset({ALLOW_CREDENTIALS, ALLOW_ORIGIN, CACHE_CONTROL, EXPOSE_HEADERS, VARY})


class SessionHeader:
    """The header that carries a session's id: puts it into a response's headers.

    Requests may carry the id under other names as well: ``Vary`` has all of them.

    Every method returns a new list, reads the given headers once and does not change them:
    applications reuse constant lists, and may send a generator, or pairs that are lists.

    Attributes:
        name: the header's name in its usual spelling.
        field: the same in lower-case bytes, as ASGI requires.
        is_adopted: whether an id that nothing is stored under is accepted in a request.
    """

    __slots__ = ("_lengths", "_name", "_names", "_special", "_usual", "field", "is_adopted", "name")

    def __init__(self, name: str, *others: str, is_adopted: bool = True) -> None:
        self.name: str = name
        self.is_adopted: bool = is_adopted
        self.field: bytes = name.lower().encode("ascii")
        self._name = name.encode("ascii")
        self._names = (self._name, *(other.encode("ascii") for other in others))
        self._special = _SPECIAL | {self.field}
        self._lengths = frozenset(map(len, self._special))
        self._usual = ((CACHE_CONTROL, b"private"), (VARY, b", ".join(self._names)))

    def set_once(self, headers: RawHeaders, value: bytes) -> Pairs:
        """Return ``headers`` with the field once, holding ``value``, and nothing else changed."""
        stamped = [(key, content) for key, content in headers if key.lower() != self.field]
        stamped.append((self.field, value))
        return stamped

    def stamp_response(self, headers: RawHeaders, value: bytes) -> Pairs:
        """Return an HTTP response's headers with the field once, fit for browsers and caches.

        If ``Access-Control-Allow-Origin`` lets a page read the response, the field is exposed to
        it (Fetch standard, section 3.2.3). A response without cache directives about sharing
        becomes private, and ``Vary`` names the field (RFC 9111, sections 4.1 and 5.2.2): otherwise
        a shared cache could send one client's id to another. A response for shared caches is
        unchanged.
        """
        lengths, names = self._lengths, self._special
        special: list[bytes] = []
        stamped: Pairs = []
        for key, content in headers:
            stamped.append((key, content))
            # Most names differ in length from all special ones.
            if len(key) in lengths and (lower := key.lower()) in names:
                special.append(lower)
        if not special:  # as most responses are
            stamped.append((self.field, value))
            stamped += self._usual
            return stamped
        stamped = self.set_once(stamped, value)
        if ALLOW_ORIGIN in special:
            expose(stamped, self._name)
        if make_private(stamped) and b"*" not in list_members(stamped, VARY):
            for name in self._names:
                add_member(stamped, VARY, name)
        return stamped


@dataclass(slots=True, eq=False)
class ResponseStamper:
    """Stamps what one connection sends.

    Attributes:
        scope: the connection's own scope.
        to_server: the server's ``send``.
        header: the header that is stamped.
        session: the session whose id is stamped; the id is read when the message is sent.
        started: whether a response, or a WebSocket's accept or close, was sent.
        on_end: what is called at the request's end.
    """

    scope: Scope
    to_server: Send
    header: SessionHeader
    session: "HermesSession | None" = None
    started: bool = False
    on_end: Callable[[], None] | None = None
    # Bytes of the body still to be sent; None without a Content-Length.
    _missing: int | None = field(default=None, init=False)

    def send(self, message: Message) -> Awaitable[None]:
        """Send ``message``, and stamp it if it is one that begins a response, or a push.

        Not ``async``, so that a stream's later messages, which are sent unchanged, cost no extra
        coroutine; the last one does if a turn ends with it.
        """
        kind = message["type"]
        if kind in _STAMPED:
            if kind == _PUSH:
                return self._push(message)
            if kind == "websocket.close" and not self.started and self._denies_as_server():
                return self._deny()
            return self._begin(kind, message)
        session = self.session
        if (
            session is not None
            and session.current_turn is not None
            and self._is_last(kind, message)
        ):
            return self._finish(session, message)
        return self.to_server(message)

    async def _begin(self, kind: str, message: Message) -> None:
        headers, session = message.get("headers") or (), self.session
        # If making the session's id raised there is no session, and the response gets a new id.
        value = (mint_session_id() if session is None else session.id).encode("ascii")
        # Stamped first: if the application's headers are malformed, the response has not begun.
        if kind in _RESPONSE_STARTS:
            stamped = self.header.stamp_response(headers, value)
            status = message.get("status", 0)
            if status >= _SERVER_ERRORS or (
                session is not None and (session.is_replayed or session.key or session.memory_scope)
            ):
                self._add_rare_fields(stamped, status)
            self._missing = (
                None if session is None or session.current_turn is None else content_length(stamped)
            )
            message = dict(message)
            message["headers"] = stamped
        elif kind == "websocket.accept" and self._accept_takes_headers():
            message = {**message, "headers": self.header.set_once(headers, value)}
        before, self.started = self.started, True
        if session is not None:
            session.is_told = True
        try:
            await self.to_server(message)
        except OSError:  # the client has left
            raise
        except Exception:
            # The server refused it, and accepts another. A cancelled one may have been sent.
            self.started = before
            if session is not None:
                session.is_told = before
            raise

    async def _deny(self) -> None:
        """Answer 403 as the server would for a close before the accept, which takes no headers.

        Source: the ASGI specification of WebSockets, "Close".
        """
        for message in forbidden(_DENIAL.removesuffix(".response")):
            await self.send(message)

    def _push(self, message: Message) -> Awaitable[None]:
        """Send a push, whose request has no headers but these: it names the session it belongs to.

        Unless it would be refused for that: it has no credentials by which to know an owner, and an
        id that is new may be unknown.
        """
        session = self.session
        if (
            session is not None
            and session.owner == ""
            and (self.header.is_adopted or not session.is_new)
        ):
            headers = self.header.set_once(message.get("headers") or (), session.id.encode("ascii"))
            message = {**message, "headers": headers}
        return self.to_server(message)

    def _add_rare_fields(self, stamped: Pairs, status: int) -> None:
        session = self.session
        if status >= _SERVER_ERRORS and self._speaks_http_1():
            # An exception may follow, whereupon the server closes the connection: a proxy that
            # kept it would lose the next client's request.
            close_connection(stamped)
        if session is not None and session.is_replayed and status < _ERRORS:
            set_exposed(stamped, _REPLAYED, b"true")
        if session is not None:
            self._echo_key(stamped, session.key or session.memory_scope)

    def _echo_key(self, stamped: Pairs, value: str | None) -> None:
        """Echo what the client sent and the middleware used, but not to a shared cache."""
        if value is not None and not is_shared(stamped):
            set_exposed(stamped, _SESSION_KEY, value.encode())
            if b"*" not in list_members(stamped, VARY):
                add_member(stamped, VARY, _SESSION_KEY)

    def _is_last(self, kind: str, message: Message) -> bool:
        """Return whether the message completes the response's body."""
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
        await session.release_answered_turn()
        await self.to_server(message)

    def _speaks_http_1(self) -> bool:
        scope = self.scope
        return scope["type"] == "http" and str(scope.get("http_version", "")).startswith("1")

    async def refuse(self, refusal: Refusal, receive: Receive) -> None:
        """Answer with ``refusal`` in the application's place."""
        if self.scope["type"] == "websocket":
            await receive()  # websocket.connect, which is answered by what follows
        await self.answer(refusal)

    async def answer(self, refusal: Refusal) -> None:
        """Answer with ``refusal``; a WebSocket's connect was received before."""
        prefix = self._response_prefix()
        if prefix is None:
            await self.send({"type": "websocket.close", "code": refusal.close_code})
            return
        for message in refusal.response(prefix, self.header.name):
            await self.send(message)

    async def answer_server_error(self) -> None:
        """Answer 500 for an application that began no response, if one can be sent."""
        prefix = self._response_prefix()
        if prefix is None:
            return
        with suppress(Exception):  # the application's own error is raised
            for message in server_error(prefix):
                await self.send(message)

    def _response_prefix(self) -> str | None:
        """Return what the types of a response's messages begin with, or None if none can be sent.

        A WebSocket's handshake can be answered with a response only if the server supports that.
        """
        if self.scope["type"] == "http":
            return "http"
        return "websocket.http" if self._can_deny() else None

    def _accept_takes_headers(self) -> bool:
        # Since version 2.1 of the specification; a missing version means 2.0, but Starlette's
        # TestClient, which gives none, offers what only came later.
        return self._can_deny() or _spec_version(self.scope) >= (2, 1)

    def _can_deny(self) -> bool:
        return _DENIAL in (self.scope.get("extensions") or {})

    def _denies_as_server(self) -> bool:
        # A test client, such as Starlette's, names no version: its tests look at the close's code.
        return self._can_deny() and "spec_version" in self.scope.get("asgi", {})


def _spec_version(scope: Scope) -> tuple[int, ...]:
    version = str(scope.get("asgi", {}).get("spec_version") or "2.0")
    return tuple(int(part) for part in version.split(".") if part.isdigit())
