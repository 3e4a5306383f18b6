"""The tables of the search index: made for who searches, and for nobody else.

Triggers of ``hermes_messages`` note each message that comes in ``hermes_search_queue``, and remove
each one that goes from there and from ``hermes_search``. So the index agrees with the histories
whoever changes them: any operation, a process without search, or one of an earlier version. A
message that is noted and not indexed yet is searched as it is.

``hermes_search`` has a row for each message that is indexed: its words, and ``keys``, which stand
for its owner, its session and its role. Numbers (``id``) rise with time; those of messages that are
older than the index are below 0. Each database's own index is over that table: on SQLite an
FTS5 table.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    delete,
    exists,
    select,
    text,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import DBAPIError

from hermes_session_mw.database.connection import Database, database_of
from hermes_session_mw.database.dialects import MYSQL, key_type
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import StoreMisconfigured
from hermes_session_mw.stores.models import MAX_KEY_LENGTH
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.creation import upgrade_lock
from hermes_session_mw.stores.sqlalchemy.schema.tables import INNODB, sessions

search_metadata: MetaData = MetaData()

MAX_ROLE = 100
"""Characters of a role that are told apart."""

_long = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)


def _place() -> tuple[Column[Any], ...]:
    return (
        Column("owner", key_type(MAX_KEY_LENGTH["owner"]), nullable=False),
        Column("session_id", key_type(MAX_KEY_LENGTH["session_id"]), nullable=False),
        Column("seq", BigInteger, nullable=False),
    )


queue: Table = Table(
    "hermes_search_queue",
    search_metadata,
    *_place(),
    # 1 if the message was there before it was noted.
    Column("is_old", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("owner", "session_id", "seq"),
    sqlite_with_rowid=False,
    **INNODB,
)

entries: Table = Table(
    "hermes_search",
    search_metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    *_place(),
    Column("role", key_type(MAX_ROLE), nullable=False),
    # When the message was stored, in microseconds from 1970.
    Column("moment", BigInteger, nullable=False),
    Column("words", _long, nullable=False),
    # What the database's own index has: on SQLite the keys alone.
    Column("indexed", _long.with_variant(postgresql.TSVECTOR(), "postgresql"), nullable=False),
    **INNODB,
)


def _is_not_sqlite(
    _ddl: object, _target: object, _bind: object, *, dialect: Dialect, **_more: object
) -> bool:
    return dialect.name != "sqlite"


Index("uq_hermes_search_message", entries.c.owner, entries.c.session_id, entries.c.seq, unique=True)
Index("ix_hermes_search_owner", entries.c.owner, entries.c.id)
Index(
    "ix_hermes_search_indexed",
    entries.c.indexed,
    postgresql_using="gin",
    mysql_prefix="FULLTEXT",
    mariadb_prefix="FULLTEXT",
).ddl_if(callable_=_is_not_sqlite)  # type: ignore[arg-type]  # it asks for the names of parameters that are not used

WORDS = "hermes_search_words"
"""SQLite's FTS5 table."""

_KEYS = ("owner", "session_id", "seq")
_SAME = " AND ".join(f"{each} = {{0}}.{each}" for each in _KEYS)
_FORGET = [
    f"DELETE FROM {table} WHERE {_SAME.format('OLD')}"  # noqa: S608  # names of our own
    for table in (queue, entries)
]
_NOTE = f"INSERT INTO {queue} (owner, session_id, seq) VALUES (NEW.owner, NEW.session_id, NEW.seq)"  # noqa: S608  # names of our own
_MOVED = " OR ".join(f"OLD.{each} <> NEW.{each}" for each in (*_KEYS, "body"))

# In FTS5 a row is removed by what it was made of. No trigger inserts there: SQLite makes a
# savepoint for each row that a trigger inserts, and FTS5 then writes what it holds as a segment.
_REMOVAL = (
    f"INSERT INTO {WORDS} ({WORDS}, rowid, indexed, words)"  # noqa: S608  # names of our own
    " VALUES ('delete', OLD.id, OLD.indexed, OLD.words)"
)


def _sqlite() -> Iterator[str]:
    yield (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {WORDS} USING fts5(indexed, words,"
        " content='hermes_search', content_rowid='id', columnsize=0, tokenize='ascii')"
    )
    triggers = {
        "unindexed": ("DELETE ON hermes_search", [_REMOVAL]),
        "added": ("INSERT ON hermes_messages", [_NOTE]),
        "removed": ("DELETE ON hermes_messages", _FORGET),
        "moved": (f"UPDATE ON hermes_messages WHEN {_MOVED}", [*_FORGET, _NOTE]),
    }  # fmt: skip
    for name, (event, statements) in triggers.items():
        body = "; ".join(statements)
        yield f"CREATE TRIGGER IF NOT EXISTS hermes_search_{name} AFTER {event} BEGIN {body}; END"


def _postgresql() -> Iterator[str]:
    """Yield functions that run with the rights of who made them, and in their schema."""
    options = "LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT"
    kept = " AND ".join(f"kept.{each} = gone.{each}" for each in _KEYS)
    note = (
        f"INSERT INTO {queue} (owner, session_id, seq) SELECT owner, session_id, seq FROM come"  # noqa: S608  # names of our own
        " ON CONFLICT DO NOTHING;"
    )
    forget = " ".join(
        f"DELETE FROM {table} AS kept USING gone WHERE {kept};"  # noqa: S608  # names of our own
        for table in (queue, entries)
    )
    for name, event, tables, body in (
        ("added", "INSERT", "NEW TABLE AS come", note),
        ("removed", "DELETE", "OLD TABLE AS gone", forget),
        ("moved", "UPDATE", "OLD TABLE AS gone NEW TABLE AS come", forget + note),
    ):
        function = f"hermes_search_{name}"
        yield (
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger {options} AS"
            f" $$ BEGIN {body} RETURN NULL; END $$"
        )
        yield f"DROP TRIGGER IF EXISTS {function} ON hermes_messages"
        yield (
            f"CREATE TRIGGER {function} AFTER {event} ON hermes_messages REFERENCING {tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )


def _mysql() -> Iterator[str]:
    forget = "; ".join(_FORGET)
    for name, event, body in (
        ("added", "INSERT", f"BEGIN {_NOTE}; END"),
        ("removed", "DELETE", f"BEGIN {forget}; END"),
        ("moved", "UPDATE", f"BEGIN IF {_MOVED} THEN {forget}; {_NOTE}; END IF; END"),
    ):
        trigger = f"hermes_search_{name}"
        yield f"DROP TRIGGER IF EXISTS {trigger}"
        yield f"CREATE TRIGGER {trigger} AFTER {event} ON hermes_messages FOR EACH ROW {body}"


_DDL = {"sqlite": _sqlite, "postgresql": _postgresql, **dict.fromkeys(MYSQL, _mysql)}

# The trigger that is made last, which is made when all else is there.
_COUNT_LAST = {
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE name = 'hermes_search_moved'",
    "postgresql": (
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass('hermes_messages')"
        " AND tgname = 'hermes_search_moved'"
    ),
    **dict.fromkeys(
        MYSQL,
        "SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = database()"
        " AND trigger_name = 'hermes_search_moved'",
    ),
}
_COUNT_LAST_TEXT = {dialect: text(sql) for dialect, sql in _COUNT_LAST.items()}

_MISSING = (
    "the search index is missing: call "
    "hermes_session_mw.migrations.upgrade(connection, search=True) in a migration, or run "
    "hermes-sessions search-index"
)


_EMPTY = delete(entries)


def has_table_of_words(database: Database) -> bool:
    """Tell whether there is a table of words, also where a drop of the index was killed."""
    connection = database.connection
    return connection.dialect.has_table(connection, entries.name)


def has_search_tables(database: Database) -> bool:
    """Tell whether the tables and triggers of the search index are there."""
    ((count,),) = database.rows(_COUNT_LAST_TEXT[database.dialect], {})
    return bool(count)


def require_search_tables(database: Database) -> None:
    """Raise ``StoreMisconfigured`` if the tables are missing."""
    if not has_search_tables(database):
        raise StoreMisconfigured(_MISSING)


def prepare_search(database: Database, *, creates: bool) -> None:
    """Create the tables and triggers that are missing, or raise unless the store ``creates`` them.

    Raises:
        StoreMisconfigured: they are missing, or the database cannot have them.
    """
    if has_search_tables(database):
        return
    if not creates:
        raise StoreMisconfigured(_MISSING)
    connection = database.connection
    with transaction(database, may_end=True), upgrade_lock(connection):
        if not has_search_tables(database):
            create_search_tables(connection)


def create_search_tables(connection: Connection) -> None:
    """Create the tables and triggers that are missing; whoever calls holds the lock for it.

    Raises:
        StoreMisconfigured: content is encrypted, or the database cannot have them.
    """
    _refuse_encrypted(connection)
    database = database_of(connection)
    was_complete = has_search_tables(database)
    search_metadata.create_all(connection)
    try:
        for statement in _DDL[connection.dialect.name]():
            connection.exec_driver_sql(statement)
    except DBAPIError as exc:
        told = str(exc.orig)
        if "no such module" in told:
            raise StoreMisconfigured(
                "this Python's SQLite was built without FTS5, which search needs"
            ) from None
        if "1419" in told:
            raise StoreMisconfigured(
                "MySQL keeps a binary log and lets no account without SUPER make a trigger, which "
                "search needs: set log_bin_trust_function_creators=1"
            ) from None
        raise
    if not was_complete:
        # What a drop has left that was killed, on MySQL, may be of messages that are gone.
        database.run(_EMPTY, {})


def _refuse_encrypted(connection: Connection) -> None:
    """Raise if a session's content is encrypted, as an index would be useless, or plain text."""
    if not has_answers(database_of(connection)):  # of a version that could not encrypt
        return
    has_key = select(exists().where(sessions.c.data_key.is_not(None)))
    if connection.execute(has_key).scalar():
        raise StoreMisconfigured(
            "search and encryption exclude each other: the database has encrypted sessions, and "
            "none that is encrypted can be indexed"
        )


def drop_search_tables(database: Database) -> None:
    """Drop the triggers and tables of the search index, if they are there."""
    connection = database.connection
    with transaction(database, may_end=True), upgrade_lock(connection):
        for name in ("moved", "removed", "added"):
            trigger = f"hermes_search_{name}"
            if database.dialect == "postgresql":
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger} ON hermes_messages")
                connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {trigger}")
            else:
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}")
        if database.dialect == "sqlite":
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {WORDS}")
        search_metadata.drop_all(connection)
