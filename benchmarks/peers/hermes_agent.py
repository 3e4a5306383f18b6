"""hermes-agent's own ``SessionDB``.

Raw sqlite3, with one connection and one lock for everything, in WAL mode with SQLite's default
``synchronous=FULL``; it is sync, and called through one ``asyncio.to_thread``. A message has a
transaction of its own, in which triggers keep two full-text indexes: a turn of two messages is two.
A limit gives the oldest messages, so the newest ones take a count and an offset.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hermes_state import SessionDB

from benchmarks.peers.peer import Message


class HermesAgent:
    """One database object for all sessions."""

    def __init__(self) -> None:
        self._database: Any = None

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # it has SQLite only
        """Connect, and make the tables."""
        self._database = await asyncio.to_thread(SessionDB, directory / "hermes_agent.db")

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are: their keys are arguments."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Make the session, and put its messages in place of none."""
        await asyncio.to_thread(self._database.create_session, session_id, "api_server")
        await asyncio.to_thread(self._database.replace_messages, session_id, list(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get the conversation."""
        messages: Sequence[Any] = await asyncio.to_thread(
            self._database.get_messages_as_conversation, session_id
        )
        return messages

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Count the messages, and get those behind an offset."""
        return await asyncio.to_thread(self._newest, session_id, count)

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Append the messages one by one."""
        await asyncio.to_thread(self._append_all, session_id, turn)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Get the conversation: a session needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._database.close)

    def _newest(self, session_id: str, count: int) -> Sequence[Any]:
        length = self._database.message_count(session_id)
        messages: Sequence[Any] = self._database.get_messages(
            session_id, limit=count, offset=max(0, length - count)
        )
        return messages

    def _append_all(self, session_id: str, turn: list[Message]) -> None:
        for message in turn:
            self._database.append_message(session_id, **message)
