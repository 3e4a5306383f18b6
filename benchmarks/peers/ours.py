"""This package's own store.

A SQLite file in WAL mode with ``synchronous=FULL``, behind one hop to a thread; PostgreSQL through
asyncpg. A turn is one transaction, which also counts it and keeps its id.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Message, async_url, is_postgresql
from hermes_session_mw import SQLAlchemyStore

_MOST = 1_000  # messages that a turn may have


class Ours:
    """One store for all sessions, as the middleware has it."""

    def __init__(self) -> None:
        self._store: SQLAlchemyStore

    async def open(self, url: str, directory: Path) -> None:
        """Name the database; the store connects when it is first asked for something."""
        if is_postgresql(url):
            self._store = SQLAlchemyStore(async_url(url, directory, "ours"))
        else:
            self._store = SQLAlchemyStore(f"sqlite:///{directory / 'ours.db'}")

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Append as much at a time as a turn may have."""
        for start in range(0, len(messages), _MOST):
            await self._store.append(session_id, messages[start : start + _MOST])

    async def load(self, session_id: str) -> list[Message]:
        """Load the history."""
        return (await self._store.load(session_id)).messages

    async def load_last(self, session_id: str, count: int) -> list[Message]:
        """Load the history with a limit."""
        return (await self._store.load(session_id, limit=count)).messages

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Append a turn."""
        await self._store.append(session_id, turn)

    async def list_page(self) -> Sequence[object]:
        """List the first page of sessions, the last changed first."""
        return (await self._store.list()).sessions

    async def first_sight(self, session_id: str) -> list[Message]:
        """Load the history: a session needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Close the store."""
        await self._store.aclose()
