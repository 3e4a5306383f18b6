"""Creates missing tables, and upgrades those of earlier versions.

A store does so at its first use, and a migration when it runs; the steps are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    Index,
    MetaData,
    Select,
    Table,
    func,
    inspect,
    literal_column,
    select,
    text,
)

from hermes_session_mw.database.connection import database_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.drivers import check_dialect
from hermes_session_mw.database.transactions import CommitFailed, transaction
from hermes_session_mw.exceptions import ConfigurationError, StoreUnavailable
from hermes_session_mw.logging import logger
from hermes_session_mw.stores.sqlalchemy.schema.migrations import (
    ONLY_FASTER,
    build_concurrently,
    check_own,
    complete,
    invalid_indexes,
    is_complete,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import metadata

# Two processes that start at once would both find no tables and both create them, which fails on
# PostgreSQL even with "IF NOT EXISTS". The lock's number is arbitrary, but this package's own.
_LOCK_NUMBER = 7526466502349058
_LOCK_POSTGRESQL = text(f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})")
_IS_LOCKED_POSTGRESQL = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    " AND classid::bigint = :high AND objid::bigint = :low"
).bindparams(high=_LOCK_NUMBER >> 32, low=_LOCK_NUMBER & 0xFFFFFFFF)
# A lock of the connection, because MySQL commits at each CREATE; the time-out is a minute. A lock's
# name may have 64 characters there, and a database's name alone may have as many.
_NAME_MYSQL = "concat('hermes_session_mw.', md5(database()))"
_LOCK_MYSQL = text(f"SELECT GET_LOCK({_NAME_MYSQL}, 60)")
_UNLOCK_MYSQL = text(f"SELECT RELEASE_LOCK({_NAME_MYSQL})")


MOST_AT_FIRST_USE = 100_000
"""Rows of a table that a store's first use indexes: a second's work, or less."""

# One process at a time builds indexes concurrently. PostgreSQL then waits for every older
# statement, also for one that waits for the lock: so none does, and the lock is asked for again.
_BUILDING = _LOCK_NUMBER + 1
_TRY_BUILD = text(f"SELECT pg_try_advisory_lock({_BUILDING})")
_PAUSE = text("SELECT pg_sleep(0.2)")
_END_BUILD = text(f"SELECT pg_advisory_unlock({_BUILDING})")


def create(
    connection: Connection,
    *,
    checkpoints: bool = False,
    expiry: bool = False,
    search: bool = False,
) -> None:
    """Create what is missing, in the caller's transaction; others may do so at the same time.

    With ``checkpoints``, ``expiry`` and ``search``, also the tables that few have.

    Raises:
        StoreMisconfigured: another application has a table of the same name.
        StoreUnavailable: another process has held the lock for a minute.
    """
    _create(connection, lambda _index: False, checkpoints=checkpoints, expiry=expiry, search=search)


def create_at_first_use(connection: Connection) -> None:
    """Create what is missing as `create` does, but no index that takes long; log which."""
    left_out: list[Index] = []

    def leaves_out(index: Index) -> bool:
        if index.name not in ONLY_FASTER or not takes_long(connection, index):
            return False
        left_out.append(index)
        return True

    _create(connection, leaves_out)
    for index in left_out:
        logger.warning(
            "the index %s is missing, so that a list reads all of its owner's sessions. Building "
            "it takes long for this many; hermes_session_mw.migrations.upgrade does it",
            index.name,
        )


def takes_long(connection: Connection, index: Index) -> bool:
    """Tell whether building the index takes longer than a store's first use should."""
    assert index.table is not None  # as of every index of ours
    if index.name in invalid_indexes(inspect(connection), index.table):
        return True  # another process may be building it
    some: Select[Any] = (
        select(literal_column("1")).select_from(index.table).limit(MOST_AT_FIRST_USE + 1)
    )
    count = connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()
    return count > MOST_AT_FIRST_USE


def _create(
    connection: Connection,
    leaves_out: Callable[[Index], bool],
    *,
    checkpoints: bool = False,
    expiry: bool = False,
    search: bool = False,
) -> None:
    with upgrade_lock(connection):
        if not is_complete(connection):
            check_own(connection)
            metadata.create_all(connection)
            complete(connection, leaves_out)
        if checkpoints:
            _checkpoint_metadata().create_all(connection)
        if expiry:
            _create_expiry(connection, leaves_out)
        if search:
            _create_search(connection)


def _checkpoint_metadata() -> MetaData:
    from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (  # noqa: PLC0415
        checkpoint_metadata,  # few have these tables
    )

    return checkpoint_metadata


def _create_expiry(connection: Connection, leaves_out: Callable[[Index], bool]) -> None:
    from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import (  # noqa: PLC0415
        CHANGED_INDEX,  # few have these tables
        create_tables,
        is_indexed,
    )

    create_tables(connection)
    if not (is_indexed(connection) or leaves_out(CHANGED_INDEX)):
        CHANGED_INDEX.drop(connection, checkfirst=True)  # an invalid one
        CHANGED_INDEX.create(connection)


def _expiring_sessions() -> list[Table]:
    from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import (  # noqa: PLC0415
        EXPIRING_SESSIONS,
    )

    return [EXPIRING_SESSIONS]


def _create_search(connection: Connection) -> None:
    from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
        create_search_tables,  # few search
    )

    create_search_tables(connection)


def upgrade(
    connection: Connection,
    *,
    checkpoints: bool = False,
    expiry: bool = False,
    search: bool = False,
) -> None:
    """Create the tables, or upgrade those of any earlier version.

    With ``checkpoints``, also those of `CheckpointStore`, which a store else makes when a
    checkpoint is first put; with ``expiry``, also those of `ExpiryStore`, and an index of
    ``hermes_sessions``, which a store with ``expires_after`` else makes at its first sweep; with
    ``search``, also the tables and triggers of the search index.

    For a migration: in an Alembic revision, ``upgrade(op.get_bind())``. It may be called again: it
    leaves tables that are up to date unchanged, finishes a run that was killed halfway, and waits
    while another process is upgrading. It works in the connection's transaction, which the caller
    commits. But MySQL commits each change of a table, and on SQLite, or over a connection in
    AUTOCOMMIT, the transaction is begun and committed here. Over a PostgreSQL connection in
    AUTOCOMMIT an index of many rows is built afterwards, while others write.

    Raises:
        ConfigurationError: it is not a connection, as in Alembic's offline mode (``--sql``), or
            its database is not supported.
        StoreMisconfigured: another application has a table of one of the names; nothing was
            changed.
        StoreUnavailable: another process has held the lock for a minute.
        sqlalchemy.exc.SQLAlchemyError: the database refused.
    """
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            f"upgrade: {type(connection).__name__} is not a sqlalchemy.Connection. The upgrade "
            "reads the database, so Alembic's offline mode (--sql) cannot do it"
        )
    check_dialect(connection.dialect.name)
    if _has_begun(connection):
        create(connection, checkpoints=checkpoints, expiry=expiry, search=search)
        return
    is_concurrent = connection.dialect.name == "postgresql"
    try:
        with transaction(database_of(connection), may_end=True):
            _create(
                connection,
                lambda index: is_concurrent and index.name in ONLY_FASTER,
                checkpoints=checkpoints,
                expiry=expiry,
                search=search,
            )
    except CommitFailed as exc:
        raise exc.cause from None
    more = _expiring_sessions() if expiry else []
    if is_concurrent and not is_complete(connection, more):
        _build_in_turn(connection, more)


def _build_in_turn(connection: Connection, more: Sequence[Table]) -> None:
    """Build indexes concurrently when no other process does."""
    while not connection.execute(_TRY_BUILD).scalar():
        connection.execute(_PAUSE)
    try:
        build_concurrently(connection, more)
    finally:
        if not connection.invalidated:
            connection.execute(_END_BUILD)


def _has_begun(connection: Connection) -> bool:
    """Tell whether a transaction is open that holds the lock until its end."""
    dialect = connection.dialect.name
    if dialect == "sqlite":  # begins with the first write, also if SQLAlchemy has begun one
        return bool(connection.connection.driver_connection.in_transaction)  # type: ignore[union-attr]  # sqlite3's
    if dialect == "postgresql":  # in AUTOCOMMIT the lock was released with its statement
        connection.execute(_LOCK_POSTGRESQL)
        return bool(connection.execute(_IS_LOCKED_POSTGRESQL).scalar())
    return True  # MySQL's lock is the connection's


@contextmanager
def upgrade_lock(connection: Connection) -> Iterator[None]:
    """Hold the lock that one process at a time creates or upgrades tables with."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(_LOCK_POSTGRESQL)
    elif dialect in MYSQL and connection.execute(_LOCK_MYSQL).scalar() != 1:
        raise StoreUnavailable(
            "another process has been making or upgrading the tables for a minute: try again when "
            "it has ended"
        )
    try:
        yield
    finally:
        if dialect in MYSQL and not connection.invalidated:
            connection.execute(_UNLOCK_MYSQL)
