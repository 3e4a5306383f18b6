"""The SQL of messages' ids.

Only messages that were appended with an id have a row. A session whose messages never had one is
known by its own row (``has_message_ids``), and nothing is asked for it. Whoever changes ids, or
looks for those of one session, has locked the session's row.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.messages import decode_messages
from hermes_session_mw.stores.message_store import StoredMessage
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    OF_OWNER,
    OF_SESSION,
    Target,
    in_session,
    message_ids,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import SIZES

_IDS = in_session(message_ids)
_ID = bindparam("message_id", type_=message_ids.c.message_id.type)
_SEQ = bindparam("seq", type_=message_ids.c.seq.type)
IS_ITS_MESSAGE = and_(
    messages.c.owner == message_ids.c.owner,
    messages.c.session_id == message_ids.c.session_id,
    messages.c.seq == message_ids.c.seq,
)
"""Whether a row of messages is the one that an id leads to."""

_add = insert(message_ids).values(owner=OF_OWNER, session_id=OF_SESSION, message_id=_ID, seq=_SEQ)
_free = delete(message_ids).where(
    *_IDS, message_ids.c.seq >= bindparam("from_seq"), message_ids.c.seq < bindparam("to_seq")
)
_free_one = delete(message_ids).where(*_IDS, message_ids.c.message_id == _ID)
_remove = delete(message_ids).where(*_IDS)
_NEW_ID = bindparam("new_id", type_=sessions.c.id.type)
_NEW_OWNER = bindparam("new_owner", type_=sessions.c.owner.type)
_move = update(message_ids).where(*_IDS).values(owner=_NEW_OWNER, session_id=_NEW_ID)
_copied = {
    "owner": message_ids.c.owner,
    "session_id": _NEW_ID,
    "message_id": message_ids.c.message_id,
    "seq": message_ids.c.seq - bindparam("first", type_=message_ids.c.seq.type),
}
_copy = insert(message_ids).from_select(
    list(_copied),
    select(*_copied.values()).where(*_IDS, message_ids.c.seq < bindparam("to_seq")),
)
_find = reads(
    select(
        message_ids.c.session_id,
        messages.c.seq - sessions.c.first_seq,
        messages.c.turn_id,
        messages.c.body,
        microseconds_of(messages.c.created_at),
    )
    .select_from(
        message_ids.join(messages, IS_ITS_MESSAGE).join(
            sessions,
            and_(
                sessions.c.owner == message_ids.c.owner, sessions.c.id == message_ids.c.session_id
            ),
        )
    )
    .where(
        message_ids.c.owner == OF_OWNER,
        message_ids.c.message_id == _ID,
        sessions.c.deleted_at.is_(None),
    )
    .order_by(message_ids.c.session_id)
    .limit(1),
    Content(3, "message", (messages.c.seq,)),
    session=0,
)


def known_ids(database: Database, target: Target, ids: Sequence[str]) -> set[str]:
    """Return those of ``ids`` that messages of the history have.

    A row that leads to no message is removed: a process of an earlier version has archived it.
    """
    known: set[str] = set()
    stray: list[str] = []
    for statement, parameters in _lookups(database, ids):
        for message_id, is_there in database.rows(statement, {**target, **parameters}):
            if is_there:
                known.add(text_of(message_id))
            else:
                stray.append(text_of(message_id))
    if stray:
        database.run(_free_one, *({**target, "message_id": each} for each in stray))
    return known


def add_ids(database: Database, target: Target, start: int, ids: Sequence[str | None]) -> None:
    """Insert the ids of messages with numbers from ``start``; None for one that has none."""
    rows = [
        {**target, "message_id": each, "seq": seq}
        for seq, each in enumerate(ids, start)
        if each is not None
    ]
    if rows:
        database.run(_add, *rows)


def free_ids(database: Database, target: Target, span: tuple[int, int]) -> None:
    """Remove the ids of the messages with the numbers of ``span``."""
    database.run(_free, {**target, "from_seq": span[0], "to_seq": span[1]})


def remove_ids(database: Database, target: Target) -> None:
    """Remove all ids of the session's messages."""
    database.run(_remove, target)


def move_ids(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the ids with their messages, to a session whose row exists."""
    database.run(_move, {**target, "new_id": new_id, "new_owner": new_owner})


def copy_ids(database: Database, target: Target, new_id: str, first: int, to_seq: int) -> None:
    """Copy the ids of the messages before ``to_seq``, whose numbers then begin at 0."""
    database.run(_copy, {**target, "new_id": new_id, "first": first, "to_seq": to_seq})


def find_message(
    database: Database, message_id: str, owner: str
) -> tuple[str, StoredMessage] | None:
    """See `MessageStore.find_message`."""
    rows = database.rows(_find, {"of_owner": owner, "message_id": message_id})
    if not rows:
        return None
    ((session_id, index, turn_id, body, at),) = rows
    (message,) = decode_messages([body])
    found = StoredMessage(message, index, text_of(turn_id), message_id, time_of(at))
    return text_of(session_id), found


def _lookups(
    database: Database, ids: Sequence[str]
) -> Iterator[tuple[Select[Any], dict[str, Any]]]:
    """Yield the statements that look for ``ids``, with their parameters."""
    if database.dialect == "postgresql" and ids:
        yield _lookup(0), {"ids": list(ids)}
        return
    for start in range(0, len(ids), SIZES[-1]):
        portion = ids[start : start + SIZES[-1]]
        size = next(each for each in SIZES if each >= len(portion))
        padded = [*portion, *[portion[-1]] * (size - len(portion))]
        yield _lookup(size), {f"id_{number}": each for number, each in enumerate(padded)}


@cache
def _lookup(size: int) -> Select[Any]:
    """Return the statement that looks for ``size`` ids, or for those of PostgreSQL's array."""
    column = message_ids.c.message_id
    among: ColumnElement[bool]
    if size:
        among = column.in_([bindparam(f"id_{number}", type_=column.type) for number in range(size)])
    else:
        among = column == any_(bindparam("ids", type_=postgresql.ARRAY(Text)))
    message = select(messages.c.seq).where(IS_ITS_MESSAGE).correlate(message_ids)
    return select(column, case((message.exists(), 1), else_=0)).where(*_IDS, among)
