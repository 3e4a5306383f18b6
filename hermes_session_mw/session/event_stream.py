"""A response of server-sent events that stays alive while the model is silent.

The generator of the events runs in a task of its own, from its first step to its close, so that a
wait that ends early never cancels it, and its ``async with`` blocks may hold cancel scopes.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.session.event_loops import clock

KEEPALIVE = ": keepalive\n\n"
"""A comment, which clients pass over; what comes resets their read time-outs."""

HEAD_AFTER = 2.0
"""Seconds to wait for the first event, by default, before the response begins."""

# The second one is for nginx, which would otherwise buffer the events.
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def server_sent_event(data: object, event: str | None = None) -> str:
    """Return an event: ``data`` as JSON on one line, below its name, if it has one.

    OpenAI's SDKs refuse named events in Chat Completions.
    """
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {json.dumps(data)}\n\n"


_FAILED = server_sent_event(
    {
        "error": {
            "message": "The server failed to answer.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
)


def _nothing() -> str:
    return ""


def unexpected(_: Exception) -> str | None:
    """Return no event: the exception was not expected."""
    return None


class EventStream(Response):
    """Sends server-sent events, and keeps the connection alive between them.

    The response begins with the first event, or after ``head_after`` seconds without one. An
    exception of ``events`` before that is raised to the application, whose exception handlers can
    answer with a status code. A later one is sent as an event, after which nothing follows.

    ``events`` is closed when the response has ended, and when the client disconnects, also while
    the model is silent. What it does then, such as storing what has come, is part of the response.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: "AsyncIterator[str] | EventSource",
        *,
        opening: Callable[[], str] = _nothing,
        idle_event: Callable[[], str] | None = None,
        error_event: Callable[[Exception], str | None] = unexpected,
        head_after: float = HEAD_AFTER,
        keepalive: float = 15.0,
        idle_after: float = 60.0,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        """Take the events; nothing is asked for until the response is sent.

        Args:
            events: the events, each a text that ends in a blank line (`server_sent_event`). An
                empty text is not sent, but the response begins with it.
            opening: returns the events to begin with, which are sent with the response's head.
            idle_event: returns an event without content, for clients that count events and not
                comments; None for none. It is called between two events of ``events``, so that
                both can be numbered by one counter.
            error_event: returns the event for an exception of ``events``; None if it was not
                expected: an error in OpenAI's shape is sent then, without the exception's text,
                and the exception is raised to the server, which logs it.
            head_after: seconds to wait for the first event before the response begins without it.
            keepalive: seconds of silence after which a comment is sent, and after each further.
            idle_after: seconds without an event after which ``idle_event`` is sent.
            status_code: the response's status.
            headers: more headers of the response.
            background: runs after the response.

        Raises:
            ConfigurationError: a number of seconds is not above 0; ``head_after`` may be 0.
        """
        if not (head_after >= 0 and keepalive > 0 and idle_after > 0):
            raise ConfigurationError(
                "head_after is at least 0, keepalive and idle_after are above 0 seconds: "
                f"not {head_after}, {keepalive} and {idle_after}"
            )
        self.status_code = status_code
        self.background: BackgroundTask | None = background
        given = {name.lower(): value for name, value in (headers or {}).items()}
        self.init_headers({**_HEADERS, **given})
        self._events = events
        self._opening, self._idle_event, self._error_event = opening, idle_event, error_event
        self._head_after, self._keepalive = head_after, keepalive
        self._idle_after = float("inf") if idle_event is None else idle_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response.

        Raises:
            ClientDisconnect: the server reports a closed connection by an error of ``send``.
            Exception: of ``events``, as the class describes.
        """
        events = self._events
        source = events if isinstance(events, EventSource) else _IteratorSource(events)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            source.start(tasks)
            tasks.start_soon(_cancel_at_disconnect, receive, tasks.cancel_scope)
            try:
                await self._transmit(source, _reporting(send))
            except Exception as exc:  # noqa: BLE001  # raised below, and not in a group
                failure = exc
            finally:
                with anyio.CancelScope(shield=True):
                    await source.close()
            tasks.cancel_scope.cancel()
        failure = failure or source.error
        if failure is not None:
            raise failure
        if not source.has_begun:  # the client has left before: that is no missing response
            with suppress(ClientDisconnect):
                await self._begin(source, _reporting(send))
        if self.background is not None:
            await self.background()

    async def _transmit(self, source: "EventSource", send: Send) -> None:
        """Send all, unless there is an error that is to be raised."""
        await source.wait_until(source.clock() + self._head_after)
        if source.error is not None:
            return
        await self._begin(source, send)
        await _send_text(send, self._opening())
        await self._send_events(source, send)
        if source.error is not None:
            told = self._error_event(source.error)
            await _send_text(send, told or _FAILED)
            if told is None:
                return
            source.error = None
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, source: "EventSource", send: Send) -> None:
        source.has_begun = True
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})

    async def _send_events(self, source: "EventSource", send: Send) -> None:
        clock = source.clock
        last_event = last_text = clock()
        while True:
            await source.wait_until(min(last_event + self._idle_after, last_text + self._keepalive))
            if source.has_ended:
                return
            now = clock()
            if source.event is not None:
                await _send_text(send, source.event)
                if source.event:
                    last_event = last_text = now
                source.go_on()
            elif self._idle_event is not None and now >= last_event + self._idle_after:
                await _send_text(send, self._idle_event())
                last_event = last_text = now
            else:
                await _send_text(send, KEEPALIVE)
                last_text = now


class EventSource:
    """Where an `EventStream` gets its events, one after the other.

    Attributes:
        event: the event that is to be sent; None before there is one.
        error: the exception that ended it.
        has_begun: whether the response has begun.
        is_done: whether no event will come after ``event``.
        clock: the event loop's clock.
    """

    def __init__(self) -> None:
        self.has_begun: bool = False
        self.event: str | None = None
        self.error: Exception | None = None
        self.is_done: bool = False
        self.clock: Callable[[], float] = time.monotonic

    @property
    def has_ended(self) -> bool:
        """Whether there is no event, and none will come."""
        return self.is_done and self.event is None

    def start(self, tasks: TaskGroup) -> None:
        """Start what has to run beside the response, in the task that sends it."""
        raise NotImplementedError

    async def wait_until(self, due: float) -> None:
        """Wait until there is an event, or the end, or it is ``due`` by the clock."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Go on to the next event, once this one is sent."""
        raise NotImplementedError

    async def close(self) -> None:
        """End: the response is sent, or its client has left; it is not cancelled."""


class _IteratorSource(EventSource):
    """Runs an iterator in one task, and holds each event until it is sent."""

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__()
        self._events = events
        self._ready, self._sent = anyio.Event(), anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Start the iterator's task."""
        self.clock = clock()
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        """Run to the end, and close the iterator, in the task that it ran in."""
        try:
            async with _closing(self._events) as events:
                async for event in events:
                    self.event = event
                    self._ready.set()
                    await self._sent.wait()
        except Exception as exc:  # noqa: BLE001  # told or raised by the response
            self.error = exc
        finally:
            self.is_done = True
            self._ready.set()

    async def wait_until(self, due: float) -> None:
        """Wait until there is an event, or the end, or it is ``due``."""
        with anyio.CancelScope(deadline=due):
            await self._ready.wait()

    def go_on(self) -> None:
        """Let the iterator go on to its next event, once this one is sent."""
        sent, self._sent = self._sent, anyio.Event()
        self.event, self._ready = None, anyio.Event()
        sent.set()


@asynccontextmanager
async def _closing(events: AsyncIterator[str]) -> AsyncGenerator[AsyncIterator[str], None]:
    try:
        yield events
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        await anyio.lowlevel.checkpoint()  # a body that nobody has read, in one message or many


async def _cancel_at_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    await wait_for_disconnect(receive)
    scope.cancel()


def _reporting(send: Send) -> Send:
    """Return ``send`` with the errors of a closed connection as Starlette raises them."""

    async def reporting(message: Any) -> None:
        try:
            await send(message)
        except OSError as exc:
            raise ClientDisconnect from exc

    return reporting


async def _send_text(send: Send, text: str) -> None:
    if text:
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
