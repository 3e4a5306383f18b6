"""A pytest plugin that has openai-agents' own tests run with `StoredSession` for its SQLite one."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import agents
import agents.memory

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.openai_agents import StoredSession


class SQLiteSession(StoredSession):
    """A `StoredSession` that is made, and closed, as openai-agents' own session is."""

    def __init__(
        self,
        session_id: str,
        db_path: str | Path = ":memory:",
        sessions_table: str = "agent_sessions",
        messages_table: str = "agent_messages",
        session_settings: Any = None,
    ) -> None:
        """Make a store for this session alone; the tables have their own names."""
        del sessions_table, messages_table
        self.db_path = db_path
        place = "" if str(db_path) == ":memory:" else f"/{db_path}"
        self._store = SQLAlchemyStore(f"sqlite://{place}")
        super().__init__(self._store, session_id, session_settings=session_settings)

    def close(self) -> None:
        """Close the store."""
        closing = threading.Thread(target=asyncio.run, args=[self._store.aclose()])
        closing.start()
        closing.join()


agents.SQLiteSession = agents.memory.SQLiteSession = SQLiteSession
