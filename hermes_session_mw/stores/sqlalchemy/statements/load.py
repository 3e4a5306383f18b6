"""The SQL that loads a history, or its newest messages."""

from typing import Any

from sqlalchemy import Select, bindparam, func, literal_column, select

from hermes_session_mw.database.connection import Database
from hermes_session_mw.messages import parse_messages
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    Target,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import LENGTH

_in_order = select(messages.c.seq, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
# The history's first number, which a compaction raises above 0: a lookup at the key's beginning.
_first = select(func.min(messages.c.seq)).where(*IN_SESSION).scalar_subquery()
_newest: Select[Any] = (
    select(messages.c.seq, messages.c.body)
    .where(*IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
)
_from_the_end = _newest.add_columns(_first)
_part = _newest.subquery()


def _join(rows: Select[Any], *more: Any) -> Select[Any]:
    # sqlite3 releases the interpreter lock at each row, and all threads then contend for it.
    # SQLite keeps a subquery's order for group_concat; ORDER BY inside of it is new in 3.44.
    part = rows.subquery()
    joined = func.group_concat(part.c.body, literal_column("','"))
    return select(func.count(), func.max(part.c.seq), joined, *more).select_from(part)


_all_joined = _join(_in_order)
_newest_joined = _join(select(_part).order_by(_part.c.seq), _first)
_state = select(sessions.c.deleted_at, sessions.c.turns, LENGTH).where(*IS_SESSION)


def load(
    database: Database, session_id: str, owner: str, limit: int | None, *, again: bool = True
) -> History:
    """See `Store.load`; one statement, and a second one that finds the reason if it has no rows.

    ``again``: whether to read once more if the second one finds messages.
    """
    target = Target(of_session=session_id, of_owner=owner)
    # At least one message, because the length comes from the last one.
    newest = {} if limit is None else {"newest": min(max(limit, 1), MAX_INTEGER)}
    joined = database.dialect == "sqlite"
    count, length, texts = (_one_row if joined else _rows)(database, {**target, **newest})
    if not count:
        history = _without_messages(database, target)
        if again and history.length:
            return load(database, session_id, owner, limit, again=False)
        return history
    return History([] if limit == 0 else parse_messages(texts, count), length, exists=True)


def _without_messages(database: Database, target: Target) -> History:
    """Return the history of a session that was rewound to its beginning, deleted, or never stored.

    A row may exist without a session: it may have been inserted for a lease.
    """
    deleted_at, turns, length = next(iter(database.rows(_state, target)), (None, 0, 0))
    deleted = deleted_at is not None
    exists = turns > 0 and not deleted
    return History([], length if exists else 0, exists=exists, deleted=deleted)


def _rows(database: Database, parameters: dict[str, Any]) -> tuple[int, int, str]:
    """Return how many messages there are, the history's length, and the texts with commas."""
    if "newest" not in parameters:
        rows = database.rows(_in_order, parameters)
        return len(rows), len(rows), ",".join([body for _, body in rows])
    rows = database.rows(_from_the_end, parameters)[::-1]
    length = rows[-1][0] + 1 - rows[0][2] if rows else 0
    return len(rows), length, ",".join([body for _, body, _ in rows])


def _one_row(database: Database, parameters: dict[str, Any]) -> tuple[int, int, str]:
    """Return the same as `_rows`, from one row."""
    if "newest" not in parameters:
        ((count, _, texts),) = database.rows(_all_joined, parameters)
        return count, count, texts
    ((count, last, texts, first),) = database.rows(_newest_joined, parameters)
    return count, last + 1 - first if count else 0, texts
