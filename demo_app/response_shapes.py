"""Answers in the shape of OpenAI's Responses: one JSON object, or a stream of events."""

import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from demo_app.failures import ModelFailed, as_failure
from demo_app.model import Usage
from demo_app.reply import Reply
from demo_app.response_request import NUMBERS, ResponseRequest
from hermes_session_mw import HermesSessionError
from hermes_session_mw.messages import Message

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The reason of an incomplete response, by its ``finish_reason`` in Chat Completions."""


def details(created: int, asked: ResponseRequest) -> Message:
    """Return a response's other fields, which are stored with the answer's message."""
    numbers = {name: asked.options.get(option) for name, option in NUMBERS.items()}
    return {"created_at": created, "previous_response_id": asked.previous, "usage": None, **numbers}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whose turn is stored before the last event is sent.

    Attributes:
        id: the response's.
        session_id: the conversation that it belongs to.
        reply: the model's answer.
        details: the result of `details`; complete at the end.
        is_stored: whether the response can be read again.
        instructions: the system message for this response only.
    """

    id: str
    session_id: str
    reply: Reply
    details: Message
    is_stored: bool = True
    instructions: str | None = None

    @property
    def end(self) -> str:
        """The status of the complete response."""
        return "incomplete" if self.reply.finish_reason in _INCOMPLETE else "completed"

    def shape(self, status: str) -> dict[str, Any]:
        """Return the response as one object, without its text and usage until it has ended."""
        has_ended = status == self.end
        told = self.details if has_ended else self.details | {"usage": None}
        reason = _INCOMPLETE.get(self.reply.finish_reason)
        return {
            "id": self.id,
            "object": "response",
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "instructions": self.instructions,
            **dict.fromkeys(NUMBERS),
            "model": self.reply.model,
            "output": [self._item(status)] if has_ended else [],
            "parallel_tool_calls": False,
            "conversation": {"id": self.session_id},
            "store": self.is_stored,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "truncation": "disabled",
            "metadata": {},
            **told,
        }

    async def whole(self) -> dict[str, Any]:
        """Store the turn, and return the response."""
        await self.reply.whole(self._complete)
        return self.shape(self.end)

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the response as server-sent events, and store the turn before the last ones."""
        numbers = itertools.count()
        item = self._item("in_progress")
        at_item = {"output_index": 0}
        at_part = at_item | {"item_id": item["id"], "content_index": 0}

        def event(kind: str, **data: Any) -> str:
            told = {"type": kind, "sequence_number": next(numbers), **data}
            return f"event: {kind}\ndata: {json.dumps(told)}\n\n"

        yield event("response.created", response=self.shape("in_progress"))
        yield event("response.in_progress", response=self.shape("in_progress"))
        yield event("response.output_item.added", **at_item, item=item)
        yield event("response.content_part.added", **at_part, part=_part(""))
        try:
            async with aclosing(self.reply.pieces(self._complete)) as deltas:
                async for delta in deltas:
                    if delta.text:
                        told = at_part | {"delta": delta.text, "logprobs": []}
                        yield event("response.output_text.delta", **told)
        except (HermesSessionError, ModelFailed) as exc:
            limited = as_failure(exc).status == HTTPStatus.TOO_MANY_REQUESTS
            code = "rate_limit_exceeded" if limited else "server_error"
            error = {"code": code, "message": str(exc)}
            yield event("response.failed", response=self.shape("failed") | {"error": error})
            return
        text = self.reply.text
        yield event("response.output_text.done", **at_part, text=text, logprobs=[])
        yield event("response.content_part.done", **at_part, part=_part(text))
        yield event("response.output_item.done", **at_item, item=self._item(self.end))
        yield event(f"response.{self.end}", response=self.shape(self.end))

    def _complete(self) -> None:
        if "model" not in self.details:  # else it is told again
            usage = self.details["usage"] or _usage(self.reply.usage)
            self.details.update(model=self.reply.model, usage=usage)
        self.reply.recording.message["response"] = self.details

    def _item(self, status: str) -> dict[str, Any]:
        content = [_part(self.reply.text)] if status == self.end else []
        return {
            "id": self.id.replace("resp_", "msg_"),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }


def _usage(usage: Usage | None) -> Usage | None:
    """Convert the usage of Chat Completions to that of Responses."""
    if usage is None:
        return None
    used, made = usage["prompt_tokens"], usage["completion_tokens"]
    return {
        "input_tokens": used,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used + made,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
