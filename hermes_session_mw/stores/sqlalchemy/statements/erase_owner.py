"""The SQL that finds all of an owner's sessions, and that erases them, in small transactions.

It is as in `delete_prune`, but a lease protects nothing, and no locked row is skipped. A row whose
lease was acquired since it was found is left for another round, with its new fence, so that the
floor is raised before any row is removed.

A session of many messages is deleted first, so that nothing is added to it, and then emptied in
slices: who reads it meanwhile may see a part. Sessions are found by id, while others may move one
to an id that was passed already, or copy it there: so those that are as old as the erasure, or
forks, are looked for again until there is none.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Table, and_, bindparam, case, delete, or_, select, text

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.transactions import outside_transaction, transaction
from hermes_session_mw.exceptions import StoreUnavailable
from hermes_session_mw.stores.owner_store import ErasureReceipt
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import (
    checkpoint_tables_exist,
    expiry_tables_exist,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_STORED,
    OF_OWNER,
    Target,
    archive,
    in_session,
    keys,
    message_ids,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import time_at
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    BATCH,
    LABELS,
    StaleSession,
    remove_answers_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.leases import raise_floor
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import (
    count_checkpoints_of,
    forget_expiry_of_owner,
    remove_checkpoints_of,
    remove_expiry_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import LENGTH, MARK_DELETED
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import Key, KeyedRows

SLICE = 1000
"""Rows that one transaction removes from a session that has many."""

_is_stored = case((and_(*IS_STORED), 1), else_=0)
_rows = select(
    sessions.c.owner, sessions.c.id, LENGTH + sessions.c.archived, sessions.c.fence, _is_stored
)
_next_rows = (
    _rows.where(
        sessions.c.owner == OF_OWNER,
        sessions.c.id > bindparam("after", type_=sessions.c.id.type),
    )
    .order_by(sessions.c.id)
    .limit(BATCH)
)
# By whether only those are wanted that may have been there before.
_FIND = {
    False: _next_rows,
    True: _next_rows.where(
        or_(sessions.c.created_at <= time_at(bindparam("began")), sessions.c.parent_id.is_not(None))
    ),
}
_lock = (
    select(sessions.c.owner, sessions.c.id, _is_stored)
    .where(sessions.c.fence <= bindparam("floor", type_=sessions.c.fence.type))
    .with_for_update()
)
_mark_deleted = MARK_DELETED.where(
    sessions.c.fence <= bindparam("floor", type_=sessions.c.fence.type)
)
_drop_keys = delete(keys).where(keys.c.owner == OF_OWNER)

_SESSIONS = KeyedRows(sessions, "id")
_MESSAGES = KeyedRows(messages, "session_id")
_ARCHIVE = KeyedRows(archive, "session_id")
_KEYS = KeyedRows(keys, "session_id", "ix_hermes_keys_session_id")
_MESSAGE_IDS = KeyedRows(message_ids, "session_id")


class _Slices:
    """Statements that remove the rows of one session in the order of a column, some at a time."""

    def __init__(self, table: Table, order: Column[Any], start: int | str) -> None:
        self.start = start
        after = bindparam("after", type_=order.type)
        self._last = (
            select(order)
            .where(*in_session(table), order > after)
            .order_by(order)
            .offset(SLICE - 1)
            .limit(1)
        )
        self._rest = delete(table).where(*in_session(table), order > after)
        self._slice = self._rest.where(order <= bindparam("last", type_=order.type))

    def remove(self, database: Database, target: Target, after: int | str) -> tuple[int, Any]:
        """Remove the next rows; return how many, and the last one's value, or None if all are."""
        parameters = {**target, "after": after}
        for (found,) in database.rows(self._last, parameters):
            last = text_of(found) if isinstance(found, bytes) else found
            return database.run(self._slice, {**parameters, "last": last}), last
        return database.run(self._rest, parameters), None


_SLICES = {
    "messages": _Slices(messages, messages.c.seq, -1),
    "archived": _Slices(archive, archive.c.number, -1),
    "message_ids": _Slices(message_ids, message_ids.c.message_id, ""),
}

_ASK_SECURE_DELETE = text("PRAGMA secure_delete")
_SECURE_DELETE = {each: text(f"PRAGMA secure_delete = {each}") for each in (0, 1, 2)}
_VACUUM = "VACUUM"
_HAS_FTS5 = text("SELECT count(*) FROM sqlite_master WHERE name = 'hermes_search_words'")
# FTS5 notes that a row was removed, and has its words until it merges.
_MERGE = text("INSERT INTO hermes_search_words (hermes_search_words) VALUES ('optimize')")
_EMPTY_WAL = text("PRAGMA wal_checkpoint(TRUNCATE)")

KINDS = tuple(_SLICES)
"""What a session may have many of."""


def find(
    database: Database, owner: str, after: str, began: float | None = None
) -> list[StaleSession]:
    """Return the owner's next rows by id, also of deleted sessions.

    With ``began``, in seconds from 1970, only those that may have been there then under another id.
    """
    parameters = {"of_owner": owner, "after": after}
    if began is not None:
        return _found(database.rows(_FIND[True], {**parameters, "began": began}))
    return _found(database.rows(_FIND[False], parameters))


def close(database: Database, session: StaleSession) -> list[StaleSession]:
    """Delete a session, but for what is in it; return it anew if its lease was acquired meanwhile.

    So nothing is added to it any more.
    """
    raise_floor(database, session.fence)
    target = Target(of_session=session.session_id, of_owner=session.owner)
    with transaction(database):
        if database.run(_mark_deleted, {**target, "floor": session.fence}):
            return []
    key = session.owner, session.session_id
    return [each for each in _found(_SESSIONS.rows(database, _rows, [key])) if each.is_stored]


def empty(
    database: Database, session: StaleSession, kind: str, after: int | str | None
) -> tuple[ErasureReceipt, Any]:
    """Remove up to ``SLICE`` rows of one kind (``KINDS``) from a session that is closed.

    Return the counts, and what to call it with again; None if no such row is left.
    """
    if kind == "message_ids" and not has_answers(database):
        return ErasureReceipt(), None
    target = Target(of_session=session.session_id, of_owner=session.owner)
    slices = _SLICES[kind]
    with overwriting(database), transaction(database):
        count, last = slices.remove(database, target, slices.start if after is None else after)
    return ErasureReceipt(**{kind: count}), last


def erase(
    database: Database, portion: Sequence[StaleSession], *, is_closed: bool = False
) -> tuple[ErasureReceipt, list[StaleSession]]:
    """Remove the rows of ``portion`` and what belongs to them.

    Return the counts, and the rows that are there yet, as a lease was acquired meanwhile.
    ``is_closed``: it is one session, which was stored until the erasure has closed it.
    """
    floor = max(each.fence for each in portion)
    raise_floor(database, floor)
    wanted = [(each.owner, each.session_id) for each in portion]
    with overwriting(database), transaction(database):
        rows = list(_SESSIONS.rows(database, _lock, wanted, floor=floor))
        locked = [(text_of(owner), text_of(id_)) for owner, id_, _ in rows]
        receipt = ErasureReceipt()
        if locked:
            stored = sum(1 for *_, is_stored in rows if is_stored or is_closed)
            receipt = _remove(database, locked, stored)
    if len(locked) == len(wanted):
        return receipt, []
    return receipt, _found(_SESSIONS.rows(database, _rows, wanted))


def drop_keys(database: Database, owner: str) -> int:
    """Drop all of the owner's keys, and its setting of expiry; return how many keys."""
    with overwriting(database), transaction(database):
        if expiry_tables_exist(database):
            forget_expiry_of_owner(database, owner)
        return database.run(_drop_keys, {"of_owner": owner})


def vacuum(database: Database) -> None:
    """Write SQLite's file anew, without what unused parts of it have; nothing elsewhere."""
    if database.dialect == "sqlite":
        with outside_transaction(database):
            database.command(_VACUUM)


def merge_search_index(database: Database) -> None:
    """Have SQLite's search index, if there is one, forget the words of what was removed."""
    if database.dialect != "sqlite":
        return
    ((count,),) = database.rows(_HAS_FTS5, {})
    if count:
        with overwriting(database), transaction(database):
            database.run(_MERGE, {})


def empty_wal(database: Database) -> None:
    """Write SQLite's WAL into its file, and truncate it; do nothing on other databases.

    Raises:
        StoreUnavailable: another connection reads what was there before.
    """
    if database.dialect == "sqlite":
        with outside_transaction(database):
            ((busy, *_),) = database.rows(_EMPTY_WAL, {})
        if busy:
            raise StoreUnavailable(
                "all is done, but the WAL has what was there yet, as another connection reads: "
                "try again"
            )


def _remove(database: Database, locked: Sequence[Key], stored: int) -> ErasureReceipt:
    has_all = has_answers(database)
    has_checkpoints = has_all and checkpoint_tables_exist(database)
    receipt = ErasureReceipt(
        sessions=stored,
        messages=_MESSAGES.count(database, locked),
        archived=_ARCHIVE.count(database, locked),
        keys=_KEYS.count(database, locked),
        answers=remove_answers_of(database, locked) if has_all else 0,
        message_ids=_MESSAGE_IDS.count(database, locked) if has_all else 0,
        checkpoints=count_checkpoints_of(database, locked) if has_checkpoints else 0,
        ids=len(locked) - stored,
    )
    if has_checkpoints:
        remove_checkpoints_of(database, locked)
    if expiry_tables_exist(database):
        remove_expiry_of(database, locked)
    if has_all:
        _MESSAGE_IDS.delete(database, locked)
    if has_label_columns(database):
        LABELS.delete(database, locked)
    for table in (_MESSAGES, _ARCHIVE, _KEYS, _SESSIONS):
        table.delete(database, locked)
    return receipt


@contextmanager
def overwriting(database: Database) -> Iterator[None]:
    """Have SQLite overwrite what is removed, with zeros."""
    if database.dialect != "sqlite":
        yield
        return
    ((before,),) = database.rows(_ASK_SECURE_DELETE, {})
    database.rows(_SECURE_DELETE[1], {})
    try:
        yield
    finally:
        if not database.connection.invalidated:
            database.rows(_SECURE_DELETE[before], {})


def _found(rows: Iterable[Row]) -> list[StaleSession]:
    return [
        StaleSession(text_of(owner), text_of(id_), int(length), int(fence), bool(is_stored))
        for owner, id_, length, fence, is_stored in rows
    ]
