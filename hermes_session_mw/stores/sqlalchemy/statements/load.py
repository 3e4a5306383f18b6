"""The SQL that loads a history, or its newest messages."""

from typing import Any

from sqlalchemy import Select, bindparam, func, literal_column, null, select

from hermes_session_mw.database.connection import Database
from hermes_session_mw.messages import parse_messages
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import KNOWN, has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    Target,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import IS_EXPIRED, LENGTH

# Set where an open answer is to be folded before the history is read.
_EXPIRED = (
    select(sessions.c.answer_fence)
    .where(*IS_SESSION, sessions.c.answer_fence.is_not(None), IS_EXPIRED)
    .scalar_subquery()
)
_in_order = select(messages.c.seq, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
# The history's first number, which a compaction raises above 0: a lookup at the key's beginning.
_first = select(func.min(messages.c.seq)).where(*IN_SESSION).scalar_subquery()
_newest: Select[Any] = (
    select(messages.c.seq, messages.c.body)
    .where(*IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
)
_part = _newest.subquery()
_state = select(sessions.c.deleted_at, sessions.c.turns, LENGTH).where(*IS_SESSION)


def _join(rows: Select[Any], *more: Any) -> Select[Any]:
    # sqlite3 releases the interpreter lock at each row, and all threads then contend for it.
    # SQLite keeps a subquery's order for group_concat; ORDER BY inside of it is new in 3.44.
    part = rows.subquery()
    joined = func.group_concat(part.c.body, literal_column("','"))
    return select(func.count(), func.max(part.c.seq), joined, *more).select_from(part)


class _Statements:
    """The statements over tables that have answers, or over those of an earlier version."""

    def __init__(self, expired: Any) -> None:
        # In place of the number, which nobody needs: a third column would cost with every row.
        self.in_order = select(expired, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
        self.from_the_end = _newest.add_columns(_first, expired)
        self.all_joined = _join(_in_order, expired)
        self.newest_joined = _join(select(_part).order_by(_part.c.seq), _first, expired)
        self.state = _state.add_columns(expired)


_STATEMENTS = {True: _Statements(_EXPIRED), False: _Statements(null())}


def load(
    database: Database, session_id: str, owner: str, limit: int | None, *, again: bool = True
) -> History | None:
    """See `Store.load`; one statement, and a second one that finds the reason if it has no rows.

    None if an open answer's lease has expired: it is to be folded first. ``again``: whether to read
    once more if the second statement finds messages.
    """
    target = Target(of_session=session_id, of_owner=owner)
    statements = _STATEMENTS[database.connection.dialect in KNOWN or has_answers(database)]
    # At least one message, because the length comes from the last one.
    newest = {} if limit is None else {"newest": min(max(limit, 1), MAX_INTEGER)}
    read = _one_row if database.dialect == "sqlite" else _rows
    count, length, texts, expired = read(database, statements, {**target, **newest})
    if expired is not None:
        return None
    if not count:
        history = _without_messages(database, statements, target)
        if again and history is not None and history.length:
            return load(database, session_id, owner, limit, again=False)
        return history
    return History([] if limit == 0 else parse_messages(texts, count), length, exists=True)


def _without_messages(
    database: Database, statements: _Statements, target: Target
) -> History | None:
    """Return the history of a session that was rewound to its beginning, deleted, or never stored.

    A row may exist without a session: it may have been inserted for a lease.
    """
    rows = database.rows(statements.state, target)
    deleted_at, turns, length, expired = next(iter(rows), (None, 0, 0, None))
    deleted = deleted_at is not None
    if expired is not None and not deleted:
        return None
    exists = turns > 0 and not deleted
    return History([], length if exists else 0, exists=exists, deleted=deleted)


def _rows(
    database: Database, statements: _Statements, parameters: dict[str, Any]
) -> tuple[int, int, str, object]:
    """Return how many messages there are, the history's length, and the texts with commas.

    And the fence of an open answer whose lease has expired, None where there is none.
    """
    if "newest" not in parameters:
        rows = database.rows(statements.in_order, parameters)
        expired = rows[0][0] if rows else None
        return len(rows), len(rows), ",".join([row[1] for row in rows]), expired
    rows = database.rows(statements.from_the_end, parameters)[::-1]
    length = rows[-1][0] + 1 - rows[0][2] if rows else 0
    return len(rows), length, ",".join([row[1] for row in rows]), rows[0][3] if rows else None


def _one_row(
    database: Database, statements: _Statements, parameters: dict[str, Any]
) -> tuple[int, int, str, object]:
    """Return the same as `_rows`, from one row."""
    if "newest" not in parameters:
        ((count, _, texts, expired),) = database.rows(statements.all_joined, parameters)
        return count, count, texts, expired if count else None
    ((count, last, texts, first, expired),) = database.rows(statements.newest_joined, parameters)
    return count, last + 1 - first if count else 0, texts, expired if count else None
