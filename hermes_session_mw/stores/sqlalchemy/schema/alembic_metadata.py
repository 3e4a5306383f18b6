"""Adds the tables to an application's MetaData, for Alembic's autogenerate."""

from sqlalchemy import MetaData, String, Table
from sqlalchemy.dialects import mysql
from sqlalchemy.types import VARBINARY

from hermes_session_mw.database.dialects import BytesKey, key_type
from hermes_session_mw.stores.sqlalchemy.schema.tables import metadata as own_metadata


def add_tables(metadata: MetaData, *, checkpoints: bool = False) -> tuple[Table, ...]:
    """Put copies of this version's tables into ``metadata``, and return them.

    With ``checkpoints``, also those of `CheckpointStore`.

    ``alembic revision --autogenerate`` then neither drops nor changes them. Tables that are in it
    already stay, so that the function may be called again. Their types are SQLAlchemy's own,
    so that a revision can name them; on MySQL the keys are bytes. The tables get the MetaData's
    ``schema``.

    Raises:
        ValueError: the MetaData has another table under one of the names.
    """
    added = tuple(_add(table, metadata) for table in own_metadata.sorted_tables)
    if not checkpoints:
        return added
    from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (  # noqa: PLC0415
        checkpoint_metadata,  # few have these tables
    )

    return (*added, *(_add(table, metadata) for table in checkpoint_metadata.sorted_tables))


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
