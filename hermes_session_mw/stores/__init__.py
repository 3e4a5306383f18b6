"""Where conversations are kept."""

from .base import History, Store, check_keys
from .hermes_state import HermesStateStore
from .lifecycle import LifecycleStore
from .memory import MemoryStore
from .records import ArchivedMessage, SessionInfo, SessionPage, StoredTurn
from .sqlalchemy import SQLAlchemyStore, StoreLike, as_store

__all__ = [
    "ArchivedMessage",
    "HermesStateStore",
    "History",
    "LifecycleStore",
    "MemoryStore",
    "SQLAlchemyStore",
    "SessionInfo",
    "SessionPage",
    "Store",
    "StoreLike",
    "StoredTurn",
    "as_store",
    "check_keys",
]
