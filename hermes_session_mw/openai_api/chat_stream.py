"""What one client gets of an answer as Chat Completions: while it runs, or told again.

The chunks are those of the answer's log (``chat_log``). Each has its cursor as ``event_id``. Those
that end the answer are sent once its turn is stored, so that a client that has the whole answer can
rely on it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast

import anyio.lowlevel
from starlette.responses import Response
from starlette.types import Receive

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.chat_log import (
    OF_ANSWER,
    error_of,
    is_end,
    is_usage,
    whole_completion,
)
from hermes_session_mw.session.answer import Answer, AnswerEvent
from hermes_session_mw.session.event_stream import EventStream, server_sent_event

Failure = Callable[[Answer, Message | None], Exception]
"""Returns why an answer is not whole, which its log may say."""


class FollowedCompletion:
    """A completion while its answer runs, for the client that asked for it, or that joins it."""

    def __init__(
        self,
        answer: Answer,
        failure: Failure,
        *,
        first: Message | None = None,
        include_usage: bool = False,
        after_end: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    ) -> None:
        """Ask for nothing yet.

        Args:
            answer: the answer, whose payloads are chunks.
            failure: returns what is raised for an answer that is not completed.
            first: the first chunk, which is sent with the response's head if the model is silent
                until then. None if it is not known before it is logged, as for a client that joins.
            include_usage: whether the client gets the chunk with the usage.
            after_end: called once the answer has ended, before its end is told.
        """
        self._answer, self._failure, self._after_end = answer, failure, after_end
        self._encoder = _ChunkEncoder(first, include_usage=include_usage)

    def stream(self, error_event: Callable[[Exception], str | None], head_after: float) -> Response:
        """Return the chunks as a response; the arguments are those of ``EventStream``."""
        return self._answer.response(
            opening=self._encoder.opening,
            encode=self._encoder.encode,
            ending=self._ending,
            idle_event=self._encoder.idle_event,
            error_event=error_event,
            head_after=head_after,
        )

    async def whole(self, receive: Receive) -> Message:
        """Wait for the end, and return the completion.

        Raises:
            Exception: what ``failure`` returns.
            StoreError: the log cannot be read.
        """
        chunks = cast("list[Message]", await self._answer.payloads(receive))
        await self._check_end(error_of(chunks))
        return whole_completion(chunks)

    async def _ending(self, _: Answer) -> str:
        await self._check_end(self._encoder.error)
        return self._encoder.end()

    async def _check_end(self, logged: Message | None) -> None:
        await self._after_end()
        if self._answer.state != "completed":
            raise self._failure(self._answer, logged)


class RepeatedCompletion:
    """A completion that is stored, with the same methods."""

    def __init__(
        self, chunks: AsyncGenerator[Message, None], *, include_usage: bool = False
    ) -> None:
        """Take the chunks."""
        self._chunks = chunks
        self._encoder = _ChunkEncoder(include_usage=include_usage)

    def stream(self, error_event: Callable[[Exception], str | None], head_after: float) -> Response:
        """Return the chunks as a response."""
        return EventStream(self._events(), error_event=error_event, head_after=head_after)

    async def whole(self, _: Receive) -> Message:
        """Return the completion."""
        return whole_completion([chunk async for chunk in self._chunks])

    async def _events(self) -> AsyncGenerator[str, None]:
        number = 0
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                number += 1
                yield self._encoder.tell(number, chunk)
        yield self._encoder.end()


class _ChunkEncoder:
    """Makes server-sent events of an answer's payloads.

    Attributes:
        error: the payload with the error that ended the answer; None if there was none.
    """

    def __init__(self, first: Message | None = None, *, include_usage: bool) -> None:
        self.error: Message | None = None
        self._first, self._last = first, first
        self._include_usage = include_usage
        self._has_begun = self._is_opened = False
        self._held: list[str] = []

    def opening(self, _: Answer) -> str:
        """Return the first chunk, unless it is logged by now."""
        if self._first is None or self._has_begun:
            return ""
        self._is_opened = True
        return server_sent_event(self._first)

    def encode(self, event: AnswerEvent) -> str:
        """Return an event; ``""`` for what is not told, or is held back."""
        return self.tell(event.number, event.payload, event.cursor)

    def tell(self, number: int, payload: Message, cursor: str | None = None) -> str:
        """Return a payload as an event, with its cursor if it has one."""
        self._has_begun = True
        if "error" in payload:
            self.error = payload
            return ""
        self._last = payload
        chunk = payload if cursor is None else payload | {"event_id": cursor}
        if is_end(payload):
            if self._include_usage or not is_usage(payload):
                self._held.append(server_sent_event(chunk))
            return ""
        return "" if number == 1 and self._is_opened else server_sent_event(chunk)

    def end(self) -> str:
        """Return the last events of a completed answer."""
        return "".join([*self._held, "data: [DONE]\n\n"])

    def idle_event(self) -> str:
        """Return a chunk without content, once a chunk is known."""
        if self._last is None:
            return ""
        choice = {"index": 0, "delta": {}, "finish_reason": None}
        shape = {name: self._last[name] for name in OF_ANSWER if name in self._last}
        return server_sent_event(shape | {"choices": [choice]})
