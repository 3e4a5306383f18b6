"""The SQL that copies a session, moves one, or brings one in; the rules are those of ``editing``.

``repeated`` tells whether the work may have been done already: its COMMIT's reply was lost.
"""

from typing import Any

from sqlalchemy import Insert, Select, bindparam, delete, func, insert, null, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from ...exceptions import SessionConflict, SessionNotFound
from ..transfer import Transfer
from .appending import add_messages
from .clock import time_at
from .database import Database, text_of
from .editing import locked
from .listing import ROWS
from .schema import (
    IN_SESSION,
    IS_SESSION,
    MYSQL,
    WHOSE,
    archive,
    keys,
    messages,
    of_session,
    sessions,
)
from .transactions import transaction

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


# No session yet: it has no turn.
INSERT_EMPTY = _unless_there(
    {"owner": bindparam("owner"), "id": bindparam("session_id"), "next_seq": 0, "turns": 0}
)
_INSERT_IMPORTED = _unless_there(
    {
        "owner": bindparam("owner"),
        "id": bindparam("session_id"),
        "next_seq": bindparam("length"),
        "turns": bindparam("count"),
        "title": bindparam("title"),
        "created_at": time_at(bindparam("created")),
    }
)
_child = {
    "owner": sessions.c.owner,
    "id": _NEW_ID,
    "next_seq": bindparam("length", type_=sessions.c.next_seq.type),
    "turns": sessions.c.turns,
    "parent_id": sessions.c.id,
}
_INSERT_CHILD = _unless_there(_child, select(*_child.values()).where(*IS_SESSION))
_CARRIED = (
    "next_seq",
    "first_seq",
    "turns",
    "archived",
    "fence",
    "created_at",
    "title",
    "parent_id",
)
_moved = {"owner": _NEW_OWNER, "id": _NEW_ID, **{name: sessions.c[name] for name in _CARRIED}}
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
    .values(deleted_at=func.now(), updated_at=func.now(), title=null(), parent_id=null())
)
_parent = select(sessions.c.parent_id).where(*IS_SESSION)


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
        if not database.run(_INSERT_CHILD[database.dialect], values):
            there = locked(database, new_id, owner)
            ((parent_id,),) = database.rows(_parent, {"session_id": new_id, "owner": owner})
            if repeated and parent_id is not None and text_of(parent_id) == session_id:
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
            return repeated and locked(database, new_id, new_owner).exists
        if not database.run(_INSERT_MOVED[database.dialect], {**key, **to}):
            raise SessionConflict(0, locked(database, new_id, new_owner).length)
        for statement in _move:
            database.run(statement, {**whose, **to})
        database.run(_retire, whose)
    return True


def bring_in(
    database: Database, session_id: str, session: Transfer, owner: str, *, repeated: bool
) -> None:
    """See `LifecycleStore.import_`."""
    key = {"session_id": session_id, "owner": owner}
    values = {
        **key,
        "length": len(session.rows),
        "count": session.turns,
        "title": session.title,
        "created": session.created,
    }
    with transaction(database):
        if database.run(_INSERT_IMPORTED[database.dialect], values):
            add_messages(database, key, 0, session.rows)
            return
        there = locked(database, session_id, owner)
        stored = [(text_of(turn_id), body) for turn_id, body in database.rows(ROWS, key)]
        if not (repeated and stored == session.rows):
            raise SessionConflict(0, there.length)
