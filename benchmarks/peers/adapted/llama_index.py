"""llama-index: chat stores."""

from pathlib import Path

from benchmarks.peers.adapted import our_store
from benchmarks.peers.llama_index import LlamaIndex
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.llama_index import StoredChatStore

Own = LlamaIndex


class Ours(LlamaIndex):
    """``StoredChatStore``."""

    def __init__(self) -> None:
        super().__init__()
        self._ours: SQLAlchemyStore

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # SQLite only
        """Make the store."""
        self._ours = our_store(directory)
        self._store = StoredChatStore(self._ours)

    async def aclose(self) -> None:
        """Close the store."""
        await self._ours.aclose()
