"""The two tables, prefixed so that they can live in the user's own database.

A history is one range read of one table's primary key, without a join, and both tables shard by
``(owner, session)``. Nothing is ordered by a clock: ``seq`` orders, and comes from the counter
``next_seq``.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import VARBINARY, TypeEngine

from ..base import MAX_KEY_LENGTH

MYSQL = ("mysql", "mariadb")
"""SQLAlchemy's names for one family, which differs in what it can return from an INSERT."""

metadata = MetaData()


class _Bytes(TypeDecorator[str]):
    """Text in a binary column: MySQL's text collations make "a" equal "A", or at least "a "."""

    impl = VARBINARY
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> bytes | None:
        """Return what goes to the database."""
        return None if value is None else value.encode()


def _key(name: str) -> TypeEngine[str]:
    # Byte for byte on every engine: PostgreSQL's "C" is that, and is SQLite's default.
    size = MAX_KEY_LENGTH[name]
    plain = String(size).with_variant(String(size, collation="C"), "postgresql")
    return plain.with_variant(_Bytes(size * 4), *MYSQL)  # UTF-8 takes up to four bytes


_body = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)
# MySQL's DATETIME is in the session's time zone, whatever that is; its TIMESTAMP is in UTC.
_time = DateTime(timezone=True).with_variant(mysql.TIMESTAMP(), *MYSQL)
_ENGINE_OPTIONS: dict[str, Any] = {
    "sqlite_with_rowid": False,
    "mysql_engine": "InnoDB",
    "mariadb_engine": "InnoDB",
}


sessions = Table(
    "hermes_sessions",
    metadata,
    Column("owner", _key("owner")),
    Column("id", _key("session_id")),
    Column("next_seq", BigInteger, nullable=False),
    Column("turns", BigInteger, nullable=False),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("updated_at", _time, nullable=False, server_default=func.now()),
    # Set once and for all: the row stays, so that a late append finds out.
    Column("deleted_at", _time, nullable=True),
    PrimaryKeyConstraint("owner", "id"),
    **_ENGINE_OPTIONS,
)

messages = Table(
    "hermes_messages",
    metadata,
    Column("owner", _key("owner")),
    Column("session_id", _key("session_id")),
    Column("seq", BigInteger),
    Column("turn_id", _key("turn_id"), nullable=False),
    Column("body", _body, nullable=False),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("owner", "session_id", "seq"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    **_ENGINE_OPTIONS,
)

_turn_index = Index(
    "ix_hermes_messages_turn_id",
    messages.c.owner,
    messages.c.session_id,
    messages.c.turn_id,
)

# Which rows a statement is about.
IS_SESSION = (
    sessions.c.owner == bindparam("owner"),
    sessions.c.id == bindparam("session_id"),
)
IN_SESSION = (
    messages.c.owner == bindparam("owner"),
    messages.c.session_id == bindparam("session_id"),
)
# For an UPDATE, which keeps the columns' own names for what it sets.
WHOSE = (sessions.c.owner == bindparam("of_owner"), sessions.c.id == bindparam("of_session"))

# Two processes that start at once would both find no tables and both make them, which
# "IF NOT EXISTS" alone does not survive on PostgreSQL. Any number will do, if it is ours alone.
_LOCK_POSTGRESQL = text("SELECT pg_advisory_xact_lock(7526466502349058)")
# Of the session, because MySQL ends a transaction at each CREATE; the time-out is a minute.
_LOCK_MYSQL = text("SELECT GET_LOCK(concat(database(), '.hermes_session_mw'), 60)")
_UNLOCK_MYSQL = text("SELECT RELEASE_LOCK(concat(database(), '.hermes_session_mw'))")


def is_complete(connection: Connection) -> bool:
    """Tell whether tables and index are there, which needs no right to make any."""
    inspector = inspect(connection)
    return all(inspector.has_table(table.name) for table in metadata.sorted_tables) and any(
        index["name"] == _turn_index.name for index in inspector.get_indexes(messages.name)
    )


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
            # A process that was killed between the two left the table without its index.
            _turn_index.create(connection, checkfirst=True)
    finally:
        if dialect in MYSQL:
            connection.execute(_UNLOCK_MYSQL)


def of_session(session_id: str, owner: str) -> dict[str, Any]:
    """Return the parameters that ``WHOSE`` takes."""
    return {"of_session": session_id, "of_owner": owner}
