"""Answers in the shape of OpenAI's Responses: one JSON object, or a stream of events."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from demo_app.failures import ModelFailed, as_failure
from demo_app.recorded import Reply
from hermes_session_mw import HermesSessionError
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import server_sent_event
from hermes_session_mw.openai_api.item_ids import answer_items
from hermes_session_mw.openai_api.response_events import ResponseEvents
from hermes_session_mw.openai_api.response_items import calls_of, logprobs_of, with_logprobs
from hermes_session_mw.openai_api.response_object import end_status, response_object, usage_of
from hermes_session_mw.openai_api.response_request import ResponseRequest


def details_of(response_id: str, asked: ResponseRequest) -> Message:
    """Return what of a response is stored with the answer's message; its end adds the rest."""
    began = {"id": response_id, "created_at": int(time.time())}
    return began | {"previous_response_id": asked.previous} | asked.told


@dataclass(slots=True)
class Answer:
    """A response, whose turn is stored before the last event is sent.

    Attributes:
        session_id: the conversation that it belongs to.
        reply: the model's answer.
        details: the result of `details_of`; complete at the end.
        is_stored: whether the response can be read again.
        instructions: the system message for this response only.
    """

    session_id: str
    reply: Reply
    details: Message
    is_stored: bool = True
    instructions: str | None = None
    _events: ResponseEvents = field(init=False)
    _first: list[Message] = field(init=False)

    def __post_init__(self) -> None:
        """Number the first events, which are sent when the response begins."""
        self._events = ResponseEvents(self.details["id"])
        kinds = ("response.created", "response.in_progress")
        self._first = [self._events.event(kind) for kind in kinds]

    async def whole(self) -> dict[str, Any]:
        """Store the turn, and return the response."""
        await self.reply.whole(self._complete)
        ended = self.reply.message | {"finish_reason": self.reply.finish_reason}
        items = answer_items(ended, self.details["id"])
        return self._shape(self._end, with_logprobs(items, logprobs_of(self.reply.choice)))

    def opening(self) -> str:
        """Return the stream's first events."""
        begun = {"response": self._shape("in_progress")}
        return "".join(_sent(event | begun) for event in self._first)

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the stream's other events, and store the turn before the last ones.

        A piece without content is the empty text: the model has begun to answer.
        """
        events = self._events
        async with aclosing(self.reply.pieces(self._complete)) as deltas:
            async for delta in deltas:
                yield ""
                if delta.text or delta.fields:  # its items can be referred to if it breaks off, too
                    self.reply.recording.message["metadata"] = {"response": self.details}
                logprobs = logprobs_of(delta.choice)
                for event in events.add(delta.text, delta.fields, logprobs):
                    yield _sent(event)
        for event in events.end(self._end, calls_of(self.reply.message)):
            yield _sent(event)
        ended = self._shape(self._end, events.items)
        yield _sent(events.event(f"response.{self._end}", response=ended))

    def idle_event(self) -> str:
        """Return an event without content, which OpenAI's SDKs pass over."""
        return _sent(self._events.event("keepalive"))

    def error_event(self, exc: Exception) -> str | None:
        """Return the events that end the stream, or None for an exception nobody expects."""
        if not isinstance(exc, HermesSessionError | ModelFailed):
            return None
        failure = as_failure(exc)
        limited = failure.status == HTTPStatus.TOO_MANY_REQUESTS
        code = "rate_limit_exceeded" if limited else "server_error"
        failed = self._shape("failed") | {"error": {"code": code, "message": str(exc)}}
        # Which the SDKs raise, while they pass response.failed on as an event.
        told = {"code": code, "message": str(exc), "param": None}
        error = self._events.event("error", **told, error=failure.body["error"])
        return _sent(error) + _sent(self._events.event("response.failed", response=failed))

    @property
    def _end(self) -> str:
        return end_status(self.reply.finish_reason)

    def _complete(self) -> None:
        if "model" not in self.details:  # else it is told again
            usage = usage_of(self.reply.usage)
            at = int(time.time()) if self._end == "completed" else None
            self.details.update(completed_at=at, model=self.reply.model, usage=usage)
        self.reply.recording.message["metadata"] = {"response": self.details}

    def _shape(self, status: str, output: list[Message] | None = None) -> dict[str, Any]:
        reason = self.reply.finish_reason
        told = {"model": self.reply.model} | self.details
        shape = response_object(status, told, output or [], finish_reason=reason)
        own = {"conversation": {"id": self.session_id}, "instructions": self.instructions}
        return shape | own | {"store": self.is_stored}


def _sent(event: Message) -> str:
    return server_sent_event(event, event["type"])
