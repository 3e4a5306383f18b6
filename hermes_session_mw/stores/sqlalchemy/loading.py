"""The SQL that reads, written once, as plain functions over a `Database`.

Rules of this file and of ``appending``: every value is a bound parameter; statements are made at
import, so that SQLAlchemy compiles each of them once; a read is one round trip.
"""

from typing import Any

from sqlalchemy import Select, bindparam, func, literal_column, select

from ...messages import parse_messages
from ..base import History
from .database import Database
from .schema import IN_SESSION, IS_SESSION, messages, sessions

_in_order = select(messages.c.seq, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
_from_the_end: Select[Any] = (
    select(messages.c.seq, messages.c.body)
    .where(*IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
)


def _in_one_row(rows: Select[Any]) -> Select[Any]:
    # sqlite3 lets go of the interpreter lock at each row, and all threads then fight for it.
    # SQLite keeps a subquery's order for group_concat; ORDER BY inside of it is new in 3.44.
    part = rows.subquery()
    joined = func.group_concat(part.c.body, literal_column("','"))
    return select(func.count(), func.max(part.c.seq), joined).select_from(part)


_newest = _from_the_end.subquery()
_all_joined = _in_one_row(_in_order)
_newest_joined = _in_one_row(select(_newest.c.seq, _newest.c.body).order_by(_newest.c.seq))
_deleted_at = select(sessions.c.deleted_at).where(*IS_SESSION)

_MOST = 2**63 - 1  # what a database takes for a number


def load(database: Database, session_id: str, owner: str, limit: int | None) -> History:
    """See `Store.load`; one statement, and where it finds nothing another, to tell why."""
    key = {"session_id": session_id, "owner": owner}
    # At least one message, because the last one tells the length.
    newest = {} if limit is None else {"newest": min(max(limit, 1), _MOST)}
    of_one_row = database.dialect == "sqlite"
    count, length, texts = (_joined if of_one_row else _fetched)(database, {**key, **newest})
    if not count:
        # Only a message is proof of a session: the row of a deleted one has none.
        deleted = any(at is not None for (at,) in database.rows(_deleted_at, key))
        return History([], 0, exists=False, deleted=deleted)
    return History([] if limit == 0 else parse_messages(texts, count), length, exists=True)


def _fetched(database: Database, parameters: dict[str, Any]) -> tuple[int, int, str]:
    """Return how many messages there are, the conversation's length, and the texts with commas."""
    if "newest" in parameters:
        rows = database.rows(_from_the_end, parameters)[::-1]
    else:
        rows = database.rows(_in_order, parameters)
    return len(rows), rows[-1][0] + 1 if rows else 0, ",".join([body for _, body in rows])


def _joined(database: Database, parameters: dict[str, Any]) -> tuple[int, int, str]:
    """Do the same as `_fetched`, with one row."""
    statement = _newest_joined if "newest" in parameters else _all_joined
    ((count, last, texts),) = database.rows(statement, parameters)
    return count, last + 1 if count else 0, texts
