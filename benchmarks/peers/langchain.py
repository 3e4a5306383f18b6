"""langchain's ``SQLChatMessageHistory``.

SQLAlchemy's ORM. On SQLite its sync API behind one ``asyncio.to_thread``, which is faster than its
own asyncio mode over aiosqlite; SQLite's default ``synchronous=FULL``. On PostgreSQL its asyncio
mode over asyncpg. A turn is one transaction. There is no index on the session, and no way to load
the newest messages only. All histories share a converter, since the constructor else declares an
ORM class of its own; on SQLite it looks for the table, on PostgreSQL the first load does.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_community.chat_message_histories.sql import DefaultMessageConverter
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.peers.peer import Message, async_url, is_postgresql, sqlite_file


class LangChain:
    """Keeps a history object for every id, apart from the first sight of one."""

    def __init__(self) -> None:
        self._histories: dict[str, Any] = {}
        self._converter: Any = DefaultMessageConverter("message_store")
        self._engine: Engine | AsyncEngine

    async def open(self, url: str, directory: Path) -> None:
        """Make the engine, and the table through a first history."""
        if is_postgresql(url):
            self._engine = create_async_engine(async_url(url, directory, "langchain"))
        else:
            self._engine = create_engine(f"sqlite:///{sqlite_file(directory, 'langchain')}")
        await self.load("first")

    def convert(self, messages: Sequence[Message]) -> list[Any]:
        """Return langchain's message objects."""
        return [_to_langchain(message) for message in messages]

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add all messages at once."""
        await self.append(session_id, self.convert(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get all messages."""
        return await self._messages(self._history(session_id))

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Get all messages, and keep the newest."""
        return (await self.load(session_id))[-count:]

    async def append(self, session_id: str, turn: list[Any]) -> None:
        """Add the messages of a turn."""
        history = self._history(session_id)
        if isinstance(self._engine, AsyncEngine):
            await history.aadd_messages(turn)
        else:
            await asyncio.to_thread(history.add_messages, turn)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Make a history object over the shared engine, and get its messages."""
        if isinstance(self._engine, AsyncEngine):
            return await self._messages(self._make(session_id))
        messages: Sequence[Any] = await asyncio.to_thread(
            lambda: self._make(session_id).get_messages()
        )
        return messages

    async def aclose(self) -> None:
        """Dispose of the engine."""
        self._histories.clear()
        if isinstance(self._engine, AsyncEngine):
            await self._engine.dispose()
        else:
            self._engine.dispose()

    async def _messages(self, history: Any) -> Sequence[Any]:
        messages: Sequence[Any]
        if isinstance(self._engine, AsyncEngine):
            messages = await history.aget_messages()
        else:
            messages = await asyncio.to_thread(history.get_messages)
        return messages

    def _history(self, session_id: str) -> Any:
        if session_id not in self._histories:
            self._histories[session_id] = self._make(session_id)
        return self._histories[session_id]

    def _make(self, session_id: str) -> Any:
        return SQLChatMessageHistory(
            session_id, connection=self._engine, custom_message_converter=self._converter
        )


def _to_langchain(message: Message) -> Any:
    if message["role"] == "user":
        return HumanMessage(message["content"])
    calls = [
        {
            "id": call["id"],
            "name": call["function"]["name"],
            "args": json.loads(call["function"]["arguments"]),
        }
        for call in message.get("tool_calls", ())
    ]
    return AIMessage(message["content"], tool_calls=calls)
