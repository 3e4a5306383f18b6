"""Reads and locks a session's row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    delete,
    null,
    or_,
    select,
    update,
)

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.dialects import MYSQL, upsert
from hermes_session_mw.exceptions import StoreCorrupt
from hermes_session_mw.messages import decode_messages, is_encrypted, needs_keys, parse_json
from hermes_session_mw.stores.labels import pairs_of
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    IS_STORED,
    OF_OWNER,
    OF_SESSION,
    Target,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of, now
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, locks
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    EXPIRED_FENCE,
    AnswerExpired,
)

LENGTH = sessions.c.next_seq - sessions.c.first_seq
"""The number of messages in the history."""

UPDATED_AT = microseconds_of(sessions.c.updated_at)
_LAST_UPDATE = bindparam("changed", type_=sessions.c.next_seq.type)

NO_LABELS, SOME_LABELS, WITH_PAIRS = range(3)
"""The values of ``has_labels``: ``hermes_labels`` has no rows of it, some, or some of its pairs."""

_info = select(
    sessions.c.id,
    sessions.c.title,
    LENGTH,
    microseconds_of(sessions.c.created_at),
    UPDATED_AT,
    sessions.c.parent_id,
    sessions.c.owner,
).where(*IS_STORED)
SESSION_INFO: dict[bool, Select[Any]] = {
    False: _info,
    True: _info.add_columns(
        sessions.c.tags,
        sessions.c.pinned,
        sessions.c.shelved,
        # Not read where it is a framework's state alone.
        case((sessions.c.has_labels == WITH_PAIRS, sessions.c.metadata)).label("pairs"),
    ),
}
"""The columns that `session_info` takes, of every session that has a turn.

By whether the tables have labels (`has_label_columns`).
"""

_title = Content(1, "title", may_lack=True, may_lack_key=True)
INFO_CONTENT: dict[bool, tuple[Content, ...]] = {
    False: (_title,),
    True: (_title, Content(10, "metadata", may_lack=True, may_lack_key=True)),
}
"""The content in a row of `SESSION_INFO`: a list goes on without what cannot be decrypted."""

WRONG_TYPE = (TypeError, ValueError, OverflowError)
"""Python's errors for a value of another type than its column's."""


class SessionRow(NamedTuple):
    """The counters of a session; its messages have the numbers from ``first`` to before ``end``.

    ``has_ids`` says whether messages may have ids, ``has_labels`` whether the session has a label,
    and ``has_data_key`` whether content may be encrypted. ``has_open_answer`` is known only if the
    row was read with a look.
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
    has_labels: int = NO_LABELS
    has_data_key: bool = False

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
_with_ids = _row.add_columns(
    sessions.c.has_message_ids, case((sessions.c.data_key.is_not(None), 1), else_=0)
)
_looking = _with_ids.add_columns(sessions.c.answer_fence, EXPIRED_FENCE)
# PostgreSQL's weaker lock lets foreign keys be checked.
_OLD, _PLAIN, _LOOKING, _LABELLED, _ALL = (
    locks(each.with_for_update(key_share=True))
    for each in (
        _row,
        _with_ids,
        _looking,
        _with_ids.add_columns(null(), null(), sessions.c.has_labels),
        _looking.add_columns(sessions.c.has_labels),
    )
)
_UNKNOWN = (0, 0, None, None, NO_LABELS)

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
    if has_label_columns(database):
        statement = _ALL if looks else _LABELLED
    else:
        plain = _PLAIN if has_answers(database) else _OLD
        statement = _LOOKING if looks else plain
    rows = database.rows(statement, target)
    if not rows:
        return SessionRow()
    ((first, end, turns, archived, fence, deleted_at, parent_id, *more),) = rows
    told: list[Any] = [*more, *_UNKNOWN[len(more) :]]
    has_ids, has_key, answer_fence, expired_fence, has_labels = told
    if expired_fence is not None and deleted_at is None:
        raise AnswerExpired(target["of_session"], target["of_owner"])
    parent = None if parent_id is None else text_of(parent_id)
    is_deleted, has_open_answer = deleted_at is not None, answer_fence is not None
    return SessionRow(
        first,
        end,
        turns,
        archived,
        fence,
        is_deleted,
        parent,
        bool(has_ids),
        has_open_answer,
        has_labels,
        bool(has_key),
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
    session_id, title, length, created, updated, parent, owner, *more = row
    tags, pinned, shelved, metadata = more or (None, 0, 0, None)
    return SessionInfo(
        text_of(session_id),
        None if title is None else _plain(text_of(title)),
        length,
        time_of(created),
        time_of(updated),
        None if parent is None else text_of(parent),
        text_of(owner),
        tags=tags_of(tags),
        pinned=bool(pinned),
        shelved=bool(shelved),
        metadata=_pairs(metadata),
    )


def _plain(title: str) -> str:
    if is_encrypted(title):
        raise needs_keys()
    return title


def _pairs(metadata: Any) -> dict[str, str]:
    return {} if metadata is None else dict(pairs_of(decode_messages([text_of(metadata)])[0]))


def tags_of(stored: Any) -> tuple[str, ...]:
    """Return the tags in a row's column."""
    return () if stored is None else tuple(parse_json(text_of(stored)))


def wrong_type() -> StoreCorrupt:
    """Return the error for a row with a value of another type."""
    return StoreCorrupt(
        "a session's row has a value of another type: hermes-sessions check names it"
    )
