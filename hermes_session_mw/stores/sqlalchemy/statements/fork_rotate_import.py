"""The SQL that copies a session, moves one, or brings one in; the rules are those of ``editing``.

``repeated`` tells whether the work may have been done already: its COMMIT's reply was lost.
"""

from typing import Any

from sqlalchemy import Insert, Select, bindparam, delete, func, insert, null, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionConflict, SessionNotFound
from hermes_session_mw.stores.jsonl import Transfer
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    WHOSE,
    archive,
    keys,
    messages,
    of_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import time_at
from hermes_session_mw.stores.sqlalchemy.statements.append import add_messages
from hermes_session_mw.stores.sqlalchemy.statements.fences import next_fence
from hermes_session_mw.stores.sqlalchemy.statements.list_sessions import ROWS
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import Counters, locked

_NEW_ID = bindparam("new_id", type_=sessions.c.id.type)
_NEW_OWNER = bindparam("new_owner", type_=sessions.c.owner.type)


def _unless_there(columns: dict[str, Any], source: Select[Any] | None = None) -> dict[str, Insert]:
    """Return, for each dialect, the INSERT of a session's row that does nothing where one is."""

    def filled(into: Any) -> Any:
        return into.values(columns) if source is None else into.from_select(list(columns), source)

    on_mysql: Insert = filled(mysql.insert(sessions).prefix_with("IGNORE"))
    return {
        "sqlite": filled(sqlite.insert(sessions)).on_conflict_do_nothing(),
        "postgresql": filled(postgresql.insert(sessions)).on_conflict_do_nothing(),
        **dict.fromkeys(MYSQL, on_mysql),
    }


# What is there already is left as it is, and locked, which an INSERT that ignores it would not do.
_EMPTY: dict[str, Any] = {
    "owner": bindparam("owner"),
    "id": bindparam("session_id"),
    "next_seq": 0,
    "turns": 0,  # no session yet
}
_UNCHANGED = {"next_seq": sessions.c.next_seq}
_ON_ROW: dict[str, Any] = {
    "index_elements": [sessions.c.owner, sessions.c.id],
    "set_": _UNCHANGED,
}
_HOLD = {
    "sqlite": sqlite.insert(sessions).values(_EMPTY).on_conflict_do_update(**_ON_ROW),
    "postgresql": postgresql.insert(sessions).values(_EMPTY).on_conflict_do_update(**_ON_ROW),
    **dict.fromkeys(
        MYSQL, mysql.insert(sessions).values(_EMPTY).on_duplicate_key_update(_UNCHANGED)
    ),
}
_remove_empty = delete(sessions).where(*WHOSE)

# Of a row that was there for a lease alone, whose number is not given out again.
_FENCE = bindparam("fence", type_=sessions.c.fence.type)
_INSERT_IMPORTED = _unless_there(
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
_INSERT_CHILD = _unless_there(_child, select(*_child.values()).where(*IS_SESSION))
_CARRIED = ("next_seq", "first_seq", "turns", "archived", "created_at", "title", "parent_id")
_moved = {
    "owner": _NEW_OWNER,
    "id": _NEW_ID,
    **{name: sessions.c[name] for name in _CARRIED},
    # Greater than that of whoever was in a turn, under the old id or the new one.
    "fence": next_fence(sessions.c.fence, _FENCE),
}
_INSERT_MOVED = _unless_there(_moved, select(*_moved.values()).where(*IS_SESSION))

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


def _of(table: Any) -> tuple[Any, Any]:
    return table.c.owner == bindparam("of_owner"), table.c.session_id == bindparam("of_session")


_move = [
    update(table).where(*_of(table)).values(owner=_NEW_OWNER, session_id=_NEW_ID)
    for table in (messages, archive)
]
_lead_keys = update(keys).where(*_of(keys)).values(session_id=_NEW_ID, updated_at=func.now())
_drop_keys = delete(keys).where(*_of(keys))
_retire = (
    update(sessions)
    .where(*WHOSE)
    .values(
        deleted_at=func.now(),
        updated_at=func.now(),
        title=null(),
        parent_id=null(),
        leased_until=0,
    )
)


def hold_row(database: Database, session_id: str, owner: str) -> None:
    """Hold the session's row until the transaction ends; it is made where there is none."""
    database.run(_HOLD[database.dialect], {"session_id": session_id, "owner": owner})


def _begin(
    database: Database, insert_row: dict[str, Insert], values: dict[str, Any], new_owner: str
) -> Counters | None:
    """Insert the row of a session that begins; where there is one already, return that instead."""
    statement, new_id = insert_row[database.dialect], values["new_id"]
    if database.run(statement, {**values, "new_owner": new_owner, "fence": 0}):
        return None
    hold_row(database, new_id, new_owner)
    there = locked(database, new_id, new_owner)
    if there.exists or there.is_deleted:
        return there
    database.run(_remove_empty, of_session(new_id, new_owner))
    database.run(statement, {**values, "new_owner": new_owner, "fence": there.fence})
    return None


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
    """See `LifecycleStore.fork`; ``turn_id`` is what all of the copied messages get."""
    key = {"session_id": session_id, "owner": owner}
    with transaction(database):
        parent = locked(database, session_id, owner)
        if not parent.exists:
            raise SessionNotFound
        count = parent.length if length is None else min(length, parent.length)
        values = {**key, "new_id": new_id, "length": count}
        there = _begin(database, _INSERT_CHILD, values, owner)
        if there is not None:
            if repeated and there.parent_id == session_id:
                return there.length
            raise SessionConflict(0, there.length)
        span = {"first": parent.first, "to_seq": parent.first + count}
        database.run(_copy, {**key, **span, "new_id": new_id, "turn_id": turn_id})
    return count


def rotate(
    database: Database,
    session_id: str,
    new_id: str,
    owner: str,
    new_owner: str,
    *,
    repeated: bool,
) -> bool:
    """See `LifecycleStore.rotate`."""
    key = {"session_id": session_id, "owner": owner}
    to = {"new_id": new_id, "new_owner": new_owner}
    with transaction(database):
        there = locked(database, session_id, owner)
        whose = of_session(session_id, owner)
        # Also where nothing is to be moved: a key may be there before the first message.
        if new_owner == owner:
            database.run(_lead_keys, {**whose, "new_id": new_id})
        else:
            database.run(_drop_keys, whose)
        if not there.exists:
            used = locked(database, new_id, new_owner)
            if used.is_deleted or (used.exists and not repeated):
                raise SessionConflict(0, used.length)
            return used.exists
        taken = _begin(database, _INSERT_MOVED, {**key, "new_id": new_id}, new_owner)
        if taken is not None:
            raise SessionConflict(0, taken.length)
        for statement in _move:
            database.run(statement, {**whose, **to})
        database.run(_retire, whose)
    return True


def import_session(
    database: Database, session_id: str, session: Transfer, owner: str, *, repeated: bool
) -> None:
    """See `LifecycleStore.import_`."""
    key = {"session_id": session_id, "owner": owner}
    values = {
        "new_id": session_id,
        "length": len(session.rows),
        "count": session.turns,
        "title": session.title,
        "created": session.created,
    }
    with transaction(database):
        there = _begin(database, _INSERT_IMPORTED, values, owner)
        if there is None:
            add_messages(database, key, 0, session.rows)
            return
        stored = [(text_of(turn_id), body) for turn_id, body in database.rows(ROWS, key)]
        if not (repeated and stored == session.rows):
            raise SessionConflict(0, there.length)
