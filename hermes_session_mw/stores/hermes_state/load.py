"""SQL that reads a conversation, or its newest messages, or its length, in one snapshot.

Messages are in the order of their row ids, which only grow; one version orders them by their times,
and then by their ids.
"""

from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS, decode
from hermes_session_mw.stores.hermes_state.rules import Rules
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import find_chain
from hermes_session_mw.stores.hermes_state.state_meta import is_deleted
from hermes_session_mw.stores.hermes_state.text_cleanup import (
    MAY_BE_MAINTENANCE,
    without_maintenance,
)
from hermes_session_mw.stores.models import MAX_INTEGER

_NOT_FOUND = History([], 0, exists=False)
_DELETED = History([], 0, exists=False, deleted=True)

Row = dict[str, Any]


def load(database: Database, session_id: str, owner: str, limit: int | None) -> History:
    """See `Store.load`."""
    with snapshot(database):
        columns = columns_of(database)
        chain = find_chain(database, columns, session_id, owner)
        if chain is None and columns.meta and is_deleted(database, session_id):
            return _DELETED
        if chain is None or not chain.is_own:
            return _NOT_FOUND
        return conversation(database, columns, chain.tip, limit)


def conversation(
    database: Database, columns: Columns, session_id: str, limit: int | None = None
) -> History:
    """Return the messages that Hermes shows of this one session, or its newest ``limit``."""
    if limit is None:
        messages = shown_messages(fetch_rows(database, columns, session_id), columns.rules)
        return History(messages, len(messages), exists=True)
    length, one_per_row = measure(database, columns, session_id)
    if one_per_row:
        rows = fetch_rows(database, columns, session_id, limit) if limit else []
        messages = [decode(row, columns.rules) for row in rows]
        return History(messages, length, exists=True)
    messages = shown_messages(fetch_rows(database, columns, session_id), columns.rules)
    return History(messages[max(length - limit, 0) :], length, exists=True)


def measure(database: Database, columns: Columns, session_id: str) -> tuple[int, bool]:
    """Return the length, and whether Hermes shows each row as one message."""
    ((count, doubtful),) = database.rows(
        _select_count(_only_active(columns)), {"session_id": session_id}
    )
    if not doubtful or columns.rules.hides_reviews == "no":
        return count, True
    rows = fetch_rows(database, columns, session_id)
    return len(shown_messages(rows, columns.rules)), False


def fetch_rows(
    database: Database,
    columns: Columns,
    session_id: str,
    limit: int | None = None,
    *,
    first: int = 0,
    last: int = MAX_INTEGER,
    inactive: bool = False,
) -> list[Row]:
    """Return the session's rows in order, with their ``id``, or the newest ``limit`` of them.

    ``first`` and ``last`` bound the ids. Rows that a rewind removed are returned only with
    ``inactive``.
    """
    names = ("id", *(name for name in COLUMNS if name in columns.messages))
    newest = MAX_INTEGER if limit is None else min(limit, MAX_INTEGER)
    parameters = {"session_id": session_id, "newest": newest, "first": first, "last": last}
    active = "" if inactive else _only_active(columns)
    found = database.rows(_select_newest(names, active, columns.rules.order), parameters)
    return [dict(zip(names, row, strict=True)) for row in reversed(found)]


def shown_messages(rows: list[Row], rules: Rules) -> list[Message]:
    """Return the messages that Hermes shows for ``rows``."""
    return without_maintenance([decode(row, rules) for row in rows], rules)


def shown_rows(rows: list[Row], rules: Rules) -> list[Row]:
    """Return the rows whose messages Hermes shows."""
    messages = [decode(row, rules) for row in rows]
    shown = {id(message) for message in without_maintenance(messages, rules)}
    return [row for row, message in zip(rows, messages, strict=True) if id(message) in shown]


def _only_active(columns: Columns) -> str:
    # Versions of Hermes without the column have no rewind.
    return " AND active = 1" if "active" in columns.messages else ""


@cache
def _select_newest(names: tuple[str, ...], active: str, order: str) -> TextClause:
    last = "id DESC" if order == "id" else "timestamp DESC, id DESC"
    # The plus keeps SQLite from reading the whole table by row id: the session's index is better.
    return text(
        f"SELECT {', '.join(names)} FROM messages"  # noqa: S608  # fixed names
        f" WHERE session_id = :session_id AND +id BETWEEN :first AND :last{active}"
        f" ORDER BY {last} LIMIT :newest"
    )


@cache
def _select_count(active: str) -> TextClause:
    return text(
        f"SELECT count(*), coalesce(sum({MAY_BE_MAINTENANCE}), 0) FROM messages"  # noqa: S608  # as above
        f" WHERE session_id = :session_id{active}"
    )
