"""The SQL that reads a conversation, at one moment: all of it, its newest part, or its length."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS, decode
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import find
from hermes_session_mw.stores.hermes_state.text_cleanup import SUSPECT, without_upkeep

_UNKNOWN = History([], 0, exists=False)
_MOST = 2**63 - 1  # what SQLite takes for a number

Row = dict[str, Any]


def load(database: Database, session_id: str, owner: str, limit: int | None) -> History:
    """See `Store.load`."""
    with snapshot(database):
        columns = columns_of(database)
        found = find(database, columns, session_id, owner)
        if found is None or not found.is_own:
            return _UNKNOWN
        return conversation(database, columns, found.tip, limit)


def conversation(
    database: Database, columns: Columns, session_id: str, limit: int | None = None
) -> History:
    """Return what Hermes gives for this very session, or the newest ``limit`` messages of it."""
    if limit is None:
        messages = visible(rows_of(database, columns, session_id))
        return History(messages, len(messages), exists=True)
    length, is_plain = measure(database, columns, session_id)
    if is_plain:
        rows = rows_of(database, columns, session_id, limit) if limit else []
        return History([decode(row) for row in rows], length, exists=True)
    messages = visible(rows_of(database, columns, session_id))
    return History(messages[max(length - limit, 0) :], length, exists=True)


def measure(database: Database, columns: Columns, session_id: str) -> tuple[int, bool]:
    """Return the length, and whether that is the number of rows, each a message by itself."""
    ((count, suspects),) = database.rows(_count(_active(columns)), {"session_id": session_id})
    if not suspects:
        return count, True
    return len(visible(rows_of(database, columns, session_id))), False


def rows_of(
    database: Database,
    columns: Columns,
    session_id: str,
    limit: int | None = None,
    *,
    first: int = 0,
    upto: int = _MOST,
    taken_out: bool = False,
) -> list[Row]:
    """Return the session's rows, or the newest ``limit``, in order, with their ``id``.

    ``first`` and ``upto`` are the ids to begin and to end with; with ``taken_out``, rows that are
    not in the history any more come too.
    """
    names = ("id", *(name for name in COLUMNS if name in columns.messages))
    newest = _MOST if limit is None else min(limit, _MOST)
    values = {"session_id": session_id, "newest": newest, "first": first, "upto": upto}
    found = database.rows(_newest(names, "" if taken_out else _active(columns)), values)
    return [dict(zip(names, row, strict=True)) for row in reversed(found)]


def visible(rows: list[Row]) -> list[Message]:
    """Return the messages that Hermes gives for ``rows``."""
    return without_upkeep([decode(row) for row in rows])


@contextmanager
def snapshot(database: Database) -> Iterator[None]:
    """Have all that is read inside be of one moment, whoever writes meanwhile."""
    database.command("BEGIN")
    try:
        yield
    finally:
        # Where the connection was lost, so was the transaction.
        if not database.connection.invalidated:
            database.rollback()


def _active(columns: Columns) -> str:
    # Before there was the column nothing was ever taken out of a history.
    return " AND active = 1" if "active" in columns.messages else ""


@cache
def _newest(names: tuple[str, ...], active: str) -> TextClause:
    # The plus keeps SQLite from reading the whole table by its row ids, instead of the session.
    return text(
        f"SELECT {', '.join(names)} FROM messages"  # noqa: S608  # names that this package knows
        f" WHERE session_id = :session_id AND +id BETWEEN :first AND :upto{active}"
        " ORDER BY id DESC LIMIT :newest"
    )


@cache
def _count(active: str) -> TextClause:
    return text(
        f"SELECT count(*), coalesce(sum({SUSPECT}), 0) FROM messages"  # noqa: S608  # as above
        f" WHERE session_id = :session_id{active}"
    )
