"""claude-agent-sdk's ``InMemorySessionStore``, the only one that it ships.

Lists in a dict, and nothing reaches a disk: the program that the SDK drives keeps files of its own.
An entry is a line of that program's transcript, opaque to the store. A load returns all of them.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claude_agent_sdk import InMemorySessionStore

from benchmarks.peers.peer import Message


class ClaudeAgent:
    """One store for all sessions of a project."""

    def __init__(self) -> None:
        self._store: Any = InMemorySessionStore()

    async def open(self, url: str, directory: Path) -> None:
        """Do nothing: it has no place."""

    def convert(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return entries as the transcript has them."""
        return [
            {"type": message["role"], "uuid": str(uuid.uuid4()), "message": message}
            for message in messages
        ]

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Append all entries at once."""
        await self.append(session_id, self.convert(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Load all entries."""
        entries: Sequence[Any] | None = await self._store.load(_key(session_id))
        return entries or ()

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Load all entries, and keep the newest."""
        return (await self.load(session_id))[-count:]

    async def append(self, session_id: str, turn: list[dict[str, Any]]) -> None:
        """Append the entries of a turn."""
        await self._store.append(_key(session_id), turn)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Load all entries: a session needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Do nothing: it has no connection."""


def _key(session_id: str) -> dict[str, str]:
    return {"project_key": "bench", "session_id": session_id}
