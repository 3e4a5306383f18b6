"""The tables of expiry, with a MetaData of their own, and the index that a store's setting needs.

They are made by the first operation of a store that has ``expires_after``, or by
``migrations.upgrade(..., expiry=True)``, and never for who has no expiry.

No time of expiry is stored, which every append would have to move: it follows from when a session
was changed last. ``due_at`` is a time before which the session cannot have expired. When it comes,
a sweep looks at the session, and removes it or sets ``due_at`` anew. So an active session is looked
at once within the time that its setting has, and appends, also of earlier versions, know nothing of
it.
"""

import weakref

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    inspect,
)

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import key_type
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import HermesSessionError, StoreMisconfigured
from hermes_session_mw.logging import logger
from hermes_session_mw.stores.models import MAX_KEY_LENGTH
from hermes_session_mw.stores.sqlalchemy.schema.creation import takes_long, upgrade_lock
from hermes_session_mw.stores.sqlalchemy.schema.migrations import find_missing_indexes
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import (
    OWNER_EXPIRY,
    expiry_tables_exist,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import ENGINE_OPTIONS, sessions

expiry_metadata: MetaData = MetaData()

session_expiry: Table = Table(
    "hermes_session_expiry",
    expiry_metadata,
    Column("owner", key_type(MAX_KEY_LENGTH["owner"])),
    Column("session_id", key_type(MAX_KEY_LENGTH["session_id"])),
    Column("expires_after", BigInteger, nullable=True),  # in seconds; NULL for never
    # In milliseconds from 1970; NULL for never.
    Column("due_at", BigInteger, nullable=True),
    PrimaryKeyConstraint("owner", "session_id"),
    ForeignKeyConstraint(
        ["owner", "session_id"], [sessions.c.owner, sessions.c.id], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)
Index("ix_hermes_session_expiry_due_at", session_expiry.c.due_at)

owner_expiry: Table = Table(
    OWNER_EXPIRY,
    expiry_metadata,
    Column("owner", key_type(MAX_KEY_LENGTH["owner"]), primary_key=True),
    Column("expires_after", BigInteger, nullable=True),  # in seconds; NULL for never
    **ENGINE_OPTIONS,
)

# A copy, so that the tables of who has no expiry are complete without the index.
EXPIRING_SESSIONS: Table = sessions.to_metadata(MetaData())
"""`sessions`, with the index that finds those of all owners that were not changed for long."""
CHANGED_INDEX: Index = Index("ix_hermes_sessions_changed", EXPIRING_SESSIONS.c.updated_at)

_known: weakref.WeakSet[Dialect] = weakref.WeakSet()


class ExpiryTablesUnknown(HermesSessionError):
    """It is not known yet whether the engine's database has the tables."""


def require_tables(database: Database) -> None:
    """Raise ``ExpiryTablesUnknown`` until `make_tables` was called over the engine."""
    if database.connection.dialect not in _known:
        raise ExpiryTablesUnknown


def make_tables(database: Database, *, creates: bool) -> None:
    """Create the tables and the index if they are missing; no index of very many rows.

    Raises:
        StoreMisconfigured: they are missing, and a migration ``creates`` them.
    """
    is_there = expiry_tables_exist(database)
    if not (is_there or creates):
        raise StoreMisconfigured(
            f"the table {OWNER_EXPIRY} is missing: call "
            "hermes_session_mw.migrations.upgrade(connection, expiry=True) in a migration"
        )
    connection = database.connection
    if creates and not (is_there and is_indexed(connection)):
        with transaction(database, may_end=True), upgrade_lock(connection):
            create_tables(connection)
            if not is_indexed(connection):
                _index(connection)
    _known.add(connection.dialect)


def create_tables(connection: Connection) -> None:
    """Create the tables that are missing; whoever calls holds the lock for it."""
    expiry_metadata.create_all(connection, [session_expiry, owner_expiry])


def is_indexed(connection: Connection) -> bool:
    """Tell whether the index is there."""
    return CHANGED_INDEX not in find_missing_indexes(inspect(connection), EXPIRING_SESSIONS)


def _index(connection: Connection) -> None:
    if takes_long(connection, CHANGED_INDEX):
        logger.warning(
            "the index %s is missing, so that a sweep of expired sessions reads all sessions. "
            "Building it takes long for this many; hermes_session_mw.migrations.upgrade does it, "
            "with expiry=True",
            CHANGED_INDEX.name,
        )
        return
    CHANGED_INDEX.create(connection)
