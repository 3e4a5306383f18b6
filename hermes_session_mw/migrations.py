"""The tables of `SQLAlchemyStore`, for migrations of your own: Alembic's, or any other's.

``add_tables(metadata)`` puts them into your MetaData. ``upgrade(connection)`` makes them, or brings
those of any earlier version to what this version of the package expects, and
``is_complete(connection)`` tells whether there is nothing to do. A store with
``create_schema=False`` leaves it to these.
"""

from hermes_session_mw.stores.sqlalchemy import add_tables, is_complete, upgrade

__all__ = ["add_tables", "is_complete", "upgrade"]
