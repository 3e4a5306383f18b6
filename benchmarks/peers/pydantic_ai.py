"""pydantic-ai's ``InMemoryConversationStore``, the only one that it has: it is meant for tests.

A dict; each message is copied on its way in and out, and nothing reaches a disk. A turn is one
save, which adds what the conversation has more than when it was loaded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import InMemoryConversationStore
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)

from benchmarks.peers.peer import Message


class PydanticAI:
    """One store for all; a loaded or filled conversation is kept, because a save needs it."""

    def __init__(self) -> None:
        self._store: Any = InMemoryConversationStore()
        self._conversations: dict[str, Any] = {}

    async def open(self, url: str, directory: Path) -> None:
        """Do nothing: it has no place."""

    def convert(self, messages: Sequence[Message]) -> list[Any]:
        """Return pydantic-ai's messages."""
        return [_to_pydantic_ai(message) for message in messages]

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Save a new conversation."""
        self._conversations[session_id] = Conversation(conversation_id=session_id)
        await self.append(session_id, self.convert(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Load the conversation."""
        return await self._load(session_id, None)

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Load the conversation with a limit."""
        return await self._load(session_id, count)

    async def append(self, session_id: str, turn: list[Any]) -> None:
        """Save the conversation with the messages of a turn."""
        conversation = self._conversations[session_id]
        conversation.messages.extend(turn)
        await self._store.save(conversation)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Load the conversation: it needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Forget everything."""
        self._conversations.clear()

    async def _load(self, session_id: str, limit: int | None) -> Sequence[Any]:
        found = await self._store.load(session_id, limit=limit)
        if found is None:
            return ()
        self._conversations[session_id] = found
        messages: Sequence[Any] = found.messages
        return messages


def _to_pydantic_ai(message: Message) -> Any:
    if message["role"] == "user":
        return ModelRequest([UserPromptPart(message["content"])])
    calls = [
        ToolCallPart(call["function"]["name"], call["function"]["arguments"], call["id"])
        for call in message.get("tool_calls", ())
    ]
    return ModelResponse([TextPart(message["content"]), *calls])
