"""Answers in the shape of OpenAI's Chat Completions: one JSON object, or a stream of chunks."""

import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from demo_app.failures import ModelFailed, as_failure
from demo_app.reply import Reply
from hermes_session_mw import HermesSessionError


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, which is stored before the last event is sent."""

    reply: Reply
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> dict[str, Any]:
        """Store the turn, and return the answer as one object."""
        await self.reply.whole()
        reason = self.reply.finish_reason
        choice = {"index": 0, "message": self.reply.message, "finish_reason": reason}
        return self._shape("chat.completion", [choice]) | {"usage": self.reply.usage}

    async def events(self, *, include_usage: bool) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events, and store the turn before the last ones."""
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async with aclosing(self.reply.pieces()) as deltas:
                async for delta in deltas:
                    if told := ({"content": delta.text} if delta.text else {}) | delta.fields:
                        yield self._chunk(told)
        except (HermesSessionError, ModelFailed) as exc:
            yield _event(as_failure(exc).body)
            return
        yield self._chunk({}, finish_reason=self.reply.finish_reason)
        if include_usage:
            yield _event(self._shape("chat.completion.chunk", []) | {"usage": self.reply.usage})
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event(self._shape("chat.completion.chunk", [choice]))

    def _shape(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.reply.model,
            "choices": choices,
        }


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
