"""Answers in the shape of OpenAI's Chat Completions: one JSON object, or a stream of chunks."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from demo_app.reply import Reply
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import server_sent_event, split_delta


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, which is stored before the last event is sent.

    If it is repeatable, its id and time are stored with it.
    """

    reply: Reply
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    is_repeatable: bool = False

    @classmethod
    def again(cls, reply: Reply, message: Message) -> "Completion":
        """Return a stored answer, with its id and time if they are stored."""
        metadata = message.get("metadata")
        kept = metadata.get("completion") if isinstance(metadata, dict) else None
        match kept:
            case {"id": str(completion_id), "created": int(created)}:
                return cls(reply, completion_id, created)
        return cls(reply)

    async def whole(self) -> dict[str, Any]:
        """Store the turn, and return the answer as one object."""
        await self.reply.whole(self._note)
        reason = self.reply.finish_reason
        choice = {"index": 0, "message": self.reply.message, "finish_reason": reason}
        shape = self._shape("chat.completion", [self.reply.choice | choice])
        return self.reply.beside | shape | {"usage": self.reply.usage}

    def opening(self) -> str:
        """Return the stream's first event."""
        return self._chunk({"role": "assistant", "content": ""})

    async def events(self, *, include_usage: bool) -> AsyncGenerator[str, None]:
        """Yield the answer's other events, and store the turn before the last ones.

        A piece without content is the empty text: the model has begun to answer.
        """
        async with aclosing(self.reply.pieces(self._note)) as deltas:
            async for delta in deltas:
                told = ({"content": delta.text} if delta.text else {}) | delta.fields
                has_more = told or delta.choice or delta.beside
                first, *calls = split_delta(told)
                yield self._chunk(first, delta.choice, delta.beside) if has_more else ""
                for call in calls:
                    yield self._chunk(call)
        yield self._chunk({}, {"finish_reason": self.reply.finish_reason})
        if include_usage:
            usage = self._shape("chat.completion.chunk", []) | {"usage": self.reply.usage}
            yield server_sent_event(usage)
        yield "data: [DONE]\n\n"

    def idle_event(self) -> str:
        """Return an event without content."""
        return self._chunk({})

    def _note(self) -> None:
        kept = {"metadata": {"completion": {"id": self.id, "created": self.created}}}
        if self.is_repeatable and self.reply.recording.allows(kept):
            self.reply.recording.message.update(kept)

    def _chunk(
        self, delta: Message, choice: Message | None = None, beside: Message | None = None
    ) -> str:
        told = {"index": 0, "delta": delta, "finish_reason": None} | (choice or {})
        return server_sent_event((beside or {}) | self._shape("chat.completion.chunk", [told]))

    def _shape(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.reply.model,
            "choices": choices,
        }
