"""Conversations in a SQL database."""

from hermes_session_mw.stores.sqlalchemy.attaching import add_tables
from hermes_session_mw.stores.sqlalchemy.creating import upgrade
from hermes_session_mw.stores.sqlalchemy.store import SQLAlchemyStore, StoreLike, as_store
from hermes_session_mw.stores.sqlalchemy.upgrading import is_complete

__all__ = ["SQLAlchemyStore", "StoreLike", "add_tables", "as_store", "is_complete", "upgrade"]
