"""Answers in the shape of OpenAI's Responses: one JSON object, or a stream of events."""

import itertools
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from hermes_session_mw import HermesSessionError, Recording
from hermes_session_mw.messages import Message

from .model import MODEL_NAME, count_tokens, pieces, text_of
from .turns import Finish, nothing, unrecorded


def details(prompt: Sequence[Message], text: str, created: int, previous: str | None) -> Message:
    """Return what a response tells beside its text, and is stored with the answer's message."""
    used = sum(count_tokens(text_of(message)) for message in prompt)
    made = count_tokens(text)
    usage = {
        "input_tokens": used,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used + made,
    }
    return {"created_at": created, "previous_response_id": previous, "usage": usage}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whose turn ``recording`` stores before its end is said.

    Attributes:
        id: the response's.
        session_id: the conversation that it belongs to.
        text: what the model says.
        details: what `details` made.
        recording: what stores the turn.
        finish: what is done then.
        is_stored: whether the response can be got again.
        instructions: what the model was told for this response alone.
    """

    id: str
    session_id: str
    text: str
    details: Message
    recording: Recording = field(default_factory=unrecorded)
    finish: Finish = nothing
    is_stored: bool = True
    instructions: str | None = None

    def shape(self, status: str = "completed") -> dict[str, Any]:
        """Return the response as one object, without its text and usage until it is completed."""
        is_completed = status == "completed"
        told = self.details if is_completed else self.details | {"usage": None}
        return {
            "id": self.id,
            "object": "response",
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.instructions,
            "max_output_tokens": None,
            "model": MODEL_NAME,
            "output": [self._item(status)] if is_completed else [],
            "parallel_tool_calls": False,
            "conversation": {"id": self.session_id},
            "store": self.is_stored,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "metadata": {},
            **told,
        }

    async def whole(self) -> dict[str, Any]:
        """Store the turn, and return the response."""
        async with self.recording:
            self.recording.write(self.text)
        await self.finish()
        return self.shape()

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
            async with self.recording, aclosing(pieces(self.text)) as words:
                async for piece in words:
                    self.recording.write(piece)
                    yield event("response.output_text.delta", **at_part, delta=piece, logprobs=[])
            await self.finish()
        except HermesSessionError as exc:
            error = {"code": "server_error", "message": str(exc)}
            yield event("response.failed", response=self.shape("failed") | {"error": error})
            return
        yield event("response.output_text.done", **at_part, text=self.text, logprobs=[])
        yield event("response.content_part.done", **at_part, part=_part(self.text))
        yield event("response.output_item.done", **at_item, item=self._item("completed"))
        yield event("response.completed", response=self.shape())

    def _item(self, status: str) -> dict[str, Any]:
        content = [_part(self.text)] if status == "completed" else []
        return {
            "id": self.id.replace("resp_", "msg_"),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
