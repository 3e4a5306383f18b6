"""openai-agents' ``SQLAlchemySession``.

SQLAlchemy's ``AsyncEngine``, shared by all sessions, over aiosqlite (SQLite's default
``synchronous=FULL``) or asyncpg. A turn is one transaction of four statements.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.peers.peer import Message, async_url


class OpenAISQLAlchemy:
    """Keeps a session object for every id, apart from the first sight of one."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}
        self._engine: AsyncEngine

    async def open(self, url: str, directory: Path) -> None:
        """Make the engine, and the tables through a first session."""
        self._engine = create_async_engine(async_url(url, directory, "openai_sqlalchemy"))
        await SQLAlchemySession("first", engine=self._engine, create_tables=True).get_items()

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are: items are dicts."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add all items at once."""
        await self._session(session_id).add_items(list(messages))

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
        """Make a session object over the shared engine, and get its items."""
        session = SQLAlchemySession(session_id, engine=self._engine)
        items: Sequence[Any] = await session.get_items()
        return items

    async def aclose(self) -> None:
        """Dispose of the engine."""
        self._sessions.clear()
        await self._engine.dispose()

    def _session(self, session_id: str) -> Any:
        if session_id not in self._sessions:
            self._sessions[session_id] = SQLAlchemySession(session_id, engine=self._engine)
        return self._sessions[session_id]
