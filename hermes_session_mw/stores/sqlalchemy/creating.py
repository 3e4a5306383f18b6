"""Making the tables where they are missing, and what earlier versions of them lack."""

from sqlalchemy import Connection, inspect, text
from sqlalchemy.schema import CreateColumn

from .schema import MYSQL, metadata

# Two processes that start at once would both find no tables and both make them, which
# "IF NOT EXISTS" alone does not survive on PostgreSQL. Any number will do, if it is ours alone.
_LOCK_POSTGRESQL = text("SELECT pg_advisory_xact_lock(7526466502349058)")
# Of the session, because MySQL ends a transaction at each CREATE; the time-out is a minute.
_LOCK_MYSQL = text("SELECT GET_LOCK(concat(database(), '.hermes_session_mw'), 60)")
_UNLOCK_MYSQL = text("SELECT RELEASE_LOCK(concat(database(), '.hermes_session_mw'))")


def is_complete(connection: Connection) -> bool:
    """Tell whether tables, columns and indexes are there, which needs no right to make any."""
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        if not inspector.has_table(table.name):
            return False
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        indexes = {index["name"] for index in inspector.get_indexes(table.name)}
        if not columns.issuperset(table.columns.keys()):
            return False
        if not indexes.issuperset(index.name for index in table.indexes):
            return False
    return True


def create(connection: Connection) -> None:
    """Make what is missing, inside the caller's transaction; safe where others do so at once."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(_LOCK_POSTGRESQL)
    elif dialect in MYSQL:
        connection.execute(_LOCK_MYSQL)
    try:
        if not is_complete(connection):
            metadata.create_all(connection)
            _complete(connection)
    finally:
        if dialect in MYSQL:
            connection.execute(_UNLOCK_MYSQL)


def _complete(connection: Connection) -> None:
    """Add the columns that came later, and the indexes that a killed process did not come to."""
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {added}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)
