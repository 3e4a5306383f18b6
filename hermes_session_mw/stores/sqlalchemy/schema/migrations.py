"""Adds to the tables of earlier versions what they lack.

No version is stored: a comparison with ``tables`` finds what is missing, also after a step that was
killed halfway, which is then repeated. A new table, a new index or a new column with a default
needs no change here; any other change to ``tables`` needs a step.

An index that only makes something faster need not be there: a store's first use leaves it out where
many rows are to be indexed, and PostgreSQL can build it while others write (``CONCURRENTLY``).
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Inspector,
    MetaData,
    String,
    Table,
    cast,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn, CreateIndex

from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.exceptions import StoreMisconfigured
from hermes_session_mw.stores.sqlalchemy.schema.tables import messages, metadata, sessions

ONLY_FASTER = ("ix_hermes_sessions_updated_at", "ix_hermes_sessions_changed")
"""The indexes that nothing but speed depends on."""

_INVALID = text(
    "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE indrelid = to_regclass(:name) AND NOT indisvalid"
)

_named = literal("draft.", String) + cast(messages.c.seq, String)
_turns = (
    select(func.count(messages.c.turn_id.distinct()))
    .where(messages.c.owner == sessions.c.owner, messages.c.session_id == sessions.c.id)
    .scalar_subquery()
)
# The values of added or nullable columns that become NOT NULL.
_VALUES = {
    # A turn without an id has no known end, so that each message becomes a turn.
    messages.c.turn_id: update(messages).where(messages.c.turn_id.is_(None)).values(turn_id=_named),
    sessions.c.turns: update(sessions)
    .where(or_(sessions.c.turns.is_(None), sessions.c.turns == 0))
    .values(turns=_turns),
}


def is_complete(connection: Connection, more: Sequence[Table] = ()) -> bool:
    """Tell whether all tables are up to date, and ``more``; needs no right to create tables."""
    inspector = inspect(connection)
    return all(_is_complete(inspector, table) for table in (*metadata.sorted_tables, *more))


def _is_complete(inspector: Inspector, table: Table) -> bool:
    if not inspector.has_table(table.name):
        return False
    missing, nullable = _compare(inspector, table)
    return not missing and not nullable and not find_missing_indexes(inspector, table)


def find_missing_indexes(inspector: Inspector, table: Table) -> list[Index]:
    """Return the indexes that the table lacks; an invalid one is none."""
    existing = {index["name"] for index in inspector.get_indexes(table.name)}
    existing -= invalid_indexes(inspector, table)
    return [index for index in table.indexes if index.name not in existing]


def invalid_indexes(inspector: Inspector, table: Table) -> set[str | None]:
    """Return the names of PostgreSQL's indexes that are being built, or were given up halfway."""
    connection = inspector.bind
    is_apart = any(index.name in ONLY_FASTER for index in table.indexes)
    if not (is_apart and isinstance(connection, Connection)):
        return set()
    if connection.dialect.name != "postgresql":
        return set()
    return set(connection.execute(_INVALID, {"name": table.name}).scalars())


def check_own(connection: Connection) -> None:
    """Raise ``StoreMisconfigured`` if a table of another application has one of the names."""
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        if inspector.has_table(table.name):
            missing, nullable = _compare(inspector, table)
            if not (all(map(_can_add, missing)) and _VALUES.keys() >= set(nullable)):
                raise StoreMisconfigured(
                    f"the database has another table {table.name} already, and it was not changed: "
                    "give the store a database, or a schema, of its own"
                )


def complete(connection: Connection, leaves_out: Callable[[Index], bool]) -> None:
    """Upgrade all tables, which exist already, but for the indexes that ``leaves_out`` names."""
    # Referring tables first: turns are counted by messages, which need their turn ids by then.
    for table in reversed(metadata.sorted_tables):
        for column in _compare(inspect(connection), table)[0]:
            _add(connection, column)
        nullable = _compare(inspect(connection), table)[1]
        if nullable:
            _set_not_null(connection, table, nullable)
        for index in find_missing_indexes(inspect(connection), table):
            if not leaves_out(index):
                index.drop(connection, checkfirst=True)  # an invalid one
                index.create(connection)


def build_concurrently(connection: Connection, more: Sequence[Table] = ()) -> None:
    """Build what `complete` has left out, while others write; PostgreSQL in AUTOCOMMIT only."""
    for table in (*metadata.sorted_tables, *more):
        inspector = inspect(connection)
        for index in find_missing_indexes(inspector, table):
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")
            statement = str(CreateIndex(index).compile(dialect=connection.dialect))
            create = statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
            connection.exec_driver_sql(create)


def _compare(inspector: Inspector, table: Table) -> tuple[list[Column[Any]], list[Column[Any]]]:
    """Return the missing columns, and those that may be NULL and should not."""
    existing = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
    missing = [column for column in table.columns if column.name not in existing]
    nullable = [each for each in table.columns if not each.nullable and existing.get(each.name)]
    return missing, nullable


def _can_add(column: Column[Any]) -> bool:
    return column in _VALUES or bool(column.nullable) or column.server_default is not None


def _add(connection: Connection, column: Column[Any]) -> None:
    added = column
    if column in _VALUES:
        # SQLite cannot make a column NOT NULL later. Elsewhere a NULL shows that the value is not
        # filled in yet, also to the next run, where MySQL has committed the new column alone.
        default = "0" if connection.dialect.name == "sqlite" else None
        added = Column(column.name, column.type, server_default=default, nullable=default is None)
    definition = CreateColumn(added).compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}")
    if column in _VALUES:
        connection.execute(_VALUES[column])


def _set_not_null(connection: Connection, table: Table, columns: list[Column[Any]]) -> None:
    """Fill in the NULLs of the columns, and make them NOT NULL."""
    for column in columns:
        connection.execute(_VALUES[column])
    for index in table.indexes:
        index.drop(
            connection, checkfirst=True
        )  # the first draft's index had only rows without NULL
    if connection.dialect.name == "sqlite":
        _rebuild(connection, table)
        return
    for column in columns:
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        change = (
            f"MODIFY COLUMN {definition}"
            if connection.dialect.name in MYSQL
            else f"ALTER COLUMN {column.name} SET NOT NULL"
        )
        connection.exec_driver_sql(f"ALTER TABLE {table.name} {change}")


def _rebuild(connection: Connection, table: Table) -> None:
    """Rebuild the table, as SQLite cannot alter a column; no other table may refer to it."""
    before = f"{table.name}_before"
    connection.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO {before}")
    table.create(connection)
    names = list(table.columns.keys())
    old = table.to_metadata(MetaData(), name=before)
    connection.execute(insert(table).from_select(names, select(*old.columns)))
    connection.exec_driver_sql(f"DROP TABLE {before}")
