"""Conversations in a SQL database."""

from .store import SQLAlchemyStore, StoreLike, as_store

__all__ = ["SQLAlchemyStore", "StoreLike", "as_store"]
