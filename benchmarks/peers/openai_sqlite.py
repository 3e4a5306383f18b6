"""openai-agents' ``SQLiteSession``.

Raw sqlite3 behind one ``asyncio.to_thread``, with a connection for every session in every thread,
in WAL mode with SQLite's default ``synchronous=FULL``. A turn is one transaction. The constructor
connects and makes the tables, on the event loop.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import SQLiteSession

from benchmarks.peers.peer import Message


class OpenAISQLite:
    """Keeps a session object for every id, apart from the first sight of one."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}
        self._path: Path

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # it has SQLite only
        """Name the file."""
        self._path = directory / "openai_sqlite.db"

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are: items are dicts."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add all items at once."""
        await self._session(session_id).add_items(self.convert(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get the items."""
        items: Sequence[Any] = await self._session(session_id).get_items()
        return items

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Get the items with a limit."""
        items: Sequence[Any] = await self._session(session_id).get_items(limit=count)
        return items

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Add the items of a turn."""
        await self._session(session_id).add_items(turn)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Make a session object, and get its items."""
        items: Sequence[Any] = await self._new(session_id).get_items()
        return items

    async def aclose(self) -> None:
        """Forget the sessions; other threads' connections close with them."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _session(self, session_id: str) -> Any:
        if session_id not in self._sessions:
            self._sessions[session_id] = self._new(session_id)
        return self._sessions[session_id]

    def _new(self, session_id: str) -> Any:
        return SQLiteSession(session_id, self._path)
