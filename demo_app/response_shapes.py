"""Answers as the events of OpenAI's Responses, which are logged, and stored as a turn."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, Response

from demo_app.failures import error_payload
from demo_app.model import Model
from hermes_session_mw import StoredTurn
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import EventStream
from hermes_session_mw.openai_api.item_ids import is_response_id, response_details
from hermes_session_mw.openai_api.reply import Reply, stored_reply
from hermes_session_mw.openai_api.response_events import ResponseEvents
from hermes_session_mw.openai_api.response_items import calls_of, logprobs_of
from hermes_session_mw.openai_api.response_object import end_status, response_object, usage_of
from hermes_session_mw.openai_api.response_request import ResponseRequest
from hermes_session_mw.openai_api.response_stream import encode_events


def details_of(response_id: str, asked: ResponseRequest) -> Message:
    """Return what of a response is stored with the answer's message; its end adds the rest."""
    began = {"id": response_id, "created_at": int(time.time())}
    return began | {"previous_response_id": asked.previous} | asked.told


@dataclass(slots=True)
class ResponseAnswer:
    """A response as the payloads of its log; `openai_api.response_log` has the rules.

    Attributes:
        reply: the model's answer.
        details: the result of `details_of`; complete at the end.
        is_stored: whether the response can be read again.
        first: the first events, which are known before the model has said anything.
    """

    reply: Reply
    details: Message
    is_stored: bool = True
    first: list[Message] = field(init=False)
    _events: ResponseEvents = field(init=False)

    def __post_init__(self) -> None:
        """Number the first events."""
        self._events = ResponseEvents(self.details["id"])
        kinds = ("response.created", "response.in_progress")
        begun = self._shape("in_progress")
        self.first = [self._events.event(kind, response=begun) for kind in kinds]

    async def payloads(self) -> AsyncGenerator[Message, None]:
        """Yield the events; at last an error, if the model fails."""
        try:
            for event in self.first:
                yield event
            async with aclosing(self.reply.pieces()) as deltas:
                async for delta in deltas:
                    logprobs = logprobs_of(delta.choice)
                    for event in self._events.add(delta.text, delta.fields, logprobs):
                        yield event
            self._complete()
            for event in self._events.end(self._end, calls_of(self.reply.message)):
                yield event
            ended = self._shape(self._end, self._events.items)
            yield self._events.event(f"response.{self._end}", response=ended)
        except Exception as exc:
            yield error_payload(exc)
            raise

    def message(self) -> Message:
        """Return the message to store of what has come."""
        stored = self.reply.stored()
        if not stored and not self.reply.is_whole:
            return {}
        return stored | {"metadata": {"response": self.details}}

    async def response(self, own: Message, *, stream: bool) -> Response:
        """Tell the answer to a client, without logging it; ``own`` is as for `FollowedResponse`."""
        if stream:
            return EventStream(self._texts(own))
        *_, ended = [event async for event in self.payloads()]
        return JSONResponse(ended["response"] | own)

    async def _texts(self, own: Message) -> AsyncGenerator[str, None]:
        async for event in self.payloads():
            yield encode_events([event], own)

    @property
    def _end(self) -> str:
        return end_status(self.reply.finish_reason)

    def _complete(self) -> None:
        if "model" not in self.details:  # else it is told again
            usage = usage_of(self.reply.usage)
            at = int(time.time()) if self._end == "completed" else None
            self.details.update(completed_at=at, model=self.reply.model, usage=usage)

    def _shape(self, status: str, output: list[Message] | None = None) -> Message:
        reason = self.reply.finish_reason
        told = {"model": self.reply.model} | self.details
        shape = response_object(status, told, output or [], finish_reason=reason)
        return shape | {"store": self.is_stored}


def stored_response(response_id: str, turn: StoredTurn, model: Model) -> ResponseAnswer:
    """Return a stored answer."""
    *question, message = turn.messages
    missing = {"previous_response_id": None, "model": model.name}
    made = {"id": response_id} | response_details(message)
    details = missing | made | ({} if is_response_id(made["id"]) else {"id": response_id})
    return ResponseAnswer(stored_reply(message, question, model.name), details)
