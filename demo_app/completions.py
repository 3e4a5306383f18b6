"""Answers in the shape of OpenAI's Chat Completions: one JSON object, or a stream of chunks."""

import json
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from hermes_session_mw import HermesSessionError, Recording
from hermes_session_mw.messages import Message

from .errors import error_body
from .model import MODEL_NAME, count_tokens, pieces, text_of
from .turns import Finish, nothing, unrecorded


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer to ``prompt``, whose turn ``recording`` stores before the end is said.

    Whoever has read the answer to its end can rely on it: the turn is stored by then, and
    ``finish`` was done.
    """

    prompt: Sequence[Message]
    text: str
    recording: Recording = field(default_factory=unrecorded)
    finish: Finish = nothing
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, int]:
        """The tokens that went in and came out."""
        prompt = sum(count_tokens(text_of(message)) for message in self.prompt)
        completion = count_tokens(self.text)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    async def whole(self) -> dict[str, Any]:
        """Store the turn, and return the answer as one object."""
        async with self.recording:
            self.recording.write(self.text)
        await self.finish()
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self._shape("chat.completion", [choice]) | {"usage": self.usage}

    async def events(self, *, include_usage: bool) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events, and store the turn before the last ones."""
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async with self.recording, aclosing(pieces(self.text)) as words:
                async for piece in words:
                    self.recording.write(piece)
                    yield self._chunk({"content": piece})
            await self.finish()
        except HermesSessionError as exc:
            yield _event(error_body(str(exc), error_type="server_error"))
            return
        yield self._chunk({}, finish_reason="stop")
        if include_usage:
            yield _event(self._shape("chat.completion.chunk", []) | {"usage": self.usage})
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event(self._shape("chat.completion.chunk", [choice]))

    def _shape(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": MODEL_NAME,
            "choices": choices,
        }


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
