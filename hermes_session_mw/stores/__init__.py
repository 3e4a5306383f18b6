"""Where conversations are kept."""

from .base import History, Store, check_keys
from .memory import MemoryStore
from .sqlalchemy import SQLAlchemyStore, StoreLike, as_store

__all__ = [
    "History",
    "MemoryStore",
    "SQLAlchemyStore",
    "Store",
    "StoreLike",
    "as_store",
    "check_keys",
]
