"""google-adk's ``DatabaseSessionService``.

SQLAlchemy's ORM over aiosqlite (SQLite's default ``synchronous=FULL``) or asyncpg. A message is an
event, which has a transaction of its own: a turn of two messages is two. Before it adds an event,
it reads the session and its states.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.schemas.v1 import StorageEvent
from google.genai import types

from benchmarks.peers.peer import Message, async_url

APP = "bench"
USER = "user"
_AUTHORS = {"user": "user", "assistant": "model"}


class GoogleADK:
    """One service for all sessions; a filled session is kept, because an append needs it."""

    def __init__(self) -> None:
        self._service: Any = None
        self._sessions: dict[str, Any] = {}

    async def open(self, url: str, directory: Path) -> None:
        """Make the service."""
        self._service = DatabaseSessionService(async_url(url, directory, "google_adk"))

    def convert(self, messages: Sequence[Message]) -> list[tuple[str, Any]]:
        """Return authors and contents; events are made when they are, since each has an id."""
        return [_to_content(message) for message in messages]

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add the rows of all events at once, which the service has no way to do."""
        session = await self._service.create_session(
            app_name=APP, user_id=USER, session_id=session_id
        )
        began = time.time() - len(messages)
        events = [
            Event(author=author, content=content, timestamp=began + number)
            for number, (author, content) in enumerate(self.convert(messages))
        ]
        async with self._service.database_session_factory() as transaction:
            transaction.add_all([StorageEvent.from_event(session, event) for event in events])
            await transaction.commit()
        self._sessions[session_id] = await self._get(session_id, newest=0)

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get the session with all its events."""
        return _events(await self._get(session_id))

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Get the session with its newest events."""
        return _events(await self._get(session_id, newest=count))

    async def append(self, session_id: str, turn: list[tuple[str, Any]]) -> None:
        """Append an event for each message."""
        session = self._sessions[session_id]
        for author, content in turn:
            await self._service.append_event(session, Event(author=author, content=content))

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Get the session: it needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Close the service."""
        self._sessions.clear()
        await self._service.close()

    async def _get(self, session_id: str, newest: int | None = None) -> Any:
        config = None if newest is None else GetSessionConfig(num_recent_events=newest)
        return await self._service.get_session(
            app_name=APP, user_id=USER, session_id=session_id, config=config
        )


def _events(session: Any) -> Sequence[Any]:
    return () if session is None else session.events


def _to_content(message: Message) -> tuple[str, Any]:
    author = _AUTHORS[message["role"]]
    parts = [types.Part(text=message["content"])]
    for call in message.get("tool_calls", ()):
        arguments = {"arguments": call["function"]["arguments"]}
        called = types.FunctionCall(id=call["id"], name=call["function"]["name"], args=arguments)
        parts.append(types.Part(function_call=called))
    return author, types.Content(role=author, parts=parts)
