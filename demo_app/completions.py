"""Answers as the chunks of OpenAI's Chat Completions, which are logged, and stored as a turn."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from demo_app.failures import error_payload
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import split_delta
from hermes_session_mw.openai_api.reply import Reply


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer as the payloads of its log; `hermes_session_mw.openai_api.chat_log` has the rules.

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

    def first(self) -> Message:
        """Return the first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    async def payloads(self) -> AsyncGenerator[Message, None]:
        """Yield the chunks, once the model has begun, and an error if it fails."""
        has_begun = False
        try:
            async with aclosing(self.reply.pieces()) as deltas:
                async for delta in deltas:
                    if not has_begun:
                        has_begun = True
                        yield self.first()
                    told = ({"content": delta.text} if delta.text else {}) | delta.fields
                    first, *calls = split_delta(told)
                    if told or delta.choice or delta.beside:
                        yield self._chunk(first, delta.choice, delta.beside)
                    for call in calls:
                        yield self._chunk(call)
            yield self._chunk({}, {"finish_reason": self.reply.finish_reason})
            yield self._shape([]) | {"usage": self.reply.usage}
        except Exception as exc:
            yield error_payload(exc)
            raise

    def message(self) -> Message:
        """Return the message to store of what has come."""
        kept = {"metadata": {"completion": {"id": self.id, "created": self.created}}}
        is_kept = self.is_repeatable and self.reply.is_whole and self.reply.allows(kept)
        return self.reply.stored() | (kept if is_kept else {})

    def _chunk(
        self, delta: Message, choice: Message | None = None, beside: Message | None = None
    ) -> Message:
        told = {"index": 0, "delta": delta, "finish_reason": None} | (choice or {})
        return (beside or {}) | self._shape([told])

    def _shape(self, choices: list[Message]) -> Message:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.reply.model,
            "choices": choices,
        }
