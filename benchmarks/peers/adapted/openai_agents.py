"""openai-agents: sessions, and items as its ``Runner`` stores them."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.adapted import our_store
from benchmarks.peers.openai_sqlite import OpenAISQLite
from benchmarks.peers.peer import Message
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.openai_agents import StoredSession


class Own(OpenAISQLite):
    """``SQLiteSession``."""

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the items of a question, and of an answer with its calls."""
        return [item for message in messages for item in _items(message)]


class Ours(Own):
    """``StoredSession``."""

    def __init__(self) -> None:
        super().__init__()
        self._store: SQLAlchemyStore

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # SQLite only
        """Name the file."""
        self._store = our_store(directory)

    async def aclose(self) -> None:
        """Close the store."""
        self._sessions.clear()
        await self._store.aclose()

    def _new(self, session_id: str) -> Any:
        return StoredSession(self._store, session_id)


def _items(message: Message) -> Iterator[Message]:
    if message["role"] == "user":
        yield message
        return
    part = {"type": "output_text", "text": message["content"], "annotations": [], "logprobs": []}
    yield {
        "id": f"msg_{uuid.uuid4().hex}",
        "content": [part],
        "role": "assistant",
        "status": "completed",
        "type": "message",
    }
    for call in message.get("tool_calls", ()):
        yield {
            "id": f"fc_{uuid.uuid4().hex}",
            "arguments": call["function"]["arguments"],
            "call_id": call["id"],
            "name": call["function"]["name"],
            "status": "completed",
            "type": "function_call",
        }
