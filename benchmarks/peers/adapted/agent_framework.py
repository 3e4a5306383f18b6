"""agent-framework: history providers."""

from pathlib import Path

from benchmarks.peers.adapted import our_store
from benchmarks.peers.agent_framework import AgentFramework
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.agent_framework import StoredHistoryProvider

Own = AgentFramework


class Ours(AgentFramework):
    """``StoredHistoryProvider``."""

    def __init__(self) -> None:
        super().__init__()
        self._store: SQLAlchemyStore

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # SQLite only
        """Make the provider."""
        self._store = our_store(directory)
        self._provider = StoredHistoryProvider(self._store)

    async def aclose(self) -> None:
        """Close the store."""
        await self._store.aclose()
