"""Adds the tables to an application's MetaData, for Alembic's autogenerate."""

from sqlalchemy import Index, MetaData, String, Table
from sqlalchemy.dialects import mysql
from sqlalchemy.types import VARBINARY

from hermes_session_mw.database.dialects import BytesKey, key_type
from hermes_session_mw.stores.sqlalchemy.schema.tables import metadata as own_metadata


def add_tables(
    metadata: MetaData, *, checkpoints: bool = False, expiry: bool = False, search: bool = False
) -> tuple[Table, ...]:
    """Put copies of this version's tables into ``metadata``, and return them.

    With ``checkpoints``, also those of `CheckpointStore`; with ``expiry``, also those of
    `ExpiryStore`, and its index of ``hermes_sessions``; with ``search``, those of the search index,
    without its triggers and SQLite's virtual tables, which ``upgrade(search=True)`` makes.

    ``alembic revision --autogenerate`` then neither drops nor changes them. Tables that are in it
    already stay, so that the function may be called again. Their types are SQLAlchemy's own,
    so that a revision can name them; on MySQL the keys are bytes. The tables get the MetaData's
    ``schema``.

    Raises:
        ValueError: the MetaData has another table under one of the names.
    """
    added = [_add(table, metadata) for table in own_metadata.sorted_tables]
    if checkpoints:
        from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (  # noqa: PLC0415
            checkpoint_metadata,  # few have these tables
        )

        added += (_add(table, metadata) for table in checkpoint_metadata.sorted_tables)
    if expiry:
        added += _add_expiry(metadata)
    if search:
        from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
            search_metadata,  # few have these tables
        )

        added += (_add(table, metadata) for table in search_metadata.sorted_tables)
    return tuple(added)


def _add_expiry(metadata: MetaData) -> list[Table]:
    from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import (  # noqa: PLC0415
        CHANGED_INDEX,  # few have these tables
        expiry_metadata,
        session_expiry,
    )

    sessions = next(iter(session_expiry.foreign_keys)).column.table
    copy = _add(sessions, metadata)
    if all(index.name != CHANGED_INDEX.name for index in copy.indexes):
        Index(CHANGED_INDEX.name, copy.c.updated_at)
    return [_add(table, metadata) for table in expiry_metadata.sorted_tables]


def _add(table: Table, metadata: MetaData) -> Table:
    name = f"{metadata.schema}.{table.name}" if metadata.schema else table.name
    there = metadata.tables.get(name)
    if there is not None:
        if there.columns.keys() != table.columns.keys():
            raise ValueError(f"the MetaData has another table {name!r} already")
        return there
    copy = table.to_metadata(metadata)
    for column in copy.columns:
        if isinstance(column.type, String) and isinstance(
            column.type.dialect_impl(mysql.dialect()), BytesKey
        ):
            column.type = key_type(column.type.length or 0, VARBINARY)
    return copy
