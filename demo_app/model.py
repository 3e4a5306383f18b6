"""The protocol of a model, and the built-in one, which needs no network."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

import anyio

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import text_of
from hermes_session_mw.openai_api.reply import Delta, words_of


class Model(Protocol):
    """A model that streams its answers."""

    @property
    def name(self) -> str:
        """The model's name, if the answer does not contain one."""
        ...

    @property
    def patience(self) -> float:
        """The seconds that may pass between two pieces, and before the first one."""
        ...

    def stream(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        """Yield the answer to the conversation, in at least one piece.

        ``options`` are the other fields of a Chat Completions body: ``model``, ``temperature``.
        """
        ...

    async def listed(self) -> list[dict[str, Any]]:
        """Return the models for ``GET /v1/models``."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


class EchoModel:
    """A model that needs no network: it repeats the question, and says what it remembers."""

    name = "hermes-demo"

    def __init__(self, pace: float = 0.0) -> None:
        """Take the seconds between two words."""
        self.patience = pace

    async def stream(
        self,
        messages: Sequence[Message],
        options: Mapping[str, Any],  # noqa: ARG002  # it has none
    ) -> AsyncGenerator[Delta, None]:
        """Yield the answer to the last user message, word by word."""
        text = answer(messages)
        for number, word in enumerate(words_of(text)):
            await anyio.sleep(self.patience if number else 0)
            yield Delta(word)
        # Its tokens are words.
        used = sum(len(text_of(each.get("content")).split()) for each in messages)
        made = len(text.split())
        usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
        yield Delta(usage=usage, finish_reason="stop")

    async def listed(self) -> list[dict[str, Any]]:
        """Return the one model."""
        owner = "hermes_session_mw"
        return [{"id": self.name, "object": "model", "created": 0, "owned_by": owner}]

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""


def answer(messages: Sequence[Message]) -> str:
    """Return the built-in model's answer to the last user message."""
    asked = [message for message in messages if message["role"] == "user"] or messages[-1:]
    *earlier, last = (text_of(message.get("content")) for message in asked)
    memory = "This is your first message in this conversation."
    if earlier:
        count = "1 earlier message" if len(earlier) == 1 else f"{len(earlier)} earlier messages"
        memory = f"I remember {count}; the first was: {' '.join(earlier[0].split())}"
    # What has lines may be code in fences, beside which nothing may stand.
    return f"You said:\n\n{last}\n\n{memory}" if "\n" in last else f"You said: {last} | {memory}"
