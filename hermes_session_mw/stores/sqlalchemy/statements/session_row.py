"""Reads and locks a session's row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, delete, or_, select, update

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.dialects import MYSQL, upsert
from hermes_session_mw.exceptions import StoreCorrupt
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    IS_STORED,
    OF_OWNER,
    OF_SESSION,
    Target,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of, now
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    EXPIRED_FENCE,
    AnswerExpired,
)

LENGTH = sessions.c.next_seq - sessions.c.first_seq
"""The number of messages in the history."""

UPDATED_AT = microseconds_of(sessions.c.updated_at)
_LAST_UPDATE = bindparam("changed", type_=sessions.c.next_seq.type)

SESSION_INFO = select(
    sessions.c.id,
    sessions.c.title,
    LENGTH,
    microseconds_of(sessions.c.created_at),
    UPDATED_AT,
    sessions.c.parent_id,
    sessions.c.owner,
).where(*IS_STORED)
"""The columns that `session_info` takes, of every session that has a turn."""

WRONG_TYPE = (TypeError, ValueError, OverflowError)
"""Python's errors for a value of another type than its column's."""


class SessionRow(NamedTuple):
    """The counters of a session; its messages have the numbers from ``first`` to before ``end``.

    ``has_ids`` says whether messages may have ids. ``has_open_answer`` is known only if the row was
    read with a look.
    """

    first: int = 0
    end: int = 0
    turns: int = 0
    archived: int = 0
    fence: int = 0
    is_deleted: bool = False
    parent_id: str | None = None
    has_ids: bool = False
    has_open_answer: bool = False

    @property
    def length(self) -> int:
        """How many messages the history has; a deleted session has none."""
        return 0 if self.is_deleted else self.end - self.first

    @property
    def exists(self) -> bool:
        """Whether anything was ever stored: a row may have been made for a lease only."""
        return self.turns > 0 and not self.is_deleted


def updated_before(is_next: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a session changed before ``:changed``, or then and ``is_next``."""
    return or_(UPDATED_AT < _LAST_UPDATE, and_(UPDATED_AT == _LAST_UPDATE, is_next))


_row = select(
    sessions.c.first_seq,
    sessions.c.next_seq,
    sessions.c.turns,
    sessions.c.archived,
    sessions.c.fence,
    sessions.c.deleted_at,
    sessions.c.parent_id,
).where(*IS_SESSION)
_with_ids = _row.add_columns(sessions.c.has_message_ids)
_looking = _with_ids.add_columns(sessions.c.answer_fence, EXPIRED_FENCE)
# PostgreSQL's weaker lock lets foreign keys be checked.
_OLD, _PLAIN, _LOOKING = (
    each.with_for_update(key_share=True) for each in (_row, _with_ids, _looking)
)

MARK_DELETED = (
    update(sessions)
    .where(*IS_SESSION)
    .values(
        {
            "deleted_at": now(),
            "updated_at": now(),
            "title": None,
            "parent_id": None,
            # The lease ends too, so that a prune need not wait for it.
            "leased_until": 0,
        }
    )
)

DELETE_ROW = delete(sessions).where(*IS_SESSION)

_EMPTY: dict[str, Any] = {
    "owner": OF_OWNER,
    "id": OF_SESSION,
    "next_seq": 0,
    "turns": 0,  # no session yet
}
# An INSERT that ignores a row which exists would not lock it.
_INSERT_OR_LOCK = upsert(sessions, _EMPTY, {"next_seq": sessions.c.next_seq})


def lock_row(database: Database, target: Target, *, looks: bool) -> SessionRow:
    """Lock the session's row until the transaction ends, and return it.

    SELECT ... FOR UPDATE, so that no other transaction inserts, changes or removes the row in
    between; on SQLite the whole database is locked by then. ``looks``: whether to look for an open
    answer.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    plain = _PLAIN if has_answers(database) else _OLD
    rows = database.rows(_LOOKING if looks else plain, target)
    if not rows:
        return SessionRow()
    ((first, end, turns, archived, fence, deleted_at, parent_id, *more),) = rows
    has_ids, answer_fence, expired_fence = (*more, 0, None, None)[:3]
    if expired_fence is not None and deleted_at is None:
        raise AnswerExpired(target["of_session"], target["of_owner"])
    parent = None if parent_id is None else text_of(parent_id)
    is_deleted, has_open_answer = deleted_at is not None, answer_fence is not None
    return SessionRow(
        first, end, turns, archived, fence, is_deleted, parent, bool(has_ids), has_open_answer
    )


def lock_or_insert_row(database: Database, target: Target, *, looks: bool) -> SessionRow:
    """Lock the session's row and return it, as `lock_row` does; insert a missing one."""
    # On MySQL two that both look for a row which is missing could then not insert it.
    if database.dialect not in MYSQL:
        session = lock_row(database, target, looks=looks)
        if session != SessionRow():
            return session
    insert_or_lock_row(database, target)
    return lock_row(database, target, looks=looks)


def insert_or_lock_row(database: Database, target: Target) -> None:
    """Lock the session's row until the transaction ends; insert a missing one."""
    database.run(_INSERT_OR_LOCK[database.dialect], target)


def session_infos(rows: Sequence[Row]) -> list[SessionInfo]:
    """Return the descriptions in rows of `SESSION_INFO`; ``StoreCorrupt`` for a wrong type."""
    try:
        return [session_info(row) for row in rows]
    except WRONG_TYPE:
        raise wrong_type() from None


def session_info(row: Sequence[Any]) -> SessionInfo:
    """Return one row's description, or raise one of `WRONG_TYPE`."""
    session_id, title, length, created, updated, parent, owner = row
    return SessionInfo(
        text_of(session_id),
        None if title is None else text_of(title),
        length,
        time_of(created),
        time_of(updated),
        None if parent is None else text_of(parent),
        text_of(owner),
    )


def wrong_type() -> StoreCorrupt:
    """Return the error for a row with a value of another type."""
    return StoreCorrupt(
        "a session's row has a value of another type: hermes-sessions check names it"
    )
