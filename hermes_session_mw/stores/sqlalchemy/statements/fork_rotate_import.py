"""The SQL that copies a session, moves it to another id, or imports one.

``repeated`` says whether an earlier attempt may have committed: the reply to its COMMIT was lost.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Insert,
    Select,
    bindparam,
    case,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionConflict, SessionNotFound
from hermes_session_mw.messages import MAX_MESSAGE_BYTES, decode_messages, needs_keys
from hermes_session_mw.stores.jsonl import ExportedRow, ExportedSession
from hermes_session_mw.stores.labels import pairs_of
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    OF_OWNER,
    OF_SESSION,
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
from hermes_session_mw.stores.sqlalchemy.statements.content import (
    Content,
    copies,
    moves,
    writes,
)
from hermes_session_mw.stores.sqlalchemy.statements.labels import move_labels, write_labels
from hermes_session_mw.stores.sqlalchemy.statements.leases import next_fence
from hermes_session_mw.stores.sqlalchemy.statements.list_sessions import (
    exported_rows,
    give_title,
)
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import copy_ids, move_ids
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import may_expire
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import (
    Extras,
    copy_expiry,
    extras_of,
    has_checkpoints,
    move_checkpoints,
    move_expiry,
    set_expiry,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
    forget_data_key,
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


def _time_or_now(name: str) -> ColumnElement[Any]:
    """Return the time of a parameter; now, if it is not known or still to come."""
    at = time_at(bindparam(name))
    return case((at < now(), at), else_=now())


_INSERT_IMPORTED = _insert_if_absent(
    {
        "owner": bindparam("new_owner"),
        "id": bindparam("new_id"),
        "next_seq": bindparam("length"),
        "turns": bindparam("count"),
        "title": bindparam("title"),
        "created_at": time_at(bindparam("created")),
        "updated_at": _time_or_now("changed"),
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
_MOVED_COLUMNS: tuple[str, ...] = (
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
_LABEL_COLUMNS = ("tags", "pinned", "shelved", "has_labels")
# By whether the tables have labels.
_INSERT_MOVED = {
    has_labels: _insert_if_absent(columns, select(*columns.values()).where(*IS_SESSION))
    for has_labels, columns in (
        (False, _moved),
        (True, {**_moved, **{name: sessions.c[name] for name in _LABEL_COLUMNS}}),
    )
}
for _form in _INSERT_MOVED.values():
    for _each in _form.values():
        moves(_each)

_copied = {
    "owner": messages.c.owner,
    "session_id": _NEW_ID,
    "seq": messages.c.seq - bindparam("first", type_=messages.c.seq.type),
    "turn_id": bindparam("turn_id", type_=messages.c.turn_id.type),
    "body": messages.c.body,
    "created_at": messages.c.created_at,
}
_copy = copies(
    insert(messages).from_select(
        list(_copied),
        select(*_copied.values()).where(*IN_SESSION, messages.c.seq < bindparam("to_seq")),
    ),
    "messages",
)

_SIZES = (100, 10, 1)
"""How many messages one INSERT may have, where the driver sends each by itself."""

_MOST_CHARACTERS = 64 * 1024
"""Characters of the messages of such an INSERT, unless there is one message."""


def _imported(number: int) -> dict[str, Any]:
    def place(name: str) -> BindParameter[Any]:
        return bindparam(f"{name}_{number}", type_=messages.c[name].type)

    return {
        "owner": OF_OWNER,
        "session_id": OF_SESSION,
        **{name: place(name) for name in ("seq", "turn_id", "body")},
        "created_at": _time_or_now(f"at_{number}"),
    }


_ADD_IMPORTED = {
    size: writes(
        insert(messages).values([_imported(number) for number in range(size)]),
        *(Content(f"body_{number}", "message", (f"seq_{number}",)) for number in range(size)),
    )
    for size in _SIZES
}

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
    keeps_expiry: bool = False,
    repeated: bool,
) -> int:
    """See `LifecycleStore.fork`; all of the copied messages get ``turn_id``.

    ``keeps_expiry``: whether the session may have a setting of expiry, which the copy gets too.
    """
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        parent = lock_row(database, target, looks=may_expire(database, target))
        if not parent.exists:
            raise SessionNotFound
        _check_keys(database, parent)
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
        if keeps_expiry:
            copy_expiry(database, target, new_id)
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
        _check_keys(database, there)
        insert_row = _INSERT_MOVED[has_label_columns(database)]
        taken = _insert_session(database, insert_row, {**target, "new_id": new_id}, new_owner)
        if taken is not None:
            raise SessionConflict(0, taken.length)
        _move_contents(database, target, new_id, new_owner)
    return True


def _check_keys(database: Database, row: SessionRow) -> None:
    """Raise unless the store can encrypt anew what goes to another session."""
    if row.has_data_key and not database.encrypts:
        raise needs_keys()


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
    if extras.expiry:
        move_expiry(database, target, new_id, new_owner)
    if extras.labels:
        move_labels(database, target, new_id, new_owner)
    _forget_moved(database, target, extras)


def _forget_moved(database: Database, target: Target, extras: Extras) -> None:
    """Leave the row of a deleted session."""
    database.run(MARK_DELETED, target)
    if extras.metadata:
        forget_metadata(database, target)
    if extras.data_key:
        forget_data_key(database, target)


def import_session(
    database: Database, session_id: str, session: ExportedSession, owner: str, *, repeated: bool
) -> None:
    """See `LifecycleStore.import_`."""
    target = Target(of_session=session_id, of_owner=owner)
    created, changed = (
        None if at is None else _seconds(database, at)
        for at in (session.created_at, session.updated_at)
    )
    parameters = {
        "new_id": session_id,
        "length": len(session.rows),
        "count": session.turns,
        "title": session.title,
        "created": created,
        "changed": changed,
    }
    if database.encrypts:
        parameters["title"] = None  # encrypted once the row can have a data key
    with transaction(database):
        there = _insert_session(database, _INSERT_IMPORTED, parameters, owner)
        if there is None:
            _add_imported(database, target, session.rows)
            if database.encrypts and session.title is not None:
                give_title(database, target, session.title)
            new = session.labels
            if session.metadata is not None:
                write_metadata(database, target, session.metadata, ())
                if has_label_columns(database):
                    new = replace(new, pairs=pairs_of(decode_messages([session.metadata])[0]))
            write_labels(database, target, new)
            if session.expires_after is not None:
                set_expiry(database, target, session.expires_after)
            return
        stored = exported_rows(database, target)
        if not (repeated and _texts(stored) == _texts(session.rows)):
            raise SessionConflict(0, there.length)


def _texts(rows: Sequence[ExportedRow]) -> list[tuple[str, str]]:
    # Without the times, which the database may keep less exactly.
    return [(row.turn_id, row.body) for row in rows]


def _add_imported(database: Database, target: Target, rows: Sequence[ExportedRow]) -> None:
    """Insert the messages of a new session, from number 0, with their times."""
    values = [
        {
            "seq": seq,
            "turn_id": row.turn_id,
            "body": row.body,
            "at": None if row.created_at is None else _seconds(database, row.created_at),
        }
        for seq, row in enumerate(rows)
    ]
    if database.dialect not in MYSQL:
        database.run(_ADD_IMPORTED[1], *({**target, **_places([each])} for each in values))
        return
    # Its drivers would send one statement after another, as there is a function in it.
    start = 0
    while start < len(values):
        size = _size_of(values[start : start + _SIZES[0]])
        database.run(_ADD_IMPORTED[size], {**target, **_places(values[start : start + size])})
        start += size


def _size_of(values: Sequence[Mapping[str, Any]]) -> int:
    """Return for how many of the values one statement of a moderate length is."""
    characters = list(itertools.accumulate(len(each["body"]) for each in values))
    return next(
        size
        for size in _SIZES
        if size == 1 or (size <= len(values) and characters[size - 1] <= _MOST_CHARACTERS)
    )


def _places(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{name}_{n}": each[name] for n, each in enumerate(values) for name in each}


def _seconds(database: Database, at: datetime) -> float:
    """Return the seconds from 1970; MySQL would round them, perhaps to a time still to come."""
    return int(at.timestamp()) if database.dialect in MYSQL else at.timestamp()
