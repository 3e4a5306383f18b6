"""The SQL that appends a turn."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from hermes_session_mw.database.connection import Database, Row
from hermes_session_mw.database.dialects import MYSQL, upsert
from hermes_session_mw.database.transactions import committing, transaction
from hermes_session_mw.exceptions import SessionConflict, SessionDeleted, SessionFull, TurnLost
from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    KNOWN_LABELS,
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    OF_OWNER,
    OF_SESSION,
    Target,
    in_session,
    labels,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, locks, writes
from hermes_session_mw.stores.sqlalchemy.statements.labels import touch_labels
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    EXPIRED_FENCE,
    AnswerExpired,
    may_expire,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import NO_LABELS, SessionRow
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import length_after_repeat

_COLUMNS = ("owner", "session_id", "seq", "turn_id", "body")
_OWN = {"owner": OF_OWNER, "session_id": OF_SESSION}
_add = writes(
    insert(messages).values(_OWN | {name: bindparam(name) for name in _COLUMNS[2:]}),
    Content("body", "message", ("seq",)),
)

# Taking the next ``count`` numbers takes the session's row lock with them, until the commit.
_count: BindParameter[int] = bindparam("count")
_FIRST: dict[str, Any] = {
    "owner": OF_OWNER,
    "id": OF_SESSION,
    "next_seq": _count,
    "turns": 1,
    # The default of SQLite's older tables has whole seconds.
    "updated_at": now(),
}
_LATER: dict[str, Any] = {
    "next_seq": sessions.c.next_seq + _count,
    "turns": sessions.c.turns + 1,
    "updated_at": now(),
}
_COUNTERS: tuple[ColumnElement[Any], ...] = (
    sessions.c.next_seq,
    sessions.c.first_seq,
    sessions.c.turns,
    sessions.c.archived,
    sessions.c.fence,
    sessions.c.deleted_at,
)


# What is told of a session: always; where an edit may free ids; and by tables with labels. And
# whether it has an expired answer, which the tables without answers have not.
_WITH_IDS = (*_COUNTERS, sessions.c.has_message_ids)
_ROWS = (_COUNTERS, _WITH_IDS, (*_WITH_IDS, sessions.c.has_labels))
_TITLE = bindparam("new_title", type_=sessions.c.title.type)
_later_title = case(
    (
        sessions.c.turns < bindparam("title_turns", type_=sessions.c.turns.type),
        func.coalesce(sessions.c.title, _TITLE),
    ),
    else_=sessions.c.title,
)
# By whether a title is given. It comes before the turns are counted: MySQL would compute it then.
_CHANGES: dict[bool, tuple[dict[str, Any], dict[str, Any]]] = {
    False: (_FIRST, _LATER),
    True: ({**_FIRST, "title": _TITLE}, {"title": _later_title, **_LATER}),
}


_set_title = writes(
    update(sessions)
    .where(*IS_SESSION)
    .values(title=func.coalesce(sessions.c.title, _TITLE), updated_at=sessions.c.updated_at),
    Content("new_title", "title"),
)


class NewTitle(NamedTuple):
    """A title for a session that has none, and not as many as ``turns``."""

    text: str
    turns: int = MAX_INTEGER

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of statements that set it."""
        return {"new_title": self.text, "title_turns": self.turns}


def set_title(database: Database, target: Target, title: NewTitle) -> None:
    """Set the title of a session whose row is locked, if it has none."""
    database.run(_set_title, {**target, "new_title": title.text})


@cache
def _returned(form: int, *, looks: bool) -> tuple[ColumnElement[Any], ...]:
    return (*_ROWS[form], EXPIRED_FENCE) if looks else _ROWS[form]


@cache
def _take_numbers(form: int, *, looks: bool, titled: bool) -> dict[str, Executable]:
    columns = _returned(form, looks=looks)
    return {
        dialect: statement if dialect in MYSQL else locks(statement.returning(*columns))
        for dialect, statement in upsert(sessions, *_CHANGES[titled]).items()
    }


@cache
def _counters_of(form: int, *, looks: bool) -> Executable:
    """MySQL returns nothing from an INSERT; under the lock a second statement reads the same."""
    return locks(select(*_returned(form, looks=looks)).where(*IS_SESSION))


_return_numbers = (
    update(sessions)
    .where(*IS_SESSION)
    .values(next_seq=sessions.c.next_seq - bindparam("taken"), turns=sessions.c.turns - 1)
)


@cache
def _in_one_statement(*, looks: bool, with_labels: bool | None, titled: bool) -> Executable:
    """Return PostgreSQL's append in one statement, for a turn that cannot be stored yet.

    It returns each message's number and the history's first one. If there is a reason not to
    append, it returns no row and changes nothing; a transaction then finds the reason.

    ``with_labels`` says whether it is for a session with labels, None over tables without any:
    another one that exists is such a reason.
    """
    first, later = _CHANGES[titled]
    conditions = [sessions.c.deleted_at.is_(None), sessions.c.turns < bindparam("max_turns")]
    if looks:
        conditions.append(sessions.c.answer_fence.is_(None))
    if with_labels is not None:
        has_some = sessions.c.has_labels != NO_LABELS
        conditions.append(has_some if with_labels else ~has_some)
    taken = (
        postgresql.insert(sessions)
        .values(first)
        .on_conflict_do_update(
            index_elements=[sessions.c.owner, sessions.c.id], set_=later, where=and_(*conditions)
        )
        .returning(sessions.c.next_seq, sessions.c.first_seq)
        .cte("taken")
    )
    bodies = bindparam("bodies", type_=postgresql.ARRAY(Text))
    turn = func.unnest(bodies).table_valued("body", with_ordinality="number").render_derived("turn")
    row = {
        **_OWN,
        "seq": taken.c.next_seq - _count + turn.c.number - 1,
        "turn_id": bindparam("turn_id", type_=messages.c.turn_id.type),
        "body": turn.c.body,
    }
    rows = select(*(row[name] for name in _COLUMNS)).select_from(taken.join(turn, true()))
    first_seq = select(taken.c.first_seq).scalar_subquery()
    adding = insert(messages).from_select(_COLUMNS, rows).returning(messages.c.seq, first_seq)
    if with_labels:
        touched = update(labels).where(*in_session(labels), select(taken.c.next_seq).exists())
        # The time of the transaction, as in the session's row.
        adding = adding.add_cte(touched.values(updated_at=now()).cte("touched"))
    return adding


_MOST_IN_ONE = 32 * 1024
"""Characters that are sent as an array: psycopg takes a second or more to quote a megabyte."""


def append(
    database: Database,
    session_id: str,
    bodies: Sequence[str],
    owner: str,
    turn_id: str,
    expected_length: int | None,
    *,
    may_be_stored: bool,
    max_turns: int,
    fence: int | None = None,
    title: NewTitle | None = None,
) -> int:
    """See `LifecycleStore.append`; the messages come as JSON texts.

    ``may_be_stored`` says whether the turn can be stored already: because the caller repeats it, or
    because the outcome of an earlier attempt is not known.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    target = Target(of_session=session_id, of_owner=owner)
    looks = may_expire(database, target)
    is_small = sum(map(len, bodies)) <= _MOST_IN_ONE
    is_simple = not may_be_stored and expected_length is None and fence is None and is_small
    # Only where the statement is known to be committed by itself.
    is_alone = database.dialect == "postgresql" and not database.encrypts
    if is_alone and is_simple and database.in_transaction() is False:
        turn = {**target, "turn_id": turn_id, "bodies": list(bodies), "count": len(bodies)}
        turn |= {"max_turns": max_turns, **(title.parameters if title else {})}
        done = _append_in_one(database, turn, looks=looks, titled=title is not None)
        if done:
            return 1 + int(max(seq - first for seq, first in done))
    with transaction(database):
        session, stored = begin_turn(
            database,
            target,
            turn_id,
            len(bodies),
            may_be_stored=may_be_stored,
            fence=fence,
            looks=looks,
            title=title,
        )
        length = session.end - session.first
        if not stored:
            check_expected(expected_length, length)
            if session.turns > max_turns:
                raise SessionFull(max_turns)
            add_messages(database, target, session.end, [(turn_id, body) for body in bodies])
    if stored:
        return length_of_repeated(stored, bodies, session)
    return length + len(bodies)


def _append_in_one(
    database: Database, turn: dict[str, Any], *, looks: bool, titled: bool
) -> Sequence[Row]:
    """Append a turn in one statement, or in two where the session has labels."""
    for with_labels in (False, True) if _has_labels(database) else (None,):
        statement = _in_one_statement(looks=looks, with_labels=with_labels, titled=titled)
        with committing():
            done = database.rows(statement, turn)
            database.check_no_transaction("after the append")
        if done:
            return done
    return ()


def _has_labels(database: Database) -> bool:
    return database.connection.dialect in KNOWN_LABELS or has_label_columns(database)


def begin_turn(
    database: Database,
    target: Target,
    turn_id: str,
    count: int,
    *,
    may_be_stored: bool,
    fence: int | None,
    looks: bool,
    edits: bool = False,
    title: NewTitle | None = None,
) -> tuple[SessionRow, Sequence[Row]]:
    """Lock the session's row, and take ``count`` numbers for a turn.

    Return the row as it was before, but with the turn counted in ``turns``; and the turn's
    messages where it is stored already: no numbers are taken then. ``looks``: whether an expired
    answer is looked for, which is then to be folded first (``AnswerExpired``). ``edits``: whether
    messages may leave the history; ``has_ids`` is known then. ``title``: for a session that has
    none.
    """
    parameters = {**target, "count": count, **(title.parameters if title else {})}
    form = 2 if _has_labels(database) else int(looks or (edits and has_answers(database)))
    # A session's data key is made once it has a row.
    titled = title is not None and not database.encrypts
    takes = _take_numbers(form, looks=looks, titled=titled)[database.dialect]
    if database.dialect in MYSQL:
        database.run(takes, parameters)
        rows = database.rows(_counters_of(form, looks=looks), target)
    else:
        rows = database.rows(takes, parameters)
    ((end, first, turns, archived, current, deleted_at, *more),) = rows
    expired_fence = more.pop() if looks else None
    told: list[int] = [*more, *(0, NO_LABELS)[len(more) :]]
    has_ids, has_labels = told
    if deleted_at is not None:
        raise SessionDeleted
    if fence is not None and fence != current:
        raise TurnLost
    if expired_fence:
        raise AnswerExpired(target["of_session"], target["of_owner"])
    # Read only now: a transaction that holds the row's lock sees every turn stored before.
    stored = rows_of_turn(database, turn_id, target) if may_be_stored else []
    if stored:
        # Committed and not rolled back: an earlier COMMIT of the turn, the reply to which was
        # lost, may still wait for a standby, and this one waits for it too.
        database.run(_return_numbers, {**target, "taken": count})
    if title is not None and database.encrypts and turns <= title.turns:
        set_title(database, target, title)
    if has_labels:
        touch_labels(database, target)
    session = SessionRow(
        first,
        end - count,
        turns,
        archived,
        current,
        has_ids=bool(has_ids),
        has_labels=has_labels,
    )
    return session, stored


def check_expected(expected: int | None, length: int) -> None:
    """Check that the history has the expected length."""
    if expected is not None and expected != length:
        raise SessionConflict(expected, length)


def length_of_repeated(
    stored: Sequence[Row], bodies: Sequence[str] | None, session: SessionRow
) -> int:
    """Return how many messages of the history come before a stored turn's end."""
    texts = [(seq, body) for seq, body, _ in stored]
    return length_after_repeat(texts, bodies, session.first, session.end)


def add_messages(
    database: Database, target: Target, start: int, rows: Sequence[tuple[str, str]]
) -> None:
    """Insert messages under numbers from ``start``; ``rows`` are turn ids and JSON texts."""
    numbered = enumerate(rows, start)
    parameters = [
        {**target, "seq": seq, "turn_id": turn, "body": body} for seq, (turn, body) in numbered
    ]
    database.run(_add, *parameters)
