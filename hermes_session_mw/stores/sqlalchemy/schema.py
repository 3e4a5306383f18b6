"""The two tables, prefixed so that they can live in the user's own database.

A history is one range read of one table's primary key, without a join, and both tables shard by
``(owner, session)``. Nothing is ordered by a clock: ``seq`` orders, and comes from the counter
``next_seq``.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    func,
    inspect,
    text,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from ..base import MAX_KEY_LENGTH

metadata = MetaData()


def _key(name: str) -> String:
    # Byte for byte on every engine: PostgreSQL's "C" is that, and is SQLite's default.
    plain = String(MAX_KEY_LENGTH[name])
    return plain.with_variant(String(MAX_KEY_LENGTH[name], collation="C"), "postgresql")


sessions = Table(
    "hermes_sessions",
    metadata,
    Column("owner", _key("owner")),
    Column("id", _key("session_id")),
    Column("next_seq", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("owner", "id"),
    sqlite_with_rowid=False,
)

messages = Table(
    "hermes_messages",
    metadata,
    Column("owner", _key("owner")),
    Column("session_id", _key("session_id")),
    Column("seq", BigInteger),
    Column("turn_id", _key("turn_id")),
    Column("body", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("owner", "session_id", "seq"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    sqlite_with_rowid=False,
)

_has_turn_id = messages.c.turn_id.is_not(None)
Index(
    "ix_hermes_messages_turn_id",
    messages.c.owner,
    messages.c.session_id,
    messages.c.turn_id,
    sqlite_where=_has_turn_id,
    postgresql_where=_has_turn_id,
)

# Two processes that start at once would both find no tables and both make them, which
# "IF NOT EXISTS" alone does not survive on PostgreSQL. Any number will do, if it is ours alone.
_POSTGRESQL_LOCK = text("SELECT pg_advisory_xact_lock(7526466502349058)")


def tables_exist(connection: Connection) -> bool:
    """Tell whether both tables are there, which needs no right to make any."""
    inspector = inspect(connection)
    return all(inspector.has_table(table.name) for table in metadata.sorted_tables)


def create_tables(connection: Connection) -> None:
    """Make what is missing, inside the caller's transaction; safe where others do so at once."""
    if connection.dialect.name == "postgresql":
        connection.execute(_POSTGRESQL_LOCK)
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
