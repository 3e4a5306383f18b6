"""llama-index' ``SQLAlchemyChatStore``.

SQLAlchemy's ``AsyncEngine`` over aiosqlite (SQLite's default ``synchronous=FULL``) or asyncpg. A
turn is one INSERT in one transaction. A limit gives the oldest messages, so the newest ones take a
count, for which all their ids are fetched, and an offset.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.peers.peer import Message, async_url

_MOST = 500  # messages in one INSERT, which has a parameter for every value


class LlamaIndex:
    """One store for all sessions."""

    def __init__(self) -> None:
        self._store: Any = None
        self._engine: AsyncEngine

    async def open(self, url: str, directory: Path) -> None:
        """Make the engine, and the store over it."""
        address = async_url(url, directory, "llama_index")
        self._engine = create_async_engine(address)
        self._store = SQLAlchemyChatStore(
            table_name="chats", async_database_uri=address, async_engine=self._engine
        )

    def convert(self, messages: Sequence[Message]) -> list[Any]:
        """Return llama-index' message objects."""
        return [_to_llama_index(message) for message in messages]

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add as much as fits into one statement at a time."""
        for start in range(0, len(messages), _MOST):
            await self.append(session_id, self.convert(messages[start : start + _MOST]))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get all messages."""
        messages: Sequence[Any] = await self._store.get_messages(session_id)
        return messages

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Count the messages, and get those behind an offset."""
        length = await self._store.count_messages(session_id)
        messages: Sequence[Any] = await self._store.get_messages(
            session_id, limit=count, offset=max(0, length - count)
        )
        return messages

    async def append(self, session_id: str, turn: list[Any]) -> None:
        """Add the messages of a turn."""
        await self._store.add_messages(session_id, turn)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Get all messages: a session needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Dispose of the engine."""
        await self._engine.dispose()


def _to_llama_index(message: Message) -> Any:
    others = {key: value for key, value in message.items() if key not in {"role", "content"}}
    return ChatMessage(role=message["role"], content=message["content"], additional_kwargs=others)
