"""google-adk: session services."""

from collections.abc import Sequence
from pathlib import Path

from google.adk.events import Event

from benchmarks.peers.adapted import our_store
from benchmarks.peers.google_adk import APP, USER, GoogleADK
from benchmarks.peers.peer import Message
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.google_adk import StoredSessionService

Own = GoogleADK


class Ours(GoogleADK):
    """``StoredSessionService``."""

    def __init__(self) -> None:
        super().__init__()
        self._store: SQLAlchemyStore

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # SQLite only
        """Make the service."""
        self._store = our_store(directory)
        self._service = StoredSessionService(self._store)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Append an event for each message."""
        session = await self._service.create_session(
            app_name=APP, user_id=USER, session_id=session_id
        )
        for author, content in self.convert(messages):
            await self._service.append_event(session, Event(author=author, content=content))
        self._sessions[session_id] = await self._get(session_id, newest=0)

    async def aclose(self) -> None:
        """Close the store."""
        self._sessions.clear()
        await self._store.aclose()
