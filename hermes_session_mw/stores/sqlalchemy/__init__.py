"""The store for SQL databases.

It is imported when it is first asked for (PEP 562), so that ``admin.models``, which has no SQL, can
be imported without SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.schema.alembic_metadata import add_tables
    from hermes_session_mw.stores.sqlalchemy.schema.creation import upgrade
    from hermes_session_mw.stores.sqlalchemy.schema.migrations import is_complete
    from hermes_session_mw.stores.sqlalchemy.store import SQLAlchemyStore

__all__ = ["SQLAlchemyStore", "add_tables", "is_complete", "upgrade"]

_MODULES = {
    "SQLAlchemyStore": "store",
    "add_tables": "schema.alembic_metadata",
    "is_complete": "schema.migrations",
    "upgrade": "schema.creation",
}


if not TYPE_CHECKING:  # to type checkers, a module that has it has every name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
