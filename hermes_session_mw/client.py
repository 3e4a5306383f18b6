"""For programs that ask a server with this middleware: ``pip install 'hermes_session_mw[client]'``.

`keep_session` has an httpx client send the session's id that the server stamps. `AnswerReader` and
`AsyncAnswerReader` read an answer's events, and rejoin the answer after a broken connection. Both
work with httpx and with httpx2, whose clients are alike; neither is imported here.

The id is a secret: nothing here logs it, or quotes it in an error.
"""

import json
import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

import anyio

from hermes_session_mw.asgi.headers import (
    IDEMPOTENCY_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
)
from hermes_session_mw.exceptions import HermesSessionError
from hermes_session_mw.openai_api.event_reader import Event, EventReader, EventTooLarge
from hermes_session_mw.openai_api.retry_after import read_retry_after

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = [
    "AnswerLost",
    "AnswerPiece",
    "AnswerReader",
    "AsyncAnswerReader",
    "KeptSession",
    "keep_session",
]

_ID = re.compile(r"[!-~]{1,256}")
_CURSOR = re.compile(r"(.+):([0-9]{1,18})")
_MARK = "hermes_session_mw.first"
_KEPT = "hermes_session_mw.kept"
_MAX_WAIT = 30.0
_MAX_EVENT = 16 * 1024 * 1024
_OF_THE_BODY = ("content-length", "content-type", "transfer-encoding")
_BUSY = ("session_busy", "session_store_unavailable")
_STATES = {"answer_stopped": "stopped", "answer_incomplete": "incomplete"}

Reason = Literal["unreachable", "in_doubt", "over", "replaced", "refused", "unreadable", "unknown"]

_TOLD: dict[Reason, str] = {
    "unreachable": "the connection broke, and the answer could not be rejoined; it may go on",
    "in_doubt": "the connection broke before the response: the question may have arrived",
    "over": "the answer has ended, and its events are not told any more: load the conversation",
    "replaced": "another answer is running in this session: load the conversation",
    "refused": "the server refused the request",
    "unreadable": "the server sent what is no event of an answer",
    "unknown": "the server has not said yet in which session it answers",
}


class AnswerLost(HermesSessionError):
    """An answer cannot be read to its end.

    Attributes:
        reason: what became of it. ``"unreachable"``: the retries are used up; the answer may go on,
            and can be read later with ``after=cursor``. ``"in_doubt"``: the connection broke before
            the response, and the request named no session in which it could be repeated.
            ``"over"``: it has ended, or none is running; the conversation has what came of it.
            ``"replaced"``: another one is running. ``"refused"``: by ``status`` and ``code``.
            ``"unreadable"``: an event is not JSON, or has more than 16 million characters.
            ``"unknown"``: ``stop`` was called before the session is known.
        status: the response's status, or None.
        code: the ``code`` of an error in OpenAI's shape, or None.
        cursor: the last piece's cursor, or None.
    """

    def __init__(
        self,
        reason: Reason,
        *,
        status: int | None = None,
        code: str | None = None,
        cursor: str | None = None,
    ) -> None:
        told = "" if status is None else f" ({status}{'' if code is None else f', {code}'})"
        super().__init__(f"{_TOLD[reason]}{told}")
        self.reason: Reason = reason
        self.status: int | None = status
        self.code: str | None = code
        self.cursor: str | None = cursor


class AnswerPiece(NamedTuple):
    """An event of an answer.

    Attributes:
        payload: its JSON: a piece of text, an object, or a chunk of OpenAI's.
        cursor: its place, for ``after=``; None where the server tells none.
    """

    payload: Any
    cursor: str | None


class KeptSession:
    """The session's ids that servers have stamped, one for each origin; see `keep_session`."""

    def __init__(self, header_name: str = SESSION_HEADER) -> None:
        """Take the session header's name."""
        self._header_name = header_name
        self._ids: dict[tuple[str, str, int | None], str] = {}

    def id_of(self, url: "str | httpx.URL | httpx2.URL") -> str | None:
        """Return the id that is sent to a URL, which is absolute."""
        return self._ids.get(_origin(url))

    def keep(self, url: "str | httpx.URL | httpx2.URL", session_id: str) -> None:
        """Send this id to the origin of a URL from now on.

        Raises:
            ValueError: the id is not one that a header can carry, or the URL is not absolute.
        """
        if not _ID.fullmatch(session_id):
            raise ValueError("session_id: not 1 to 256 visible ASCII characters")
        scheme, host, _ = origin = _origin(url)
        if not (scheme and host):
            raise ValueError("url: it has no origin; give an absolute URL")
        self._ids[origin] = session_id

    def forget(self) -> None:
        """Begin a new conversation with the next request, at all origins."""
        self._ids.clear()

    def before(self, request: "httpx.Request | httpx2.Request") -> None:
        """Put the id on a request: a hook for sync clients."""
        origin = _origin(request.url)
        # httpx copies headers and extensions to the request that follows a redirect.
        first, is_callers = request.extensions.setdefault(
            _MARK, (origin, self._header_name in request.headers)
        )
        kept = request.extensions[_KEPT] = self._ids.get(origin)
        if origin == first and is_callers:
            return
        request.headers.pop(self._header_name, None)
        if kept is not None:
            request.headers[self._header_name] = kept

    def after(self, response: "httpx.Response | httpx2.Response") -> None:
        """Keep the id of a response: a hook for sync clients.

        A refusal is stamped with a new id where the client's own is not valid: it never takes
        the place of one that is kept. Nor does any response if that has changed meanwhile.
        """
        stamped = _stamped(response, self._header_name)
        origin = _origin(response.request.url)
        kept = self._ids.get(origin)
        if stamped is None or kept != response.request.extensions.get(_KEPT):
            return
        if kept is None or response.status_code < 400:  # noqa: PLR2004
            self._ids[origin] = stamped

    async def before_async(self, request: "httpx.Request | httpx2.Request") -> None:
        """Put the id on a request: a hook for async clients."""
        self.before(request)

    async def after_async(self, response: "httpx.Response | httpx2.Response") -> None:
        """Keep the id of a response: a hook for async clients."""
        self.after(response)


def keep_session(
    client: "httpx.Client | httpx.AsyncClient | httpx2.Client | httpx2.AsyncClient",
    *,
    header_name: str = SESSION_HEADER,
    session_id: str | None = None,
) -> KeptSession:
    """Have a client send the session's id that a server stamps with every later request to it.

    So one client has one conversation with a server. The id goes to the origin that it came from,
    and to no other one, redirects included. A request that has the header already keeps it.

    Args:
        client: of httpx or httpx2, sync or async. Its other event hooks stay.
        header_name: the session header's name.
        session_id: an id to begin with, for the origin of the client's ``base_url``.

    Raises:
        ValueError: there is an id, and no ``base_url`` that says for whom, or it is malformed.
    """
    kept = KeptSession(header_name)
    if session_id is not None:
        kept.keep(client.base_url, session_id)
    hooks: dict[str, list[Any]] = client.event_hooks
    is_async = hasattr(client, "aclose")
    hooks["request"].append(kept.before_async if is_async else kept.before)
    hooks["response"].append(kept.after_async if is_async else kept.after)
    return kept


class _CutOff(Exception):
    """The server could not go on telling the answer, which may go on."""


class _Reader:
    """What is known of an answer; nothing here sends, receives or waits."""

    state: str | None
    """``"completed"``, ``"incomplete"``, ``"stopped"`` or ``"failed"``, once the answer has ended;
    None until then."""

    error: Any
    """The ``error`` object by which an OpenAI stream ended, or None."""

    begin: Any
    """What the event ``begin`` tells those who follow an answer from its beginning, or None."""

    cursor: str | None
    """The last piece's cursor."""

    def __init__(
        self,
        client: Any,
        request: Any,
        *,
        answer_url: str = "/sessions/{id}/answer",
        after: str | None = None,
        header_name: str = SESSION_HEADER,
        retries: int = 5,
        delay: float = 1.0,
        read_timeout: float = 60.0,
    ) -> None:
        """Take the request; nothing is sent until the first piece is asked for.

        Args:
            client: what sends it, and the requests that follow.
            request: asks for an answer, or, if it is a GET of ``.../answer``, follows the running
                one. A POST gets an ``Idempotency-Key``, if it has none, by which a server knows it
                again when it is repeated because the connection broke before the first piece.
            answer_url: where an answer to a POST is rejoined; ``{id}`` is the session's id.
            after: with a GET: the cursor of the last piece that is known.
            header_name: the session header's name.
            retries: how often in a row to try again before a new piece comes.
            delay: seconds before the first retry. Each further wait is twice as long, 30 seconds at
                most, or as long as ``Retry-After`` says, within the same bound.
            read_timeout: seconds of silence after which the connection counts as broken. The server
                sends a comment every 15 seconds.
        """
        self.state = self.error = self.begin = None
        self._client, self._first_request = client, request
        self._answer_url, self._header_name = answer_url, header_name
        self._retries, self._delay = retries, delay
        self._timeout = {**request.extensions.get("timeout", {}), "read": read_timeout}
        request.extensions["timeout"] = self._timeout
        self._follows = request.method == "GET"
        self.cursor = after if self._follows else None
        if not self._follows:
            request.headers.setdefault(IDEMPOTENCY_HEADER, str(uuid4()))
        self._session_id: str | None = None
        self._origin: Any = _origin(request.url) if self._follows else None
        self._is_first, self._has_head = True, False
        self._events = EventReader(_MAX_EVENT)
        self._by_id = self._is_openai = False
        self._without_cursor = self._skip = 0  # pieces that were told, and that come again
        self._failures = 0
        self._retry_after = 0.0
        self._failure: tuple[type[Exception], ...] = (
            _CutOff,
            *_errors("TransportError", "DecodingError"),
        )
        self._not_sent = _errors("ConnectError", "ConnectTimeout", "PoolTimeout")

    def _next(self) -> tuple[Any, dict[str, Any]]:
        """Return the request to send now, and options for sending it."""
        self._events = EventReader(_MAX_EVENT)
        self._retry_after, self._skip = 0.0, self._without_cursor
        if self._is_first and self.cursor is None:
            self._is_first = False
            return self._first_request, {}
        is_repeated = self.cursor is None and not self._follows
        first = self._first_request
        headers: dict[str, str | bytes] = {
            name: value for name, value in first.headers.items() if name != "host"
        }
        if not is_repeated:
            for name in (*_OF_THE_BODY, IDEMPOTENCY_HEADER.lower()):
                headers.pop(name, None)
        if self._session_id is not None:
            headers[self._header_name.lower()] = self._session_id
        if self.cursor is not None:
            headers["last-event-id"] = _before(self.cursor).encode()
        self._is_first = False
        request = self._client.build_request(
            first.method if is_repeated else "GET",
            first.url if is_repeated else self._place(),
            headers=headers,
            content=first.content if is_repeated else None,
            extensions={"timeout": self._timeout},
        )
        # A redirect would carry the id and the cursor wherever it leads.
        return request, {"follow_redirects": False}

    def _place(self) -> Any:
        """Return the URL of the running answer.

        Raises:
            AnswerLost: the session is not known, or the URL leads to another origin.
        """
        if self._follows:
            return self._first_request.url
        if self._session_id is None:
            raise self._lost("unknown")
        path = self._answer_url.replace("{id}", quote(self._session_id, safe=""))
        url = self._client.build_request("GET", path).url
        if _origin(url) != self._origin:
            raise self._lost("refused")
        return url

    def _stop_request(self) -> Any:
        url = self._place()
        path: bytes = url.raw_path.partition(b"?")[0]
        headers = dict(self._first_request.headers)
        for name in (*_OF_THE_BODY, IDEMPOTENCY_HEADER.lower(), "host"):
            headers.pop(name, None)
        if self._session_id is not None:
            headers[self._header_name.lower()] = self._session_id
        return self._client.build_request(
            "POST", url.copy_with(raw_path=path + b"/stop"), headers=headers
        )

    def _stopped(self, response: Any) -> bool:
        if response.status_code not in {202, 204}:
            raise self._lost("refused", response)
        return bool(response.status_code == 202)  # noqa: PLR2004

    def _begins(self, response: Any) -> bool:
        """Take a response's head; return whether events follow."""
        self._has_head = True
        if not self._follows and response.status_code < 400:  # noqa: PLR2004
            origin = _origin(response.url)
            stamped = _stamped(response, self._header_name)
            if self._session_id is None and stamped is not None:
                self._session_id, self._origin = stamped, origin
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return bool(response.status_code == 200 and kind == "text/event-stream")  # noqa: PLR2004

    def _pieces(self, data: bytes) -> Iterator[AnswerPiece]:
        """Yield the pieces in the body's next bytes."""
        for event in self._complete(data):
            piece = self._piece_of(event)
            if self.state is not None:
                return
            if piece is not None and not self._is_known(piece):
                self._failures = 0
                yield piece

    def _complete(self, data: bytes) -> Iterator[Event]:
        try:
            yield from self._events.feed(data)
        except EventTooLarge:
            raise self._lost("unreadable") from None

    def _piece_of(self, event: Event) -> AnswerPiece | None:
        if event.data == "[DONE]":
            self.state = "completed"
            return None
        try:
            payload = json.loads(event.data)
        except (ValueError, RecursionError):
            raise self._lost("unreadable") from None
        if event.name == "begin":
            self.begin = payload
            return None
        if event.name == "end":
            self.state = payload.get("state") if isinstance(payload, dict) else None
            if not isinstance(self.state, str):
                self.state = None
                raise self._lost("unreadable")
            return None
        return self._unnamed(payload, self._events.event_id)

    def _unnamed(self, payload: Any, event_id: str) -> AnswerPiece | None:
        fields = payload if isinstance(payload, dict) else {}
        self._by_id = self._by_id or bool(event_id)
        self._is_openai = self._is_openai or "choices" in fields
        cursor = event_id or fields.get("event_id")
        cursor = cursor if isinstance(cursor, str) else None
        if "error" in fields and (self._is_openai or cursor is None):
            self._end_by(fields["error"], is_told=cursor is not None)
            return None
        if cursor is None and _is_idle(fields):
            return None
        return AnswerPiece(payload, cursor)

    def _end_by(self, error: Any, *, is_told: bool) -> None:
        """Take an error event, which ends an OpenAI stream; in our own it is the server's."""
        if self._by_id or self._follows:
            if is_told:  # what an upstream said; the event `end` follows
                self.error = error
                return
            raise _CutOff
        code = error.get("code") if isinstance(error, dict) else None
        self.state, self.error = _STATES.get(str(code), "failed"), error

    def _is_known(self, piece: AnswerPiece) -> bool:
        """Note a piece; return whether it was told before the connection broke."""
        if self._skip and self.cursor is None:
            self._skip -= 1
            return True
        if piece.cursor is None:
            self._without_cursor += 1
            return False
        new, known = _CURSOR.fullmatch(piece.cursor), _CURSOR.fullmatch(self.cursor or "")
        if new and known and new[1] == known[1] and int(new[2]) <= int(known[2]):
            return True
        self.cursor = piece.cursor
        return False

    def _whole(self, response: Any) -> Iterator[AnswerPiece]:
        """Take a response that is no stream of events."""
        status: int = response.status_code
        if status == 200:  # noqa: PLR2004
            try:
                payload = response.json()
            except (ValueError, RecursionError):
                raise self._lost("unreadable", response) from None
            self.state = "completed"
            yield AnswerPiece(payload, None)
        elif status == 204:  # noqa: PLR2004
            raise self._lost("over", response)
        elif _code(response) == "cursor_conflict":
            raise self._lost("replaced", response)
        elif status in {502, 503, 504} or _code(response) in _BUSY:
            seconds = read_retry_after(response.headers.get("retry-after", ""))
            self._retry_after = min(float(seconds or 0), _MAX_WAIT)
        else:
            raise self._lost("refused", response)

    def _wait(self, cause: Exception | None) -> float:
        """Return how many seconds to wait before the answer is rejoined."""
        named = (self._header_name, SESSION_KEY_HEADER)
        is_named = any(name in self._first_request.headers for name in named)
        has_come = isinstance(cause, self._not_sent) or self._has_head
        if not (self._follows or has_come or is_named):
            raise self._lost("in_doubt") from cause
        self._failures += 1
        if self._failures > self._retries:
            raise self._lost("unreachable") from cause
        wait: float = min(self._delay * 2 ** (self._failures - 1), _MAX_WAIT)
        return max(wait, self._retry_after)

    def _lost(self, reason: Reason, response: Any = None) -> AnswerLost:
        if response is None:
            return AnswerLost(reason, cursor=self.cursor)
        code = _code(response)
        return AnswerLost(reason, status=response.status_code, code=code, cursor=self.cursor)


class AnswerReader(_Reader):
    """Reads an answer by an ``httpx.Client``: iterate over it, once, to get its pieces.

    The iteration ends with the answer, whose ``state`` says how. The connection may break
    meanwhile: no piece is lost or comes twice. ``with`` closes the connection where the iteration
    may be left before; the answer goes on then.

    Raises:
        AnswerLost: by the iteration, if the answer cannot be read to its end.
    """

    if TYPE_CHECKING:

        def __init__(
            self,
            client: httpx.Client | httpx2.Client,
            request: httpx.Request | httpx2.Request,
            *,
            answer_url: str = ...,
            after: str | None = ...,
            header_name: str = ...,
            retries: int = ...,
            delay: float = ...,
            read_timeout: float = ...,
        ) -> None: ...

    _running: Generator[AnswerPiece, None, None] | None = None

    def __iter__(self) -> Iterator[AnswerPiece]:
        """Return the pieces."""
        if self._running is None:
            self._running = self._read()
        return self._running

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the answer goes on."""
        if self._running is not None:
            self._running.close()

    def stop(self) -> bool:
        """Stop the answer, in whatever process it runs; return False if none is running.

        The iteration then ends with the state ``"stopped"``. Call it from another thread, or
        between two pieces.

        Raises:
            AnswerLost: the session is not known yet, or the server refuses to stop the answer.
        """
        response = self._client.send(self._stop_request(), follow_redirects=False)
        return self._stopped(response)

    def _read(self) -> Generator[AnswerPiece, None, None]:
        self._first_request.read()
        while self.state is None:
            cause: Exception | None = None
            request, options = self._next()
            try:
                yield from self._attempt(request, options)
            except self._failure as exc:
                cause = exc
            if self.state is None:
                time.sleep(self._wait(cause))

    def _attempt(self, request: Any, options: dict[str, Any]) -> Iterator[AnswerPiece]:
        response = self._client.send(request, stream=True, **options)
        try:
            if not self._begins(response):
                response.read()
                yield from self._whole(response)
                return
            for data in response.iter_bytes():
                yield from self._pieces(data)
                if self.state is not None:
                    return
        finally:
            response.close()


class AsyncAnswerReader(_Reader):
    """Reads an answer by an ``httpx.AsyncClient``, as `AnswerReader` does, on asyncio and trio."""

    if TYPE_CHECKING:

        def __init__(
            self,
            client: httpx.AsyncClient | httpx2.AsyncClient,
            request: httpx.Request | httpx2.Request,
            *,
            answer_url: str = ...,
            after: str | None = ...,
            header_name: str = ...,
            retries: int = ...,
            delay: float = ...,
            read_timeout: float = ...,
        ) -> None: ...

    _running: AsyncGenerator[AnswerPiece, None] | None = None

    def __aiter__(self) -> AsyncIterator[AnswerPiece]:
        """Return the pieces."""
        if self._running is None:
            self._running = self._read()
        return self._running

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; the answer goes on."""
        if self._running is not None:
            await self._running.aclose()

    async def stop(self) -> bool:
        """Stop the answer, as `AnswerReader.stop` does; call it from another task."""
        response = await self._client.send(self._stop_request(), follow_redirects=False)
        return self._stopped(response)

    async def _read(self) -> AsyncGenerator[AnswerPiece, None]:
        await self._first_request.aread()
        while self.state is None:
            cause: Exception | None = None
            request, options = self._next()
            try:
                async with aclosing(self._attempt(request, options)) as pieces:
                    async for piece in pieces:
                        yield piece
            except self._failure as exc:
                cause = exc
            if self.state is None:
                await anyio.sleep(self._wait(cause))

    async def _attempt(
        self, request: Any, options: dict[str, Any]
    ) -> AsyncGenerator[AnswerPiece, None]:
        response = await self._client.send(request, stream=True, **options)
        try:
            if not self._begins(response):
                await response.aread()
                for piece in self._whole(response):
                    yield piece
                return
            async with _ended(response.aiter_bytes()) as body:
                async for data in body:
                    for piece in self._pieces(data):
                        yield piece
                    if self.state is not None:
                        return
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()


@asynccontextmanager
async def _ended(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """End a body at the end of the block, with the generators inside of it.

    To close the outermost leaves those to the event loop, which trio warns of. One that waits is
    ended by a cancellation, and all around it.
    """
    try:
        yield body
    finally:
        with anyio.CancelScope() as scope:
            scope.cancel()
            while await anext(body, None) is not None:
                pass


def _origin(url: Any) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL of httpx, httpx2 or a text."""
    if isinstance(url, str):
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    else:
        scheme, host, port = url.scheme, url.host, url.port
    return scheme, host, port or {"http": 80, "https": 443}.get(scheme)


def _stamped(response: Any, header_name: str) -> str | None:
    """Return the id that a response is stamped with; None unless there is one that is valid."""
    values: list[str] = response.headers.get_list(header_name)
    return values[0] if len(values) == 1 and _ID.fullmatch(values[0]) else None


def _before(cursor: str) -> str:
    """Return the cursor of the event before.

    After it there is an event left to tell: so the server also tells the end of an answer that has
    ended meanwhile, where otherwise it would answer that nothing is running.
    """
    match = _CURSOR.fullmatch(cursor)
    return f"{match[1]}:{max(int(match[2]) - 1, 0)}" if match else cursor


def _is_idle(chunk: dict[str, Any]) -> bool:
    """Return whether a chunk without a cursor says nothing: it only keeps the connection alive."""
    choices = chunk.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(
            isinstance(each, dict) and not each.get("delta") and each.get("finish_reason") is None
            for each in choices
        )
    )


def _code(response: Any) -> str | None:
    try:
        code = response.json()["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return code if isinstance(code, str) and code.isidentifier() else None


def _errors(*names: str) -> tuple[type[Exception], ...]:
    """Return these errors, of each client library that is imported."""
    found = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return tuple(getattr(module, name) for module in found for name in names)
