"""The SQL that copies a session, moves it to another id, or imports one.

``repeated`` says whether an earlier attempt may have committed: the reply to its COMMIT was lost.
"""

from typing import Any

from sqlalchemy import Insert, Select, bindparam, delete, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionConflict, SessionNotFound
from hermes_session_mw.messages import MAX_MESSAGE_BYTES
from hermes_session_mw.stores.jsonl import ExportedSession
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    Target,
    archive,
    in_session,
    keys,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now, time_at
from hermes_session_mw.stores.sqlalchemy.statements.answers import (
    fold_open,
    move_answers,
    remove_answers,
)
from hermes_session_mw.stores.sqlalchemy.statements.append import add_messages
from hermes_session_mw.stores.sqlalchemy.statements.leases import next_fence
from hermes_session_mw.stores.sqlalchemy.statements.list_sessions import EXPORTED
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import copy_ids, move_ids
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import may_expire
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import (
    extras_of,
    has_checkpoints,
    move_checkpoints,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
    forget_metadata,
    has_metadata,
    write_metadata,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    DELETE_ROW,
    MARK_DELETED,
    SessionRow,
    insert_or_lock_row,
    lock_row,
)

_NEW_ID = bindparam("new_id", type_=sessions.c.id.type)
_NEW_OWNER = bindparam("new_owner", type_=sessions.c.owner.type)


def _insert_if_absent(
    columns: dict[str, Any], source: Select[Any] | None = None
) -> dict[str, Insert]:
    """Return, for each dialect, the INSERT of a session's row that does nothing if it exists."""

    def filled(into: Any) -> Any:
        return into.values(columns) if source is None else into.from_select(list(columns), source)

    on_mysql: Insert = filled(mysql.insert(sessions).prefix_with("IGNORE"))
    return {
        "sqlite": filled(sqlite.insert(sessions)).on_conflict_do_nothing(),
        "postgresql": filled(postgresql.insert(sessions)).on_conflict_do_nothing(),
        **dict.fromkeys(MYSQL, on_mysql),
    }


# The fence of a row that was made for a lease, and that the new session replaces.
_FENCE = bindparam("fence", type_=sessions.c.fence.type)
_INSERT_IMPORTED = _insert_if_absent(
    {
        "owner": bindparam("new_owner"),
        "id": bindparam("new_id"),
        "next_seq": bindparam("length"),
        "turns": bindparam("count"),
        "title": bindparam("title"),
        "created_at": time_at(bindparam("created")),
        "fence": _FENCE,
    }
)
_child = {
    "owner": sessions.c.owner,
    "id": _NEW_ID,
    "next_seq": bindparam("length", type_=sessions.c.next_seq.type),
    "turns": sessions.c.turns,
    "parent_id": sessions.c.id,
    "fence": _FENCE,
}
# By whether messages may have ids.
_INSERT_CHILD = {
    has_ids: _insert_if_absent(columns, select(*columns.values()).where(*IS_SESSION))
    for has_ids, columns in (
        (False, _child),
        (True, {**_child, "has_message_ids": sessions.c.has_message_ids}),
    )
}
_MOVED_COLUMNS = (
    "next_seq",
    "first_seq",
    "turns",
    "archived",
    "created_at",
    "title",
    "parent_id",
    "metadata",
    "has_message_ids",
)
_moved = {
    "owner": _NEW_OWNER,
    "id": _NEW_ID,
    **{name: sessions.c[name] for name in _MOVED_COLUMNS},
    # Greater than the fence of any lease under the old id or the new one.
    "fence": next_fence(sessions.c.fence, _FENCE),
}
_INSERT_MOVED = _insert_if_absent(_moved, select(*_moved.values()).where(*IS_SESSION))

_copied = {
    "owner": messages.c.owner,
    "session_id": _NEW_ID,
    "seq": messages.c.seq - bindparam("first", type_=messages.c.seq.type),
    "turn_id": bindparam("turn_id", type_=messages.c.turn_id.type),
    "body": messages.c.body,
    "created_at": messages.c.created_at,
}
_copy = insert(messages).from_select(
    list(_copied),
    select(*_copied.values()).where(*IN_SESSION, messages.c.seq < bindparam("to_seq")),
)

_move = [
    update(table).where(*in_session(table)).values(owner=_NEW_OWNER, session_id=_NEW_ID)
    for table in (messages, archive)
]
_repoint_keys = update(keys).where(*in_session(keys)).values(session_id=_NEW_ID, updated_at=now())
_drop_keys = delete(keys).where(*in_session(keys))


def _insert_session(
    database: Database, insert_row: dict[str, Insert], parameters: dict[str, Any], new_owner: str
) -> SessionRow | None:
    """Insert the row of a new session; return the row of an id that is, or was, in use instead."""
    statement, new_id = insert_row[database.dialect], parameters["new_id"]
    if database.run(statement, {**parameters, "new_owner": new_owner, "fence": 0}):
        return None
    target = Target(of_session=new_id, of_owner=new_owner)
    insert_or_lock_row(database, target)
    there = lock_row(database, target, looks=has_answers(database))
    # A question that is being answered is stored, too.
    if there.is_deleted or there.has_open_answer or _is_used(database, target, there):
        return there
    remove_answers(database, target)
    database.run(DELETE_ROW, target)
    database.run(statement, {**parameters, "new_owner": new_owner, "fence": there.fence})
    return None


def _is_used(database: Database, target: Target, row: SessionRow) -> bool:
    """Tell whether a turn, metadata or a checkpoint is stored in a session whose row is locked."""
    if row.exists or row.is_deleted:
        return row.exists
    return has_metadata(database, target) or has_checkpoints(database, target)


def fork(
    database: Database,
    session_id: str,
    new_id: str,
    owner: str,
    length: int | None,
    *,
    turn_id: str,
    repeated: bool,
) -> int:
    """See `LifecycleStore.fork`; all of the copied messages get ``turn_id``."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        parent = lock_row(database, target, looks=may_expire(database, target))
        if not parent.exists:
            raise SessionNotFound
        count = parent.length if length is None else min(length, parent.length)
        parameters = {**target, "new_id": new_id, "length": count}
        there = _insert_session(database, _INSERT_CHILD[parent.has_ids], parameters, owner)
        if there is not None:
            if repeated and there.parent_id == session_id:
                return there.length
            raise SessionConflict(0, there.length)
        span = {"first": parent.first, "to_seq": parent.first + count}
        database.run(_copy, {**target, **span, "new_id": new_id, "turn_id": turn_id})
        if parent.has_ids:
            copy_ids(database, target, new_id, **span)
    return count


def rotate(
    database: Database,
    session_id: str,
    new_id: str,
    owner: str,
    new_owner: str,
    max_bytes: int = MAX_MESSAGE_BYTES,
    *,
    repeated: bool,
) -> bool:
    """See `LifecycleStore.rotate`; a running answer is folded with up to ``max_bytes``."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        looks = has_answers(database)
        there = lock_row(database, target, looks=looks)
        if there.has_open_answer:
            fold_open(database, target, max_bytes)
            there = lock_row(database, target, looks=looks)
        # Also where nothing is to be moved: a key may be bound before the first message is stored.
        if new_owner == owner:
            database.run(_repoint_keys, {**target, "new_id": new_id})
        else:
            database.run(_drop_keys, target)
        if not _is_used(database, target, there):
            new = Target(of_session=new_id, of_owner=new_owner)
            row = lock_row(database, new, looks=looks)
            is_used = _is_used(database, new, row)
            if row.is_deleted or (is_used and not repeated):
                raise SessionConflict(0, row.length)
            return is_used
        taken = _insert_session(database, _INSERT_MOVED, {**target, "new_id": new_id}, new_owner)
        if taken is not None:
            raise SessionConflict(0, taken.length)
        _move_contents(database, target, new_id, new_owner)
    return True


def _move_contents(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move all but the row to the new session, and leave the row of a deleted one."""
    for statement in _move:
        database.run(statement, {**target, "new_id": new_id, "new_owner": new_owner})
    extras = extras_of(database, target)
    if extras.message_ids:
        move_ids(database, target, new_id, new_owner)
    if extras.answers:
        move_answers(database, target, new_id, new_owner)
    if extras.checkpoints:
        move_checkpoints(database, target, new_id, new_owner)
    database.run(MARK_DELETED, target)
    if extras.metadata:
        forget_metadata(database, target)


def import_session(
    database: Database, session_id: str, session: ExportedSession, owner: str, *, repeated: bool
) -> None:
    """See `LifecycleStore.import_`."""
    target = Target(of_session=session_id, of_owner=owner)
    created = session.created_at.timestamp()
    parameters = {
        "new_id": session_id,
        "length": len(session.rows),
        "count": session.turns,
        "title": session.title,
        # MySQL would round it, perhaps to a time that is still to come.
        "created": int(created) if database.dialect in MYSQL else created,
    }
    with transaction(database):
        there = _insert_session(database, _INSERT_IMPORTED, parameters, owner)
        if there is None:
            add_messages(database, target, 0, session.rows)
            if session.metadata is not None:
                write_metadata(database, target, session.metadata)
            return
        stored = [(text_of(turn_id), body) for turn_id, body in database.rows(EXPORTED, target)]
        if not (repeated and stored == session.rows):
            raise SessionConflict(0, there.length)
