"""The SQL that appends a turn."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    Text,
    and_,
    bindparam,
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
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    OF_OWNER,
    OF_SESSION,
    Target,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    EXPIRED_FENCE,
    AnswerExpired,
    may_expire,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import SessionRow
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import length_after_repeat

_COLUMNS = ("owner", "session_id", "seq", "turn_id", "body")
_OWN = {"owner": OF_OWNER, "session_id": OF_SESSION}
_add = insert(messages).values(_OWN | {name: bindparam(name) for name in _COLUMNS[2:]})

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


def _take_numbers(*columns: ColumnElement[Any]) -> dict[str, Executable]:
    return {
        dialect: statement if dialect in MYSQL else statement.returning(*columns)
        for dialect, statement in upsert(sessions, _FIRST, _LATER).items()
    }


_WITH_IDS = (*_COUNTERS, sessions.c.has_message_ids)
# By whether they look for an expired answer, and whether they tell of ids.
_RETURNED = {
    (False, False): _COUNTERS,
    (False, True): _WITH_IDS,
    (True, True): (*_WITH_IDS, EXPIRED_FENCE),
}
_TAKE_NUMBERS = {form: _take_numbers(*columns) for form, columns in _RETURNED.items()}
# MySQL returns nothing from an INSERT; under the lock a second statement reads the same.
_COUNTERS_OF = {form: select(*columns).where(*IS_SESSION) for form, columns in _RETURNED.items()}
_return_numbers = (
    update(sessions)
    .where(*IS_SESSION)
    .values(next_seq=sessions.c.next_seq - bindparam("taken"), turns=sessions.c.turns - 1)
)


def _in_one_statement(*conditions: ColumnElement[bool]) -> Executable:
    """Return PostgreSQL's append in one statement, for a turn that cannot be stored yet.

    It returns each message's number and the history's first one. If there is a reason not to
    append, such as one of the ``conditions`` of an existing session that is not met, it returns no
    row and changes nothing; a transaction then finds the reason.
    """
    may_append = (sessions.c.deleted_at.is_(None), sessions.c.turns < bindparam("max_turns"))
    taken = (
        postgresql.insert(sessions)
        .values(_FIRST)
        .on_conflict_do_update(
            index_elements=[sessions.c.owner, sessions.c.id],
            set_=_LATER,
            where=and_(*may_append, *conditions),
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
    first = select(taken.c.first_seq).scalar_subquery()
    return insert(messages).from_select(_COLUMNS, rows).returning(messages.c.seq, first)


_append_in_one = {
    False: _in_one_statement(),
    True: _in_one_statement(sessions.c.answer_fence.is_(None)),
}

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
    if database.dialect == "postgresql" and is_simple and database.in_transaction() is False:
        turn = {**target, "turn_id": turn_id, "bodies": list(bodies), "count": len(bodies)}
        with committing():
            done = database.rows(_append_in_one[looks], {**turn, "max_turns": max_turns})
            database.check_no_transaction("after the append")
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
) -> tuple[SessionRow, Sequence[Row]]:
    """Lock the session's row, and take ``count`` numbers for a turn.

    Return the row as it was before, but with the turn counted in ``turns``; and the turn's
    messages where it is stored already: no numbers are taken then. ``looks``: whether an expired
    answer is looked for, which is then to be folded first (``AnswerExpired``). ``edits``: whether
    messages may leave the history; ``has_ids`` is known then.
    """
    parameters = {**target, "count": count}
    form = looks, looks or (edits and has_answers(database))
    if database.dialect in MYSQL:
        database.run(_TAKE_NUMBERS[form][database.dialect], parameters)
        rows = database.rows(_COUNTERS_OF[form], target)
    else:
        rows = database.rows(_TAKE_NUMBERS[form][database.dialect], parameters)
    ((end, first, turns, archived, current, deleted_at, *more),) = rows
    has_ids, *expired_fence = more or (0,)
    if deleted_at is not None:
        raise SessionDeleted
    if fence is not None and fence != current:
        raise TurnLost
    if any(expired_fence):
        raise AnswerExpired(target["of_session"], target["of_owner"])
    # Read only now: a transaction that holds the row's lock sees every turn stored before.
    stored = rows_of_turn(database, turn_id, target) if may_be_stored else []
    if stored:
        # Committed and not rolled back: an earlier COMMIT of the turn, the reply to which was
        # lost, may still wait for a standby, and this one waits for it too.
        database.run(_return_numbers, {**target, "taken": count})
    session = SessionRow(first, end - count, turns, archived, current, has_ids=bool(has_ids))
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
