"""langgraph's ``AsyncSqliteSaver``.

aiosqlite, with one connection for everything, in WAL mode with SQLite's default
``synchronous=FULL``. A conversation is a channel of a checkpoint: every append writes the whole
of it anew, and nothing less than all of it can be loaded. The saver is used without a graph, with
one checkpoint for a turn, and with plain dicts for messages: a graph costs more.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.peers.peer import Message

_CHANNEL = "messages"


class LangGraph:
    """One saver for all threads; a filled thread's state is kept, because an append needs it."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[Any, list[Message]]] = {}
        self._connection: aiosqlite.Connection
        self._saver: Any = None

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # it has SQLite only
        """Connect, and make the tables."""
        self._connection = await aiosqlite.connect(directory / "langgraph.db")
        self._saver = AsyncSqliteSaver(self._connection)
        await self._saver.setup()

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are: a channel may hold dicts."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Put one checkpoint."""
        self._states[session_id] = (config_of(session_id), [])
        await self.append(session_id, list(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get the last checkpoint's channel."""
        found = await self._saver.aget_tuple(config_of(session_id))
        if found is None:
            return ()
        messages: Sequence[Any] = found.checkpoint["channel_values"][_CHANNEL]
        return messages

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Get all messages, and keep the newest."""
        return (await self.load(session_id))[-count:]

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Put a checkpoint that has the turn too."""
        parent, messages = self._states[session_id]
        longer = [*messages, *turn]
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"][_CHANNEL] = longer
        config = await self._saver.aput(parent, checkpoint, {}, {})
        self._states[session_id] = (config, longer)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Get the last checkpoint: a thread needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Close the connection."""
        self._states.clear()
        await self._connection.close()


def config_of(session_id: str) -> Any:
    """Return the config of a thread, whose newest checkpoint is meant."""
    return {"configurable": {"thread_id": session_id, "checkpoint_ns": ""}}
