"""The store for SQL databases."""

from hermes_session_mw.stores.sqlalchemy.schema.alembic_metadata import add_tables
from hermes_session_mw.stores.sqlalchemy.schema.creation import upgrade
from hermes_session_mw.stores.sqlalchemy.schema.migrations import is_complete
from hermes_session_mw.stores.sqlalchemy.store import SQLAlchemyStore

__all__ = ["SQLAlchemyStore", "add_tables", "is_complete", "upgrade"]
