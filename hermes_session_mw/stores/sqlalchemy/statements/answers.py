"""The SQL that begins, writes, ends and folds answers.

An open answer has the session's lease. ``answer_fence`` in the session's row is the fence of that
lease, and is NULL where no answer is open; so a statement that reads the row sees whether an answer
is open, and whether its writer still has the lease (`IS_EXPIRED`). Every write locks the session's
row first, and only then touches the answer's.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import committing, transaction
from hermes_session_mw.exceptions import (
    SessionBusy,
    SessionDeleted,
    SessionFull,
    TurnConflict,
    TurnLost,
)
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import MAX_MESSAGE_BYTES, Message, encode_messages
from hermes_session_mw.stores.answer_folding import Events, decode_events, folded, split_lines
from hermes_session_mw.stores.answers import AnswerState
from hermes_session_mw.stores.expiry import Setting
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    OF_OWNER,
    OF_SESSION,
    Target,
    answer_events,
    answers,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now, now_in_milliseconds
from hermes_session_mw.stores.sqlalchemy.statements.answer_notifications import (
    NOTIFY_FOLLOWERS,
    events_topic,
)
from hermes_session_mw.stores.sqlalchemy.statements.append import NewTitle, set_title
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, locks, reads, writes
from hermes_session_mw.stores.sqlalchemy.statements.labels import touch_labels
from hermes_session_mw.stores.sqlalchemy.statements.leases import (
    LEASE_END,
    in_milliseconds,
    next_fence,
)
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import leasing
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import add_turn
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import set_expiry
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    NO_LABELS,
    insert_or_lock_row,
)
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import check_replaced

FOLDED = 0
"""The fence of a folded answer, which no lease has."""

OF_ANSWER: BindParameter[str] = bindparam("of_answer", type_=answers.c.id.type)

IS_ANSWER = (answers.c.owner == OF_OWNER, answers.c.id == OF_ANSWER)
IN_ANSWER = (answer_events.c.owner == OF_OWNER, answer_events.c.answer_id == OF_ANSWER)

NEWEST: ColumnElement[int] = func.coalesce(
    select(answer_events.c.last)
    .where(answer_events.c.owner == answers.c.owner, answer_events.c.answer_id == answers.c.id)
    .order_by(answer_events.c.first.desc())
    .limit(1)
    .scalar_subquery(),
    0,
)
"""The number of an answer's newest event."""

_HELD = bindparam("held", type_=sessions.c.fence.type)
_IS_OF_SESSION = answers.c.session_id == OF_SESSION


class _Session(NamedTuple):
    """A locked session's row; ``remaining`` are the milliseconds of its lease."""

    fence: int = 0
    answer_fence: int | None = None
    length: int = 0
    turns: int = 0
    deleted_at: object = None
    remaining: int = 0
    has_labels: int = NO_LABELS

    @property
    def is_answering(self) -> bool:
        return self.answer_fence == self.fence and self.remaining > 0


_MISSING = _Session()


class _Answer(NamedTuple):
    """An answer's row, as its writer needs it."""

    fence: int
    state: AnswerState
    stop_requested: int
    newest: int
    length: int | None
    question: str
    turn_id: Any
    replace_from: int | None


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer that begins; the question's messages are JSON texts."""

    id: str
    session_id: str
    owner: str
    question: Sequence[str]
    turn_id: str | None
    replace_from: int | None
    digest: str | None = None
    begun: str | None = None
    expires_after: Setting | None = None


_remaining = sessions.c.leased_until - now_in_milliseconds()
_row = select(
    sessions.c.fence,
    sessions.c.answer_fence,
    sessions.c.next_seq - sessions.c.first_seq,
    sessions.c.turns,
    sessions.c.deleted_at,
    _remaining,
).where(*IS_SESSION)
# By whether the tables have labels.
_LOCK = {
    has_labels: locks(columns.with_for_update(key_share=True))
    for has_labels, columns in ((False, _row), (True, _row.add_columns(sessions.c.has_labels)))
}
# Read without a lock, for those who poll until they can begin.
_is_busy = select(_remaining).where(
    *IS_SESSION,
    sessions.c.leased_until > now_in_milliseconds(),
    ~select(answers.c.id).where(*IS_ANSWER).exists(),
)
_begun = reads(
    select(
        answers.c.session_id == OF_SESSION, answers.c.question, answers.c.fence, answers.c.state
    ).where(*IS_ANSWER),
    Content(1, "question", ("of_answer",)),
    session=answers.c.session_id,
)
_new_fence = next_fence(sessions.c.fence)
# In this order: MySQL computes each value from those that it has set already.
_begin = (
    update(sessions)
    .where(*IS_SESSION)
    .ordered_values(
        (sessions.c.answer_fence, _new_fence),
        (sessions.c.fence, _new_fence),
        (sessions.c.leased_until, LEASE_END),
        # Somebody asked: the session is in use, and is not pruned.
        (sessions.c.updated_at, now()),
    )
)
_fence = select(sessions.c.fence).where(*IS_SESSION)
_GIVEN = ("turn_id", "question", "replace_from", "digest", "fence", "begun")
_insert = writes(
    insert(answers).values(
        owner=OF_OWNER,
        id=OF_ANSWER,
        session_id=OF_SESSION,
        state="running",
        **{name: bindparam(name) for name in _GIVEN},
    ),
    Content("question", "question", ("of_answer",)),
    Content("begun", "begun", ("of_answer",)),
)

_IS_HELD = (
    *IS_SESSION,
    sessions.c.fence == _HELD,
    sessions.c.answer_fence == _HELD,
    sessions.c.deleted_at.is_(None),
)
_extend = (
    update(sessions)
    .where(*_IS_HELD)
    .values(leased_until=LEASE_END, updated_at=sessions.c.updated_at)
)
_deleted = select(sessions.c.deleted_at).where(*IS_SESSION)
_answer = reads(
    select(
        answers.c.fence,
        answers.c.state,
        answers.c.stop_requested,
        NEWEST,
        answers.c.length,
        answers.c.question,
        answers.c.turn_id,
        answers.c.replace_from,
    ).where(*IS_ANSWER, _IS_OF_SESSION),
    Content(5, "question", ("of_answer",)),
)
_EVENT_COLUMNS = ("owner", "answer_id", "first", "last", "body", "growth")
_event_row = {
    "owner": OF_OWNER,
    "answer_id": OF_ANSWER,
    **{name: bindparam(name, type_=answer_events.c[name].type) for name in _EVENT_COLUMNS[2:]},
}
_add_events = writes(
    insert(answer_events).values(_event_row),
    Content("body", "events", ("of_answer", "first")),
    Content("growth", "growth", ("of_answer", "first")),
)

_end = (
    update(answers)
    .where(*IS_ANSWER)
    .values(
        state=bindparam("how"),
        fence=_HELD,
        message=bindparam("answer"),
        length=bindparam("after"),
        ended_at=now_in_milliseconds(),
    )
)
_end_and_notify = _end.returning(NOTIFY_FOLLOWERS)
for _each in (_end, _end_and_notify):
    writes(_each, Content("answer", "answer", ("of_answer",)))
_notify = select(NOTIFY_FOLLOWERS).where(*IS_ANSWER)
_close = (
    update(sessions)
    .where(*IS_SESSION)
    .ordered_values(
        # Another's lease goes on.
        (
            sessions.c.leased_until,
            case((sessions.c.answer_fence == sessions.c.fence, 0), else_=sessions.c.leased_until),
        ),
        (sessions.c.answer_fence, null()),
        (sessions.c.updated_at, sessions.c.updated_at),
    )
)
_open = reads(
    select(answers.c.id, answers.c.question, answers.c.begun, answers.c.replace_from).where(
        *in_session(answers), answers.c.state == "running"
    ),
    Content(1, "question", (0,)),
    Content(2, "begun", (0,)),
)
_writes = reads(
    select(
        answer_events.c.growth,
        # Not read where it is not needed.
        case((answer_events.c.growth.is_(None), answer_events.c.body)),
    )
    .where(*IN_ANSWER)
    .order_by(answer_events.c.first),
    Content(0, "growth", ("of_answer", answer_events.c.first)),
    Content(1, "events", ("of_answer", answer_events.c.first)),
)

_remove_events = delete(answer_events).where(
    answer_events.c.owner == OF_OWNER,
    answer_events.c.answer_id.in_(select(answers.c.id).where(*in_session(answers))),
)
_remove = delete(answers).where(*in_session(answers))
_move = update(answers).where(*in_session(answers)).values(session_id=bindparam("new_id"))


def _in_one_statement() -> Executable:
    """Return PostgreSQL's write in one statement; it returns whether a stop was requested.

    Followers in other processes are notified when it is committed.

    If there is a reason not to write, it returns no row and stores nothing; a transaction then
    finds the reason.
    """
    held = (
        update(sessions)
        .where(*_IS_HELD)
        .values(leased_until=LEASE_END)
        .returning(sessions.c.fence)
        .cte("held")
    )
    its_own = (*IS_ANSWER, _IS_OF_SESSION, answers.c.fence == _HELD)
    row = select(*(_event_row[name] for name in _EVENT_COLUMNS)).select_from(
        answers.join(held, true())
    )
    added = (
        postgresql.insert(answer_events)
        .from_select(_EVENT_COLUMNS, row.where(*its_own, _event_row["first"] == NEWEST + 1))
        .on_conflict_do_nothing()
        .returning(answer_events.c.first)
        .cte("added")
    )
    return (
        select(answers.c.stop_requested, NOTIFY_FOLLOWERS)
        .select_from(answers.join(added, true()))
        .where(*its_own)
    )


_write_in_one = _in_one_statement()


def begin(
    database: Database, answer: NewAnswer, seconds: float, fence: int | None, max_turns: int,
    max_bytes: int,
) -> int:  # fmt: skip
    """See `AnswerStore.begin_answer`; an older answer is folded with up to ``max_bytes``."""
    target = Target(of_session=answer.session_id, of_owner=answer.owner)
    names = {**target, "of_answer": answer.id}
    question = _array(answer.question)
    if fence is None:
        for (remaining,) in database.rows(_is_busy, names):
            raise SessionBusy(max(remaining, 1) / 1000)
    with leasing(database, seconds), transaction(database):
        insert_or_lock_row(database, target)
        session = _locked(database, target)
        for is_its_own, asked, begun, state in database.rows(_begun, names):
            if not (is_its_own and asked == question and state == "running"):
                raise TurnConflict
            if begun != session.fence:
                raise TurnLost
            return int(begun)
        _check_free(session, fence)
        if _fold(database, target, max_bytes):
            session = _locked(database, target)
        _check_turn(database, target, session, answer, max_turns)
        new = _take_lease(database, target, session, seconds)
        if answer.expires_after is not None:
            set_expiry(database, target, answer.expires_after)
        row = {"turn_id": answer.turn_id, "replace_from": answer.replace_from}
        row |= {"question": question, "digest": answer.digest, "fence": new}
        row |= {"begun": answer.begun}
        database.run(_insert, {**names, **row})
    return new


def _take_lease(database: Database, target: Target, session: _Session, seconds: float) -> int:
    """Give the session a lease for an answer, and return the fence."""
    database.run(_begin, {**target, "lease": in_milliseconds(seconds)})
    if session.has_labels:
        touch_labels(database, target)
    ((new,),) = database.rows(_fence, target)
    return int(new)


def write(
    database: Database,
    session_id: str,
    answer_id: str,
    events: Events,
    owner: str,
    *,
    fence: int,
    seconds: float,
) -> bool:
    """See `AnswerStore.write_events`."""
    target = Target(of_session=session_id, of_owner=owner)
    parameters = {**target, "of_answer": answer_id, "held": fence}
    parameters |= {"lease": in_milliseconds(seconds), "topic": events_topic(answer_id, owner)}
    with leasing(database, seconds):
        return _write(database, target, parameters, events)


def _write(database: Database, target: Target, parameters: dict[str, Any], events: Events) -> bool:
    """Write events with ``parameters``, and return whether a stop was requested."""
    # Only where the statement is known to be committed by itself.
    is_alone = database.dialect == "postgresql" and not database.encrypts
    if events.bodies and is_alone and database.in_transaction() is False:
        with committing():
            done = database.rows(_write_in_one, {**parameters, **_row_of(events)})
            database.check_no_transaction("after the write")
        if done:
            return bool(done[0][0])
    with transaction(database):
        if not database.run(_extend, parameters):
            _refuse(database, target)
        answer = _its_own(database, parameters)
        _add(database, parameters, events.after(answer.newest))
        if events.bodies and database.dialect == "postgresql":
            database.rows(_notify, parameters)
    return bool(answer.stop_requested)


def end(
    database: Database,
    session_id: str,
    answer_id: str,
    events: Events,
    bodies: Sequence[str],
    owner: str,
    *,
    fence: int,
    state: AnswerState,
    title: NewTitle | None = None,
) -> int | None:
    """See `AnswerStore.end_answer`; the messages come as JSON texts.

    ``title`` is for a session that has none, and fewer turns than the title says.
    """
    target = Target(of_session=session_id, of_owner=owner)
    parameters = {**target, "of_answer": answer_id, "held": fence}
    with transaction(database):
        session = _locked(database, target)
        rows = database.rows(_answer, parameters)
        answer = _Answer(*rows[0]) if rows else None
        if answer is not None and answer.fence == fence and answer.state != "running":
            return answer.length
        if session.deleted_at is not None or not session.fence == session.answer_fence == fence:
            _refuse(database, target)
        if answer is None or answer.fence != fence:
            raise TurnLost
        _add(database, parameters, events.after(answer.newest))
        turn_id = _text(answer.turn_id) if state == "completed" else None
        length = _store(database, target, bodies, turn_id, answer.replace_from)
        if title is not None and bodies and session.turns < title.turns:
            set_title(database, target, title)
        asked = len(parse_array(answer.question))
        message = bodies[-1] if len(bodies) > asked else None
        _set_ended(database, parameters, state, message, length)
        database.run(_close, target)
    return length


def fold(database: Database, session_id: str, owner: str, max_bytes: int) -> None:
    """Fold the session's open answer, if its lease has expired."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        session = _locked(database, target)
        if session is _MISSING or session.deleted_at is not None:
            remove_answers(database, target)  # an earlier version's prune or deletion left them
        elif not session.is_answering and not _fold(database, target, max_bytes):
            database.run(_close, target)  # in case the row names an answer that was removed by hand


def fold_open(database: Database, target: Target, max_bytes: int = MAX_MESSAGE_BYTES) -> bool:
    """Fold the open answer of a session whose row is locked; return whether there was one."""
    return has_answers(database) and _fold(database, target, max_bytes)


def remove_answers(database: Database, target: Target) -> None:
    """Remove the answers of a session whose row is locked."""
    if has_answers(database):
        database.run(_remove_events, target)
        database.run(_remove, target)
        database.run(_close, target)


def move_answers(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the answers of a session with it; remove them where the owner is another."""
    if new_owner != target["of_owner"]:
        remove_answers(database, target)
    elif has_answers(database):
        database.run(_move, {**target, "new_id": new_id})


def _locked(database: Database, target: Target) -> _Session:
    rows = database.rows(_LOCK[has_label_columns(database)], target)
    return _Session(*rows[0]) if rows else _MISSING


def _check_free(session: _Session, fence: int | None) -> None:
    """Check that the lease is free or has this fence, and that no answer is going on."""
    if session.deleted_at is not None:
        raise SessionDeleted
    if fence is not None and fence != session.fence:
        raise TurnLost
    if session.remaining > 0 and (fence is None or session.is_answering):
        raise SessionBusy(session.remaining / 1000)


def _check_turn(
    database: Database, target: Target, session: _Session, answer: NewAnswer, max_turns: int
) -> None:
    """Check that the answer's turn can be stored at its end, as far as that is known."""
    if answer.turn_id is not None and rows_of_turn(database, answer.turn_id, target):
        raise TurnConflict
    keep = session.length if answer.replace_from is None else answer.replace_from
    check_replaced(keep, session.length)
    if session.turns >= max_turns and keep + len(answer.question) + 1 > session.length:
        raise SessionFull(max_turns)


def _its_own(database: Database, parameters: dict[str, Any]) -> _Answer:
    """Return the open answer with this fence."""
    for row in database.rows(_answer, parameters):
        answer = _Answer(*row)
        if answer.fence == parameters["held"] and answer.state == "running":
            return answer
    raise TurnLost


def _refuse(database: Database, target: Target) -> None:
    """Raise the reason why a writer has lost its lease."""
    for (deleted_at,) in database.rows(_deleted, target):
        if deleted_at is not None:
            raise SessionDeleted
    raise TurnLost


def _add(database: Database, parameters: dict[str, Any], events: Events) -> None:
    if events.bodies:
        database.run(_add_events, {**parameters, **_row_of(events)})


def _row_of(events: Events) -> dict[str, Any]:
    last = events.first + len(events.bodies) - 1
    return {"first": events.first, "last": last, "body": events.lines, "growth": events.growth}


def _store(
    database: Database,
    target: Target,
    bodies: Sequence[str],
    turn_id: str | None,
    replace_from: int | None,
) -> int | None:
    """Append an answer's turn, if there is any; return the length after it."""
    if not bodies:
        return None
    return add_turn(
        database,
        target,
        bodies,
        turn_id or mint_turn_id(),
        replace_from,
        may_be_stored=turn_id is not None,
        max_turns=None,
    )


def _set_ended(
    database: Database,
    parameters: dict[str, Any],
    state: AnswerState,
    message: str | None,
    length: int | None,
) -> None:
    """Note how an answer ended, and notify its followers."""
    ended = {**parameters, "how": state, "answer": message, "after": length}
    if database.dialect == "postgresql":
        topic = events_topic(parameters["of_answer"], parameters["of_owner"])
        database.run(_end_and_notify, {**ended, "topic": topic})
    else:
        database.run(_end, ended)


def _fold(database: Database, target: Target, max_bytes: int) -> bool:
    """Fold the open answer of a session whose row is locked; return whether there was one."""
    found = database.rows(_open, target)
    for answer_id, question, begun, keep in found:
        names = {**target, "of_answer": _text(answer_id)}
        asked = _texts(question)
        writes = [
            (growth, split_lines([lines]) if growth is None else [])
            for growth, lines in database.rows(_writes, names)
        ]
        bodies = folded(asked, begun, writes, replaces=keep is not None, max_bytes=max_bytes)
        # The history may be shorter by now.
        most = None if keep is None else min(keep, _locked(database, target).length)
        length = _store(database, target, bodies, None, most)
        message = bodies[-1] if len(bodies) > len(asked) else None
        _set_ended(database, {**names, "held": FOLDED}, "incomplete", message, length)
    if found:
        database.run(_close, target)
    return bool(found)


def parse_array(array: str) -> list[Message]:
    """Return the messages of a JSON array."""
    return cast("list[Message]", decode_events([array])[0])


def _text(key: Any) -> str | None:
    return None if key is None else text_of(key)


def _texts(array: str) -> list[str]:
    """Return the JSON texts of the messages in an array."""
    messages = parse_array(array)
    return encode_messages(messages, sys.maxsize, sys.maxsize) if messages else []


def _array(bodies: Sequence[str]) -> str:
    return f"[{','.join(bodies)}]"
