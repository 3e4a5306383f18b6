"""The SQL, written once: plain functions over a SQLAlchemy ``Connection``.

Rules of this file: every value is a bound parameter; statements are made at import, so that
SQLAlchemy compiles each of them once per engine; connections come in AUTOCOMMIT, so that a read is
one round trip, and a transaction is begun and ended in so many words.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Insert,
    Select,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from ...exceptions import SessionConflict, SessionDeleted, SessionFull
from ...messages import decode_messages
from ..base import History, length_after_repeat
from .schema import MYSQL, messages, sessions
from .sqlite_file import in_turn

_IS_SESSION = (
    sessions.c.owner == bindparam("owner"),
    sessions.c.id == bindparam("session_id"),
)
# For an UPDATE, which keeps the columns' own names for what it sets.
WHOSE = (sessions.c.owner == bindparam("of_owner"), sessions.c.id == bindparam("of_session"))
_IN_SESSION = (
    messages.c.owner == bindparam("owner"),
    messages.c.session_id == bindparam("session_id"),
)
_all = select(messages.c.seq, messages.c.body).where(*_IN_SESSION).order_by(messages.c.seq)
_newest: Select[Any] = (
    select(messages.c.seq, messages.c.body)
    .where(*_IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
)
_turn = _all.where(messages.c.turn_id == bindparam("turn_id"))
_add = insert(messages)


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
_COUNTERS = (sessions.c.next_seq, sessions.c.turns, sessions.c.deleted_at)


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
_taken = select(*_COUNTERS).where(*_IS_SESSION)
_give_back = (
    update(sessions)
    .where(*WHOSE)
    .values(next_seq=sessions.c.next_seq - bindparam("taken"), turns=sessions.c.turns - 1)
)
_deleted_at = select(sessions.c.deleted_at).where(*_IS_SESSION)
SUPPORTED_DIALECTS = frozenset(_TAKE_NUMBERS)


# The row's lock is all the isolation that is needed; a stricter level, as a server may have for its
# default, would only add failures to serialize. SQLite's own BEGIN is deferred: it takes the write
# lock late, and what it has read by then may be stale, which no patience mends.
_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    **dict.fromkeys(MYSQL, "START TRANSACTION"),
}


_MOST = 2**63 - 1  # what a database takes for a number


class CommitFailed(Exception):
    """A failure during COMMIT: if the connection went with it, nobody knows how it ended."""

    def __init__(self, cause: SQLAlchemyError) -> None:
        self.cause = cause


def of_session(session_id: str, owner: str) -> dict[str, Any]:
    """Return the parameters that ``WHOSE`` takes."""
    return {"of_session": session_id, "of_owner": owner}


def load(connection: Connection, session_id: str, owner: str, limit: int | None) -> History:
    """See `Store.load`; one statement, and where it finds nothing another, to tell why."""
    key = {"session_id": session_id, "owner": owner}
    if limit is None:
        rows = connection.execute(_all, key).all()
    else:
        # At least one row, because the last one tells the length.
        rows = connection.execute(_newest, {**key, "newest": min(max(limit, 1), _MOST)}).all()[::-1]
    length = rows[-1].seq + 1 if rows else 0
    bodies = [] if limit == 0 else [row.body for row in rows]
    # Only a message is proof of a session: the row of a deleted one has none.
    deleted = not rows and connection.execute(_deleted_at, key).scalar() is not None
    return History(decode_messages(bodies), length, exists=bool(rows), deleted=deleted)


def append(
    connection: Connection,
    session_id: str,
    bodies: Sequence[str],
    owner: str,
    turn_id: str,
    expected_length: int | None,
    *,
    may_be_stored: bool,
    max_turns: int,
) -> int:
    """See `Store.append`; the messages come as JSON texts.

    ``may_be_stored`` says whether the turn can be there already: as an earlier one of the caller's,
    or because an attempt's outcome is not known.
    """
    key = {"session_id": session_id, "owner": owner}
    with transaction(connection):
        length, turns, deleted = _take(connection, {**key, "count": len(bodies)})
        first = length - len(bodies)
        if deleted:
            raise SessionDeleted
        # Asked only now: who holds the row's lock sees every turn stored before.
        stored = _turn_rows(connection, {**key, "turn_id": turn_id}) if may_be_stored else []
        if stored:
            # Committed and not rolled back: an earlier COMMIT of the turn, whose reply was lost,
            # may still wait for a standby, and this one waits for it too.
            connection.execute(_give_back, of_session(session_id, owner) | {"taken": len(bodies)})
        else:
            if expected_length is not None and expected_length != first:
                raise SessionConflict(expected_length, first)
            if turns > max_turns:
                raise SessionFull(max_turns)
            rows = enumerate(bodies, first)
            connection.execute(
                _add, [{**key, "turn_id": turn_id, "seq": seq, "body": body} for seq, body in rows]
            )
    return length_after_repeat(stored, bodies) if stored else length


def _take(connection: Connection, parameters: dict[str, Any]) -> tuple[int, int, bool]:
    """Return the new length, the number of turns, and whether the session was deleted."""
    dialect = connection.dialect.name
    result = connection.execute(_TAKE_NUMBERS[dialect], parameters)
    if dialect in MYSQL:
        result = connection.execute(_taken, parameters)
    row = result.one()
    return row.next_seq, row.turns, row.deleted_at is not None


def _turn_rows(connection: Connection, parameters: dict[str, Any]) -> list[tuple[int, str]]:
    return [(row.seq, row.body) for row in connection.execute(_turn, parameters)]


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit what is done inside, or roll it back where it raises; begun ready to write.

    Raises:
        CommitFailed: the COMMIT did.
    """
    with in_turn(connection):
        _end_begun(connection)
        connection.exec_driver_sql(_BEGIN[connection.dialect.name])
        try:
            yield
        except BaseException:
            _undo(connection)
            raise
        try:
            connection.exec_driver_sql("COMMIT")
        except SQLAlchemyError as exc:
            _undo(connection)
            raise CommitFailed(exc) from exc


def _end_begun(connection: Connection) -> None:
    # A borrowed engine may begin by itself, as SQLAlchemy's recipe for SQLite has it do; begun like
    # that, a transaction cannot wait for the lock.
    if connection.dialect.name == "sqlite":
        if not connection.in_transaction():
            connection.begin()
        if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # sqlite3's
            connection.exec_driver_sql("ROLLBACK")


def _undo(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("ROLLBACK")
    except SQLAlchemyError:
        connection.invalidate()  # broken, or not in a transaction any more: never lent again
