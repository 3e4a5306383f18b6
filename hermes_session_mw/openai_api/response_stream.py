"""`FollowedResponse`, what one client gets of a response while its answer runs, and afterwards.

The events are those of the answer's log. The last ones are sent once the turn is stored, and are
others if the answer did not end as they say (``response_log``).
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing

from starlette.responses import Response

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.response_events import Event
from hermes_session_mw.openai_api.response_log import end_events, is_end, response_of
from hermes_session_mw.session.answer import Answer, AnswerEvent
from hermes_session_mw.session.event_stream import server_sent_event

Failure = Callable[[Answer], Exception | None]
"""Returns what to raise for an answer that has ended; None to tell how it ended."""


def _nothing(_: Answer) -> Exception | None:
    return None


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
        failure: Failure = _nothing,
    ) -> None:
        """Ask for nothing yet.

        Args:
            answer: the answer.
            response_id: the response's id.
            own: fields that the response has for this client, such as its ``instructions``, which
                are not logged.
            known: how many events the client has; see `known_events`.
            failure: for the client whose request began the answer, and that gets a status code if
                it fails before the response has begun.
        """
        self.answer: Answer = answer
        self._id, self._own = response_id, own
        self._known, self._failure = known, failure
        self._opened = 0
        self._held: list[Event] = []
        self._ending = ""

    def stream(self, opening: Sequence[Event] = (), head_after: float | None = None) -> Response:
        """Return the events as a response.

        Args:
            opening: the log's first events, to be sent with the response's head.
            head_after: as for ``Answer.response``.
        """
        self._opened = len(opening)
        return self.answer.response(
            self._known,
            opening=(lambda _: self._sent(opening)) if opening else None,
            encode=self._encode,
            ending=self._end,
            idle_event=self.idle_event,
            error_event=self._error_event,
            head_after=head_after,
        )

    def idle_event(self) -> str:
        """Return an event without content, which has the last event's number.

        A client that comes back after it misses nothing, and gets nothing again.
        """
        return self._sent([{"type": "keepalive", "sequence_number": self._last_number}])

    async def so_far(self) -> Message:
        """Return the response as far as its events are known; it does not wait for more."""
        return self._shown(response_of(await read_log(self.answer), self.answer.state, self._id))

    async def whole(self) -> Message:
        """Wait for the end, and return the response.

        Raises:
            StoreError: the log cannot be read.
            Exception: what ``failure`` returns.
        """
        await self.answer.wait()
        failure = self._failure(self.answer)
        if failure is not None:
            raise failure
        return await self.so_far()

    @property
    def _last_number(self) -> int:
        return max(self._known, self._opened, 1) - 1

    def _encode(self, event: AnswerEvent) -> str:
        payload = event.payload
        assert isinstance(payload, dict)
        if is_end(payload):
            self._held.append(payload)
            return ""
        self._known = event.number
        return self._sent([payload]) if event.number > self._opened else ""

    async def _end(self, answer: Answer) -> str:
        failure = self._failure(answer)
        self._ending = self._sent(await self._ends(failure))
        if failure is not None:
            raise failure
        return self._ending

    async def _ends(self, failure: Exception | None) -> list[Event]:
        # One that is not there any more, since the conversation was deleted, runs for all we know.
        state = "incomplete" if self.answer.state == "running" else self.answer.state
        if state == "completed" and self._held:
            return self._held
        error = None if failure is None else _error_of(failure)
        known = max(self._known, self._opened)
        return end_events(await read_log(self.answer), state, self._id, known=known, error=error)

    def _error_event(self, exc: Exception) -> str:
        if self._ending:
            return self._ending
        # The log cannot be read; the answer may go on, and the client come back.
        told = {**_error_of(exc), "param": None}
        event = {"type": "error", "sequence_number": self._last_number, **told, "error": told}
        return self._sent([event])

    def _sent(self, events: Iterable[Event]) -> str:
        return "".join(server_sent_event(self._with_own(event), event["type"]) for event in events)

    def _with_own(self, event: Event) -> Event:
        return (
            event | {"response": self._shown(event["response"])} if "response" in event else event
        )

    def _shown(self, response: Message) -> Message:
        return response | self._own


async def read_log(answer: Answer) -> list[Event]:
    """Return the events that are there; at least one, if the answer has not ended without any."""
    events: list[Event] = []
    wanted = max(answer.length, 1) if answer.state == "running" else float("inf")
    async with aclosing(answer.batches()) as batches:
        async for batch in batches:
            events += [event.payload for event in batch if isinstance(event.payload, dict)]
            if len(events) >= wanted:
                break
    return events


async def begun_response(answer: Answer) -> Message | None:
    """Return the response as it began, or None if the answer makes none, or ended before that."""
    async with aclosing(answer.events()) as events:
        async for event in events:
            match event.payload:
                case {"type": "response.created", "response": dict(response)}:
                    return response
            return None
    return None


def _error_of(exc: Exception) -> Message:
    return {"code": "server_error", "message": str(exc) or type(exc).__name__}
