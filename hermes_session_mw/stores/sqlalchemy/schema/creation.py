"""Creates missing tables, and upgrades those of earlier versions.

A store does so at its first use, and a migration when it runs; the steps are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from hermes_session_mw.database.connection import database_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.drivers import check_dialect
from hermes_session_mw.database.transactions import CommitFailed, transaction
from hermes_session_mw.exceptions import ConfigurationError, StoreUnavailable
from hermes_session_mw.stores.sqlalchemy.schema.migrations import check_own, complete, is_complete
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


def create(connection: Connection) -> None:
    """Create what is missing, in the caller's transaction; others may do so at the same time.

    Raises:
        StoreMisconfigured: another application has a table of the same name.
        StoreUnavailable: another process has held the lock for a minute.
    """
    with _upgrade_lock(connection):
        if not is_complete(connection):
            check_own(connection)
            metadata.create_all(connection)
            complete(connection)


def upgrade(connection: Connection) -> None:
    """Create the tables, or upgrade those of any earlier version.

    For a migration: in an Alembic revision, ``upgrade(op.get_bind())``. It may be called again: it
    leaves tables that are up to date unchanged, finishes a run that was killed halfway, and waits
    while another process is upgrading. It works in the connection's transaction, which the caller
    commits. But MySQL commits each change of a table, and on SQLite, or over a connection in
    AUTOCOMMIT, the transaction is begun and committed here.

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
        create(connection)
    else:
        try:
            with transaction(database_of(connection), may_end=True):
                create(connection)
        except CommitFailed as exc:
            raise exc.cause from None


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
def _upgrade_lock(connection: Connection) -> Iterator[None]:
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
