"""The SQL that reads, written once, as plain functions over a `Database`.

Rules of this file and of ``appending``: every value is a bound parameter; statements are made at
import, so that SQLAlchemy compiles each of them once; a read is one round trip.
"""

from typing import Any

from sqlalchemy import Select, bindparam, func, literal_column, select

from hermes_session_mw.database.connection import Database
from hermes_session_mw.messages import parse_messages
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    messages,
    sessions,
)

_in_order = select(messages.c.seq, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
# The history's first number, which is not 0 once it was compacted: a look at the key's beginning.
_first = select(func.min(messages.c.seq)).where(*IN_SESSION).scalar_subquery()
_from_the_end: Select[Any] = (
    select(messages.c.seq, messages.c.body, _first)
    .where(*IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
)


def _in_one_row(rows: Select[Any], *more: Any) -> Select[Any]:
    # sqlite3 lets go of the interpreter lock at each row, and all threads then fight for it.
    # SQLite keeps a subquery's order for group_concat; ORDER BY inside of it is new in 3.44.
    part = rows.subquery()
    joined = func.group_concat(part.c.body, literal_column("','"))
    return select(func.count(), func.max(part.c.seq), joined, *more).select_from(part)


_newest = (
    select(messages.c.seq, messages.c.body)
    .where(*IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
    .subquery()
)
_all_joined = _in_one_row(_in_order)
_newest_joined = _in_one_row(select(_newest.c.seq, _newest.c.body).order_by(_newest.c.seq), _first)
_state = select(
    sessions.c.deleted_at, sessions.c.turns, sessions.c.next_seq - sessions.c.first_seq
).where(*IS_SESSION)

_MOST = 2**63 - 1  # what a database takes for a number


def load(
    database: Database, session_id: str, owner: str, limit: int | None, *, again: bool = True
) -> History:
    """See `Store.load`; one statement, and where it finds nothing another, to tell why.

    ``again``: whether to begin anew where the other finds that there are messages by now.
    """
    key = {"session_id": session_id, "owner": owner}
    # At least one message, because the last one tells the length.
    newest = {} if limit is None else {"newest": min(max(limit, 1), _MOST)}
    of_one_row = database.dialect == "sqlite"
    count, length, texts = (_joined if of_one_row else _fetched)(database, {**key, **newest})
    if not count:
        history = _without_messages(database, key)
        if again and history.length:
            return load(database, session_id, owner, limit, again=False)
        return history
    return History([] if limit == 0 else parse_messages(texts, count), length, exists=True)


def _without_messages(database: Database, key: dict[str, Any]) -> History:
    """Tell a session that was rewound to its beginning from one that was deleted, or never was.

    Not every row is proof of a session: somebody may only have taken the turn to write to it.
    """
    deleted_at, turns, length = next(iter(database.rows(_state, key)), (None, 0, 0))
    deleted = deleted_at is not None
    exists = turns > 0 and not deleted
    return History([], length if exists else 0, exists=exists, deleted=deleted)


def _fetched(database: Database, parameters: dict[str, Any]) -> tuple[int, int, str]:
    """Return how many messages there are, the history's length, and the texts with commas."""
    if "newest" not in parameters:
        rows = database.rows(_in_order, parameters)
        return len(rows), len(rows), ",".join([body for _, body in rows])
    rows = database.rows(_from_the_end, parameters)[::-1]
    length = rows[-1][0] + 1 - rows[0][2] if rows else 0
    return len(rows), length, ",".join([body for _, body, _ in rows])


def _joined(database: Database, parameters: dict[str, Any]) -> tuple[int, int, str]:
    """Do the same as `_fetched`, with one row."""
    if "newest" not in parameters:
        ((count, _, texts),) = database.rows(_all_joined, parameters)
        return count, count, texts
    ((count, last, texts, first),) = database.rows(_newest_joined, parameters)
    return count, last + 1 - first if count else 0, texts
