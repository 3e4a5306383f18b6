"""Conversations in a SQL database."""

from .attaching import add_tables
from .creating import upgrade
from .store import SQLAlchemyStore, StoreLike, as_store
from .upgrading import is_complete

__all__ = ["SQLAlchemyStore", "StoreLike", "add_tables", "as_store", "is_complete", "upgrade"]
