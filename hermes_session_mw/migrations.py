"""The tables of `SQLAlchemyStore`, for migrations of your own: Alembic's, or any other's.

``add_tables(metadata)`` puts them into your MetaData. ``upgrade(connection)`` creates them, or
upgrades those of any earlier version, and ``is_complete(connection)`` tells whether they are up to
date. A store with ``create_schema=False`` does neither.

The tables of checkpoints, which few have, are added and created with ``checkpoints=True``, those of
expiry with ``expiry=True``, and those of the search index with ``search=True``.
"""

from hermes_session_mw.stores.sqlalchemy import add_tables, is_complete, upgrade

__all__ = ["add_tables", "is_complete", "upgrade"]
