"""The SQL that loads a range of a history, with what a plain load does without.

One statement returns a first row with the history's numbers and the session's metadata, and a row
for each message. They have the same columns, and each value is read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, case, func, literal_column, null, select
from sqlalchemy import union_all as union

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.messages import Message, decode_messages, parse_messages
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.message_store import HistoryRange, StoredMessage
from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    Target,
    in_session,
    message_ids,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements.content import Content
from hermes_session_mw.stores.sqlalchemy.statements.history_texts import (
    PORTION,
    SEPARATOR,
    HistoryTexts,
)
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import LookingSelect
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import METADATA

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FARTHEST = 2**62
"""The greatest index from either end that no database adds too much to."""

_start = bindparam("start", type_=BigInteger())
_limit = bindparam("limit", type_=BigInteger())
_CREATED_AT = microseconds_of(messages.c.created_at)


def _of_row(column: Any, *conditions: Any) -> Any:
    return select(column).where(*IS_SESSION, *conditions).scalar_subquery()


_FIRST = _of_row(sessions.c.first_seq)
_END = _of_row(sessions.c.next_seq)
# A deleted session's row keeps its numbers.
_LENGTH = _of_row(sessions.c.next_seq - sessions.c.first_seq, sessions.c.deleted_at.is_(None))
_head = select(
    literal_column("1").label("is_head"),
    func.coalesce(_LENGTH, 0).label("number"),
    null().label("turn_id"),
    METADATA.scalar_subquery().label("body"),
    null().label("message_id"),
    func.coalesce(_FIRST, 0).label("moment"),
)
# Where a session has no ids, none is looked for.
_MESSAGE_ID = case(
    (
        _of_row(sessions.c.has_message_ids) == 1,
        select(message_ids.c.message_id)
        .where(*in_session(message_ids), message_ids.c.seq == messages.c.seq)
        .limit(1)
        .scalar_subquery(),
    )
)


@cache
def _statement(*, from_the_end: bool, since: bool, with_ids: bool) -> LookingSelect:
    """Return the statement of a range; tables of an earlier version have no ids."""
    columns = select(
        literal_column("0").label("is_head"),
        messages.c.seq.label("number"),
        messages.c.turn_id.label("turn_id"),
        messages.c.body.label("body"),
        (_MESSAGE_ID if with_ids else null()).label("message_id"),
        _CREATED_AT.label("moment"),
    ).where(*IN_SESSION)
    make = _since if since else _of_numbers
    rows = union(_head, select(make(columns, from_the_end=from_the_end).subquery()))
    return LookingSelect(
        rows,
        content=(
            Content(3, "metadata", when=(0, 1)),
            Content(3, "message", (1,), when=(0, 0)),
        ),
    )


def _of_numbers(columns: Select[Any], *, from_the_end: bool) -> Select[Any]:
    # The numbers have no gaps: the range is one of the primary key.
    begin = (_END if from_the_end else _FIRST) + _start
    return columns.where(messages.c.seq >= begin).order_by(messages.c.seq).limit(_limit)


def _since(columns: Select[Any], *, from_the_end: bool) -> Select[Any]:
    """Return the range among the messages since a time, for which all are looked at."""
    later = columns.where(bindparam("since", type_=BigInteger()) <= _CREATED_AT)
    if not from_the_end:
        return later.order_by(messages.c.seq).limit(_limit).offset(_start)
    newest = later.order_by(messages.c.seq.desc()).limit(bindparam("newest")).subquery()
    return select(newest).order_by(newest.c.number).limit(_limit)


@dataclass(frozen=True, slots=True)
class FoundRange:
    """A range of a history whose messages may not be parsed yet.

    Attributes:
        history: its messages, and the length of the whole history.
        rows: each message's index, turn id, message id and time.
        metadata: the session's.
    """

    history: History | HistoryTexts
    rows: Sequence[tuple[int, str, str | None, datetime]]
    metadata: Message | None

    def with_messages(self, parsed: Sequence[Message]) -> HistoryRange:
        """Return the range, whose messages are ``parsed``."""
        stored = [
            StoredMessage(message, *row) for message, row in zip(parsed, self.rows, strict=True)
        ]
        return HistoryRange(stored, self.history.length, self.metadata)


def load_range(
    database: Database,
    session_id: str,
    owner: str,
    start: int,
    limit: int | None,
    since: datetime | None,
    *,
    folds: bool = True,
) -> FoundRange:
    """See `MessageStore.load_range`; one statement. Long texts are not parsed.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    target = Target(of_session=session_id, of_owner=owner)
    statement = _statement(
        from_the_end=start < 0, since=since is not None, with_ids=has_answers(database)
    )
    start = min(max(start, -_FARTHEST), _FARTHEST)
    parameters = {"limit": MAX_INTEGER if limit is None else min(limit, MAX_INTEGER)}
    if since is not None:
        parameters["since"] = (since - _EPOCH) // timedelta(microseconds=1)
    which = {"newest": -start} if since is not None and start < 0 else {"start": start}
    found = statement.rows(database, target, folds=folds, **parameters, **which)
    ((_, length, _, metadata, _, first),) = (row for row in found if row[0])
    rows = sorted((row for row in found if not row[0]), key=lambda row: row[1])
    return FoundRange(
        _history(rows, length),
        [
            (seq - first, text_of(turn), None if id_ is None else text_of(id_), time_of(at))
            for _, seq, turn, _, id_, at in rows
        ],
        None if metadata is None else decode_messages([text_of(metadata)])[0],
    )


def load_range_parsed(database: Database, **arguments: Any) -> HistoryRange:
    """See `load_range`; parse the messages too, in a worker thread."""
    found = load_range(database, **arguments)
    history = found.history if isinstance(found.history, History) else found.history.parse()
    return found.with_messages(history.messages)


def _history(rows: Sequence[Row], length: int) -> History | HistoryTexts:
    texts = SEPARATOR.join([row[3] for row in rows])
    if len(texts) <= PORTION:
        return History(parse_messages(texts, len(rows)), length, exists=True)
    return HistoryTexts(texts, len(rows), length)
