"""The tables of checkpoints, with a MetaData of their own.

They are made when a checkpoint is first put, or by ``migrations.upgrade(..., checkpoints=True)``,
and never for who keeps none. A namespace may be longer than an index takes, so its digest is in the
key. Bodies are bytes that only their own framework reads.
"""

import hashlib
import weakref
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL, key_type
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import HermesSessionError, StoreMisconfigured
from hermes_session_mw.stores.checkpoint_store import MAX_CHECKPOINT_KEY, MAX_RUN_ID
from hermes_session_mw.stores.models import MAX_KEY_LENGTH
from hermes_session_mw.stores.sqlalchemy.schema.creation import upgrade_lock
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import (
    CHECKPOINTS,
    checkpoint_tables_exist,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import INNODB, sessions

checkpoint_metadata: MetaData = MetaData()

_DIGEST = 16  # bytes

_text = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)
_bytes = LargeBinary().with_variant(mysql.LONGBLOB(), *MYSQL)
_key = key_type(MAX_CHECKPOINT_KEY)


def _place() -> list[Column[Any]]:
    """Return the columns that name a session and a namespace."""
    return [
        Column("owner", key_type(MAX_KEY_LENGTH["owner"])),
        Column("session_id", key_type(MAX_KEY_LENGTH["session_id"])),
        Column("place", key_type(2 * _DIGEST)),  # see `place_of`
        Column("checkpoint_id", _key),
    ]


def _of_session() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["owner", "session_id"], [sessions.c.owner, sessions.c.id], ondelete="CASCADE"
    )


# Referred to by no constraint: a task may write before the checkpoint that it works on is stored.
checkpoint_writes: Table = Table(
    "hermes_checkpoint_writes",
    checkpoint_metadata,
    *_place(),
    Column("task_id", _key),
    Column("number", BigInteger, autoincrement=False),
    Column("task_path", _text, nullable=False),
    Column("channel", _text, nullable=False),
    Column("type", String(100), nullable=False),
    Column("body", _bytes, nullable=False),
    PrimaryKeyConstraint("owner", "session_id", "place", "checkpoint_id", "task_id", "number"),
    _of_session(),
    **INNODB,
)

checkpoints: Table = Table(
    CHECKPOINTS,
    checkpoint_metadata,
    *_place(),
    Column("namespace", _text, nullable=False),
    Column("parent_id", _key, nullable=True),
    Column("run_id", key_type(MAX_RUN_ID), nullable=True),
    Column("type", String(100), nullable=False),
    Column("body", _bytes, nullable=False),
    Column("metadata", _text, nullable=False),  # a JSON object
    PrimaryKeyConstraint("owner", "session_id", "place", "checkpoint_id"),
    _of_session(),
    **INNODB,
)
_has_run = checkpoints.c.run_id.is_not(None)
Index(
    "ix_hermes_checkpoints_run_id",
    checkpoints.c.owner,
    checkpoints.c.run_id,
    sqlite_where=_has_run,
    postgresql_where=_has_run,
)

_known: weakref.WeakSet[Dialect] = weakref.WeakSet()


class CheckpointTablesUnknown(HermesSessionError):
    """It is not known yet whether the engine's database has the tables."""


def place_of(namespace: str) -> str:
    """Return what stands for a namespace in a key: its digest, and "" for the graph's own."""
    if not namespace:
        return ""
    return hashlib.blake2b(namespace.encode(), digest_size=_DIGEST).hexdigest()


def require_tables(database: Database) -> None:
    """Raise ``CheckpointTablesUnknown`` until `make_tables` was called over the engine."""
    if database.connection.dialect not in _known:
        raise CheckpointTablesUnknown


def make_tables(database: Database, *, creates: bool) -> None:
    """Create the tables if they are missing.

    Raises:
        StoreMisconfigured: they are missing, and a migration ``creates`` them.
    """
    if not checkpoint_tables_exist(database):
        if not creates:
            raise StoreMisconfigured(
                f"the table {CHECKPOINTS} is missing: call "
                "hermes_session_mw.migrations.upgrade(connection, checkpoints=True) in a migration"
            )
        with transaction(database, may_end=True), upgrade_lock(database.connection):
            create_tables(database.connection)
    _known.add(database.connection.dialect)


def create_tables(connection: Connection) -> None:
    """Create the tables that are missing; whoever calls holds the lock for it."""
    checkpoint_metadata.create_all(connection, [checkpoint_writes, checkpoints])
