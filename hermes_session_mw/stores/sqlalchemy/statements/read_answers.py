"""The SQL that reads answers and their events, asks for their end, and forgets them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, bindparam, case, delete, func, literal_column, select, update

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.transactions import committing, transaction
from hermes_session_mw.messages import decode_messages, is_encrypted, needs_keys
from hermes_session_mw.stores.answer_folding import split_lines
from hermes_session_mw.stores.answers import AnswerRecord, AnswerState
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    OF_OWNER,
    Target,
    answer_events,
    answers,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds
from hermes_session_mw.stores.sqlalchemy.statements.answer_notifications import (
    FOLLOWED_FOR,
    NOTIFY,
    stop_topic,
)
from hermes_session_mw.stores.sqlalchemy.statements.answers import (
    IN_ANSWER,
    IS_ANSWER,
    NEWEST,
    OF_ANSWER,
    parse_array,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    IS_EXPIRED,
    AnswerExpired,
)


class Lapsed(NamedTuple):
    """The session of an answer that is to be folded."""

    owner: str
    session_id: str


_with_session = answers.outerjoin(
    sessions, and_(sessions.c.owner == answers.c.owner, sessions.c.id == answers.c.session_id)
)
_is_running = answers.c.state == "running"
# Also where the session names another answer, or none, or is not there.
_is_lapsed = case(
    (answers.c.state != "running", 0),
    (and_(sessions.c.answer_fence == answers.c.fence, ~IS_EXPIRED), 0),
    else_=1,
)
_record = select(
    _is_lapsed,
    answers.c.id,
    answers.c.session_id,
    answers.c.state,
    NEWEST,
    answers.c.question,
    answers.c.turn_id,
    answers.c.replace_from,
    answers.c.message,
    answers.c.stop_requested,
    answers.c.digest,
).select_from(_with_session)
_RECORDED = (Content(5, "question", (1,)), Content(8, "answer", (1,)))
_find = reads(_record.where(*IS_ANSWER), *_RECORDED, session=2)
_open = reads(_record.where(*in_session(answers), _is_running), *_RECORDED, session=2)
_of_turn = reads(
    _record.where(*in_session(answers), answers.c.turn_id == bindparam("turn"))
    .order_by(answers.c.ended_at.is_(None).desc(), answers.c.ended_at.desc())
    .limit(1),
    *_RECORDED,
    session=2,
)

_AFTER = bindparam("after", type_=answer_events.c.first.type)
_begins = answer_events.alias("begins")
# The row with the first event that is asked for, found by the key alone.
_start = func.coalesce(
    select(_begins.c.first)
    .where(
        _begins.c.owner == OF_OWNER,
        _begins.c.answer_id == OF_ANSWER,
        _begins.c.first <= _AFTER + 1,
    )
    .order_by(_begins.c.first.desc())
    .limit(1)
    .scalar_subquery(),
    0,
)
_read = reads(
    select(
        _is_lapsed,
        answers.c.session_id,
        answers.c.state,
        answer_events.c.first,
        answer_events.c.body,
    )
    .select_from(
        _with_session.outerjoin(
            answer_events,
            and_(
                answer_events.c.owner == answers.c.owner,
                answer_events.c.answer_id == answers.c.id,
                answer_events.c.first >= _start,
                answer_events.c.last > _AFTER,
            ),
        )
    )
    .where(*IS_ANSWER)
    .order_by(answer_events.c.first)
    .limit(bindparam("limit")),
    Content(4, "events", ("of_answer", 3)),
    session=1,
)
_stop = update(answers).where(*IS_ANSWER, _is_running).values(stop_requested=literal_column("1"))
_stop_and_notify = _stop.returning(NOTIFY)
_follow = (
    update(answers)
    .where(*IS_ANSWER, _is_running)
    .values(followed_until=now_in_milliseconds() + round(FOLLOWED_FOR * 1000))
)

LAPSED: Select[Any] = (
    select(answers.c.owner, answers.c.session_id)
    .select_from(_with_session)
    .where(answers.c.ended_at.is_(None), _is_lapsed == 1)
)
"""The owners and ids of sessions with an answer that is to be folded."""

_lapsed = LAPSED.limit(bindparam("limit"))
_old = (
    select(answers.c.owner, answers.c.id)
    .where(
        answers.c.ended_at < now_in_milliseconds() - bindparam("age", type_=answers.c.ended_at.type)
    )
    .order_by(answers.c.ended_at)
    .limit(bindparam("limit"))
)
_forget_events = delete(answer_events).where(*IN_ANSWER)
_forget = delete(answers).where(*IS_ANSWER)


# The functions that ``folds`` raise ``AnswerExpired`` for an answer that is to be folded first;
# else they tell what is stored.


def find(
    database: Database, answer_id: str, owner: str, *, folds: bool = True
) -> AnswerRecord | None:
    """See `AnswerStore.find_answer`."""
    rows = database.rows(_find, {"of_owner": owner, "of_answer": answer_id})
    return _first(rows, owner, folds=folds)


def find_of_turn(
    database: Database, session_id: str, turn_id: str, owner: str, *, folds: bool = True
) -> AnswerRecord | None:
    """See `AnswerStore.find_answer_of_turn`."""
    parameters = {**Target(of_session=session_id, of_owner=owner), "turn": turn_id}
    return _first(database.rows(_of_turn, parameters), owner, folds=folds)


def find_open(
    database: Database, session_id: str, owner: str, *, folds: bool = True
) -> AnswerRecord | None:
    """See `AnswerStore.open_answer`."""
    rows = database.rows(_open, Target(of_session=session_id, of_owner=owner))
    return _first(rows, owner, folds=folds)


def read(
    database: Database, answer_id: str, owner: str, after: int, limit: int, *, folds: bool = True
) -> tuple[AnswerState, list[str]] | None:
    """See `AnswerStore.read_events`."""
    # Each row has one event at least.
    parameters = {"of_owner": owner, "of_answer": answer_id, "after": after, "limit": limit}
    rows = database.rows(_read, parameters)
    if not rows:
        return None
    is_lapsed, session_id, state, first, _ = rows[0]
    if is_lapsed and folds:
        raise AnswerExpired(text_of(session_id), owner)
    if first is None:
        return state, []
    if any(map(is_encrypted, [lines for *_, lines in rows])):
        raise needs_keys()
    events = split_lines(lines for *_, lines in rows)
    skipped = max(after + 1 - first, 0)
    return state, events[skipped : skipped + limit]


def stop(database: Database, answer_id: str, owner: str) -> bool:
    """See `AnswerStore.request_stop`; the answer's lease is not looked at."""
    parameters = {"of_owner": owner, "of_answer": answer_id}
    with transaction(database):
        if database.dialect != "postgresql":
            return database.run(_stop, parameters) > 0
        topic = stop_topic(answer_id, owner)
        return database.run(_stop_and_notify, {**parameters, "topic": topic}) > 0


def follow(database: Database, answer_id: str, owner: str) -> None:
    """Have the events of a running answer told to all who listen, for ``FOLLOWED_FOR`` seconds."""
    with committing():
        database.run(_follow, {"of_owner": owner, "of_answer": answer_id})


def find_lapsed(database: Database, limit: int) -> list[Lapsed]:
    """Return the sessions of answers that are to be folded."""
    rows = database.rows(_lapsed, {"limit": limit})
    return [Lapsed(text_of(owner), text_of(session_id)) for owner, session_id in rows]


def forget(database: Database, retention: float, limit: int) -> int:
    """Remove answers that ended more than ``retention`` seconds ago; return how many."""
    # More than any clock has counted, and less than any database's greatest number.
    age = round(min(retention, 2**40) * 1000)
    rows = database.rows(_old, {"age": age, "limit": limit})
    return remove(database, [(text_of(owner), text_of(answer_id)) for owner, answer_id in rows])


def remove(database: Database, names: Sequence[tuple[str, str]]) -> int:
    """Remove answers that have ended, by their owners and ids; return how many."""
    parameters = [{"of_owner": owner, "of_answer": answer_id} for owner, answer_id in names]
    if parameters:
        with transaction(database):
            database.run(_forget_events, *parameters)
            database.run(_forget, *parameters)
    return len(parameters)


def _first(rows: Sequence[Row], owner: str, *, folds: bool) -> AnswerRecord | None:
    if not rows:
        return None
    lapsed, answer_id, session_id, state, newest, question, turn_id, *others = rows[0]
    keep, message, is_stopping, digest = others
    if lapsed and folds:
        raise AnswerExpired(text_of(session_id), owner)
    return AnswerRecord(
        text_of(answer_id),
        text_of(session_id),
        state,
        newest,
        parse_array(question),
        None if turn_id is None else text_of(turn_id),
        keep,
        None if message is None else decode_messages([message])[0],
        bool(is_stopping),
        state == "running" and not lapsed,
        digest,
    )
