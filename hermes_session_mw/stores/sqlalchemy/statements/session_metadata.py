"""The SQL of sessions' metadata.

Tables of an earlier version, which an application's own migrations keep, may lack the column.
Whatever does not set metadata goes on over them, so it reads the column by statements that take a
missing one for NULL.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    literal_column,
    null,
    select,
    update,
)

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionDeleted
from hermes_session_mw.messages import Message, decode_messages
from hermes_session_mw.stores.labels import Pairs
from hermes_session_mw.stores.message_store import ANY
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_SESSION, Target, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, forgets, reads, writes
from hermes_session_mw.stores.sqlalchemy.statements.labels import write_pairs
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    WITH_PAIRS,
    insert_or_lock_row,
)
from hermes_session_mw.stores.validation import ExpectedBody, check_metadata, is_same

# In a subquery a bare name is a column of its own table, else one of the query around it, which
# has NULL under this name.
_column: Any = literal_column("metadata")
_absent = select(
    cast(null(), Text).label("metadata"), cast(null(), Text).label("data_key")
).subquery("absent")


def _of_session(value: Any) -> Select[Any]:
    inner = select(value).select_from(sessions).where(*IS_SESSION)
    return select(inner.scalar_subquery()).select_from(_absent)


METADATA: Select[Any] = reads(
    _of_session(case((sessions.c.deleted_at.is_(None), _column))), Content(0, "metadata")
)
"""The metadata of a session that was not deleted, as a JSON text, in one row."""

HAS_METADATA: Select[Any] = _of_session(case((_column.is_not(None), 1), else_=0))
"""Whether the session's row has metadata, also if the session was deleted; NULL without a row."""

_key: Any = literal_column("data_key")
HAS_DATA_KEY: ColumnElement[Any] = (
    select(case((_key.is_not(None), 1), else_=0))
    .select_from(sessions)
    .where(*IS_SESSION)
    .correlate(_absent)
    .scalar_subquery()
)
"""Whether the session's row has a data key, as a column beside `HAS_METADATA`."""

NEW_METADATA = Content("new_metadata", "metadata")
_set = (
    update(sessions)
    .where(*IS_SESSION, sessions.c.deleted_at.is_(None))
    # Metadata is no change of the history. Without a history, the session is as old as this.
    .values(
        metadata=bindparam("new_metadata"),
        updated_at=case((sessions.c.turns == 0, now()), else_=sessions.c.updated_at),
    )
)
writes(_set, NEW_METADATA)
_set_without_pairs = writes(_set.where(sessions.c.has_labels != WITH_PAIRS), NEW_METADATA)
_locked = reads(
    select(sessions.c.deleted_at, sessions.c.metadata).where(*IS_SESSION), Content(1, "metadata")
)
_forget = (
    update(sessions).where(*IS_SESSION).values(metadata=null(), updated_at=sessions.c.updated_at)
)
_forget_key = forgets(
    update(sessions).where(*IS_SESSION).values(data_key=null(), updated_at=sessions.c.updated_at)
)


def set_metadata(
    database: Database,
    session_id: str,
    body: str,
    owner: str,
    expected: ExpectedBody = ANY,
    *,
    pairs: Pairs = (),
    repeated: bool = False,
) -> None:
    """See `MessageStore.set_metadata`; ``body`` is a JSON text, and ``pairs`` are those in it.

    ``repeated`` says that an earlier attempt may be committed.
    """
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        insert_or_lock_row(database, target)
        check_stored(database, target, expected, done=body if repeated else None)
        write_metadata(database, target, body, pairs)


def check_stored(
    database: Database, target: Target, expected: ExpectedBody, length: int = 0, *, done: str | None
) -> None:
    """Check the metadata of a session whose row is locked.

    ``done`` is what an attempt may have set that was committed: it is as good as the expected.
    """
    if expected is ANY:
        return
    ((deleted_at, body),) = database.rows(_locked, target)
    if deleted_at is not None:
        raise SessionDeleted
    stored = None if body is None else text_of(body)
    if done is None or stored is None or not is_same([stored], [done]):
        check_metadata(expected, stored, length)


def write_metadata(database: Database, target: Target, body: str, pairs: Pairs) -> None:
    """Set the metadata of a session whose row is locked; ``pairs`` are those in it."""
    parameters = {**target, "new_metadata": body}
    has_columns = has_label_columns(database)
    if has_columns and not pairs and database.run(_set_without_pairs, parameters):
        return  # for most, that is all
    if not database.run(_set, parameters):
        raise SessionDeleted
    if has_columns:
        write_pairs(database, target, pairs)


def find_metadata(database: Database, session_id: str, owner: str) -> Message | None:
    """See `LifecycleStore.find_metadata`."""
    ((body,),) = database.rows(METADATA, Target(of_session=session_id, of_owner=owner))
    return None if body is None else decode_messages([text_of(body)])[0]


def has_metadata(database: Database, target: Target) -> bool:
    """Tell whether the session's row has metadata, also if the session was deleted."""
    ((is_there,),) = database.rows(HAS_METADATA, target)
    return bool(is_there)


def forget_data_key(database: Database, target: Target) -> None:
    """Remove the data key of a session that was deleted or cleared."""
    database.run(_forget_key, target)


def forget_metadata(database: Database, target: Target) -> None:
    """Remove the metadata of a session that was deleted."""
    database.run(_forget, target)
