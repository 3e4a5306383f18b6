"""Where conversations are kept."""

from .base import History, Store, check_keys
from .lifecycle import LifecycleStore
from .memory import MemoryStore
from .records import ArchivedMessage, SessionInfo, SessionPage, StoredTurn
from .sqlalchemy import SQLAlchemyStore, StoreLike, as_store

__all__ = [
    "ArchivedMessage",
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
