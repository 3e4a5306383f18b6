"""The SQL that appends; the rules are those of ``loading``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Executable,
    Insert,
    Text,
    bindparam,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from ...exceptions import SessionConflict, SessionDeleted, SessionFull, TurnLost
from ..base import length_after_repeat
from .database import Database
from .schema import IS_SESSION, MYSQL, WHOSE, messages, of_session, sessions
from .transactions import committing, transaction
from .turns import rows_of_turn

_COLUMNS = ("owner", "session_id", "seq", "turn_id", "body")
_add = insert(messages).values({name: bindparam(name) for name in _COLUMNS})


# Taking the next ``count`` numbers takes the session's row lock with them, until the commit.
_count: BindParameter[int] = bindparam("count")
_FIRST = {
    "owner": bindparam("owner"),
    "id": bindparam("session_id"),
    "next_seq": _count,
    "turns": 1,
}
_LATER = {
    "next_seq": sessions.c.next_seq + _count,
    "turns": sessions.c.turns + 1,
    "updated_at": func.now(),
}
_COUNTERS = (
    sessions.c.next_seq,
    sessions.c.first_seq,
    sessions.c.turns,
    sessions.c.fence,
    sessions.c.deleted_at,
)


def _take_numbers(dialect_insert: Any) -> Insert:
    taken: Insert = (
        dialect_insert(sessions)
        .values(_FIRST)
        .on_conflict_do_update(index_elements=[sessions.c.owner, sessions.c.id], set_=_LATER)
        .returning(*_COUNTERS)
    )
    return taken


_take_on_mysql = mysql.insert(sessions).values(_FIRST).on_duplicate_key_update(_LATER)
_TAKE_NUMBERS = {
    "sqlite": _take_numbers(sqlite.insert),
    "postgresql": _take_numbers(postgresql.insert),
    **dict.fromkeys(MYSQL, _take_on_mysql),
}
# MySQL returns nothing from an INSERT; who holds the lock may as well ask.
_taken = select(*_COUNTERS).where(*IS_SESSION)
_give_back = (
    update(sessions)
    .where(*WHOSE)
    .values(next_seq=sessions.c.next_seq - bindparam("taken"), turns=sessions.c.turns - 1)
)
SUPPORTED_DIALECTS = frozenset(_TAKE_NUMBERS)


def _in_one_statement() -> Executable:
    """Return the whole append as PostgreSQL can do it, for a turn that cannot be stored yet.

    It returns each message's number and the history's first; or no row, and has done nothing, where
    there is a reason not to append, which a transaction then finds.
    """
    taken = (
        postgresql.insert(sessions)
        .values(_FIRST)
        .on_conflict_do_update(
            index_elements=[sessions.c.owner, sessions.c.id],
            set_=_LATER,
            where=sessions.c.deleted_at.is_(None) & (sessions.c.turns < bindparam("max_turns")),
        )
        .returning(sessions.c.next_seq, sessions.c.first_seq)
        .cte("taken")
    )
    bodies = bindparam("bodies", type_=postgresql.ARRAY(Text))
    turn = func.unnest(bodies).table_valued("body", with_ordinality="number").render_derived("turn")
    row = {
        "owner": bindparam("owner", type_=messages.c.owner.type),
        "session_id": bindparam("session_id", type_=messages.c.session_id.type),
        "seq": taken.c.next_seq - _count + turn.c.number - 1,
        "turn_id": bindparam("turn_id", type_=messages.c.turn_id.type),
        "body": turn.c.body,
    }
    rows = select(*(row[name] for name in _COLUMNS)).select_from(taken.join(turn, true()))
    first = select(taken.c.first_seq).scalar_subquery()
    return insert(messages).from_select(_COLUMNS, rows).returning(messages.c.seq, first)


_append_at_once = _in_one_statement()


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

    ``may_be_stored`` says whether the turn can be there already: as an earlier one of the caller's,
    or because an attempt's outcome is not known.
    """
    key = {"session_id": session_id, "owner": owner}
    plain = not may_be_stored and expected_length is None and fence is None
    if database.dialect == "postgresql" and plain:
        turn = {**key, "turn_id": turn_id, "bodies": list(bodies), "count": len(bodies)}
        with committing():
            done = database.rows(_append_at_once, {**turn, "max_turns": max_turns})
        if done:
            return 1 + int(max(seq - first for seq, first in done))
    with transaction(database):
        taken = _take(database, {**key, "count": len(bodies)})
        start = taken.end - len(bodies)
        if taken.is_deleted:
            raise SessionDeleted
        if fence is not None and fence != taken.fence:
            raise TurnLost
        # Asked only now: who holds the row's lock sees every turn stored before.
        stored = rows_of_turn(database, turn_id, key) if may_be_stored else []
        if stored:
            # Committed and not rolled back: an earlier COMMIT of the turn, whose reply was lost,
            # may still wait for a standby, and this one waits for it too.
            database.run(_give_back, of_session(session_id, owner) | {"taken": len(bodies)})
        else:
            if expected_length is not None and expected_length != start - taken.first:
                raise SessionConflict(expected_length, start - taken.first)
            if taken.turns > max_turns:
                raise SessionFull(max_turns)
            add_messages(database, key, start, [(turn_id, body) for body in bodies])
    if not stored:
        return taken.end - taken.first
    texts = [(seq, body) for seq, body, _ in stored]
    return length_after_repeat(texts, bodies, taken.first, start)


def add_messages(
    database: Database, key: dict[str, Any], start: int, rows: Sequence[tuple[str, str]]
) -> None:
    """Insert messages under numbers from ``start``; ``rows`` are turn ids and JSON texts."""
    numbered = enumerate(rows, start)
    values = [{**key, "seq": seq, "turn_id": turn, "body": body} for seq, (turn, body) in numbered]
    database.run(_add, *values)


class _Taken(NamedTuple):
    """The session's counters, the turn's numbers counted in; the names are those of `_COUNTERS`."""

    end: int
    first: int
    turns: int
    fence: int
    is_deleted: bool


def _take(database: Database, parameters: dict[str, Any]) -> _Taken:
    dialect = database.dialect
    if dialect in MYSQL:
        database.run(_TAKE_NUMBERS[dialect], parameters)
        rows = database.rows(_taken, parameters)
    else:
        rows = database.rows(_TAKE_NUMBERS[dialect], parameters)
    ((end, first, turns, fence, deleted_at),) = rows
    return _Taken(end, first, turns, fence, deleted_at is not None)
