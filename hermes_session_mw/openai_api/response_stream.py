"""`FollowedResponse`, what one client gets of a response while its answer runs, and afterwards.

The events are those of the answer's log. The last ones are sent once the turn is stored, and are
others if the answer did not end as they say (``response_log``).
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import cast

import anyio.lowlevel
from starlette.responses import Response
from starlette.types import Receive

from hermes_session_mw.exceptions import InvalidCursor
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.response_events import Event
from hermes_session_mw.openai_api.response_log import (
    as_error,
    end_events,
    error_event,
    is_end,
    logged_error,
    response_of,
)
from hermes_session_mw.session.answer import Answer, AnswerEvent
from hermes_session_mw.session.event_stream import server_sent_event
from hermes_session_mw.stores.answers import AnswerState

_MORE = 2
"""Events with which an end is told that is not logged."""

Failure = Callable[[Answer, Message | None], Exception | None]
"""Returns why an answer broke off, which its log may say, or None if nobody knows."""


def _failure(answer: Answer, _: Message | None) -> Exception | None:
    return answer.error


def _unexpected(_: Exception) -> Message:
    return {"error": {"message": "The server failed to answer.", "type": "server_error"}}


class FollowedResponse:
    """Follows an answer whose payloads are the events of a response.

    Attributes:
        answer: the answer.
    """

    def __init__(
        self,
        answer: Answer,
        response_id: str,
        own: Message,
        *,
        known: int = 0,
        raises: bool = False,
        failure: Failure = _failure,
        payload_of: Callable[[Exception], Message] = _unexpected,
        after_end: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    ) -> None:
        """Ask for nothing yet.

        Args:
            answer: the answer.
            response_id: the response's id.
            own: fields that the response has for this client, such as its ``instructions``, which
                are not logged.
            known: how many events the client has; see `known_events`.
            raises: whether a failure is raised, as for the client whose request began the answer,
                and that gets a status code for it if the response has not begun.
            failure: returns why the answer broke off.
            payload_of: returns the payload for an exception, as a log has it.
            after_end: called once the answer has ended, before its end is told.
        """
        self.answer: Answer = answer
        self._id, self._own = response_id, own
        self._known = self._skipped = known  # events
        self._raises = raises
        self._failure, self._payload_of = failure, payload_of
        self._after_end = after_end
        self._held: list[Event] = []
        self._ending = ""

    def stream(self, opening: Sequence[Event] = (), head_after: float | None = None) -> Response:
        """Return the events as a response.

        Args:
            opening: the log's first events, to be sent with the response's head.
            head_after: as for ``Answer.response``.
        """
        self._skipped = self._known = max(self._known, len(opening))
        return self.answer.response(
            0 if opening else min(self._known, self.answer.length),
            opening=(lambda _: encode_events(opening, self._own)) if opening else None,
            encode=self._encode,
            ending=self._end,
            idle_event=self.idle_event,
            error_event=self._error_event,
            head_after=head_after,
        )

    async def check(self) -> None:
        """Raise ``InvalidCursor`` if the client says to have more events than there are."""
        if self.answer.state == "running":
            await self.answer.check(self._known)
        elif self.answer.state != "incomplete" and self._known > self.answer.length + _MORE:
            raise InvalidCursor

    def idle_event(self) -> str:
        """Return an event without content, which has the last event's number.

        A client that comes back after it misses nothing, and gets nothing again.
        """
        return encode_events([{"type": "keepalive", "sequence_number": self._last_number}], {})

    async def so_far(self) -> Message:
        """Return the response as far as its events are known; it does not wait for more."""
        payloads, state = await read_log(self.answer), self.answer.state
        return self._response_of(payloads, state, self._failure_of(payloads, state))

    async def whole(self, receive: Receive | None = None) -> Message:
        """Wait for the end, and return the response.

        Args:
            receive: as for ``Answer.payloads``.

        Raises:
            StoreError: the log cannot be read.
            Exception: what ``failure`` returns.
        """
        payloads = cast("list[Message]", await self.answer.payloads(receive))
        await self._after_end()
        state = _ended(self.answer)
        failure = self._failure_of(payloads, state)
        if self._raises and failure is not None:
            raise failure
        return self._response_of(payloads, state, failure)

    @property
    def _last_number(self) -> int:
        return max(self._known, 1) - 1

    def _encode(self, event: AnswerEvent) -> str:
        payload = event.payload
        assert isinstance(payload, dict)
        if is_end(payload):
            self._held.append(payload)
            return ""
        if event.number <= self._skipped:
            return ""
        self._known = event.number
        return encode_events([payload], self._own)

    async def _end(self, answer: Answer) -> str:
        await self._after_end()
        state = _ended(answer)
        if state == "completed" and self._held:
            return encode_events(self._held, self._own)
        payloads = await read_log(answer)
        failure = self._failure_of(payloads, state)
        error = None if failure is None else self._payload_of(failure)
        events = end_events(payloads, state, self._id, known=self._known, error=error)
        new = [event for event in events if event["sequence_number"] >= self._known]
        self._ending = encode_events(new, self._own)
        if self._raises and failure is not None:
            raise failure
        return self._ending

    def _error_event(self, exc: Exception) -> str:
        # Without an end the log could not be read: the answer may go on, and the client come back.
        told = as_error(self._payload_of(exc))
        return self._ending or encode_events([error_event(self._last_number, told)], {})

    def _failure_of(self, payloads: Sequence[Message], state: AnswerState) -> Exception | None:
        is_failed = state in ("failed", "incomplete")
        return self._failure(self.answer, logged_error(payloads)) if is_failed else None

    def _response_of(
        self, payloads: Sequence[Message], state: AnswerState, failure: Exception | None
    ) -> Message:
        error = None if failure is None else self._payload_of(failure)
        return response_of(payloads, state, self._id, error) | self._own


def encode_events(events: Iterable[Event], own: Message) -> str:
    """Return events as a stream has them, with a client's own fields in each response."""
    return "".join(
        server_sent_event(
            event | {"response": event["response"] | own} if "response" in event else event,
            event["type"],
        )
        for event in events
    )


async def read_log(answer: Answer) -> list[Message]:
    """Return the payloads that are there; at least one, unless the answer has ended without any."""
    payloads: list[Message] = []
    wanted = max(answer.length, 1) if answer.state == "running" else float("inf")
    async with aclosing(answer.batches()) as batches:
        async for batch in batches:
            payloads += [event.payload for event in batch if isinstance(event.payload, dict)]
            if len(payloads) >= wanted:
                break
    return payloads


async def begun_response(answer: Answer) -> Message | None:
    """Return the response as it began, or None if the answer makes none, or ended before that."""
    async with aclosing(answer.events()) as events:
        async for event in events:
            match event.payload:
                case {"type": "response.created", "response": dict(response)}:
                    return response
            return None
    return None


def _ended(answer: Answer) -> AnswerState:
    """Return how an answer ended; one that was deleted broke off."""
    return "incomplete" if answer.state == "running" else answer.state
