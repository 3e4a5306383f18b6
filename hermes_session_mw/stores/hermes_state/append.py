"""SQL that appends, in one transaction that takes SQLite's write lock at its beginning.

It writes the rows that Hermes itself would have written for the same messages. Hermes' own triggers
maintain the full-text index. The tables are never changed.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import (
    InvalidMessage,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionTaken,
    TurnConflict,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.hermes_state.leases import check_free
from hermes_session_mw.stores.hermes_state.load import Row, fetch_rows, measure, shown_messages
from hermes_session_mw.stores.hermes_state.message_codec import encode
from hermes_session_mw.stores.hermes_state.rules import Rules
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import SessionChain, find_chain
from hermes_session_mw.stores.hermes_state.state_meta import (
    TurnEntry,
    beside_of,
    digest_of,
    is_deleted,
    keys_added_to,
    load_turn,
    store_turn,
    without_beside,
)
from hermes_session_mw.stores.validation import check_replaced

_STEP = 1e-6  # seconds between the messages of a turn, as Hermes does

_add_counts = text(
    "UPDATE sessions SET message_count = coalesce(message_count, 0) + :messages,"
    " tool_call_count = coalesce(tool_call_count, 0) + :tool_calls WHERE id = :session_id"
)
_count_turns = {
    has_active: text(
        "SELECT count(*) FROM messages"  # noqa: S608  # fixed names
        f" WHERE session_id = :session_id AND role = 'user'{' AND active = 1' * has_active}"
    )
    for has_active in (True, False)
}
_deactivate = text("UPDATE messages SET active = 0 WHERE id = :id")
_add_rewind = text(
    "UPDATE sessions SET rewind_count = coalesce(rewind_count, 0) + 1 WHERE id = :session_id"
)
_set_counts = text(
    "UPDATE sessions SET message_count = :messages, tool_call_count = :tool_calls"
    " WHERE id = :session_id"
)
_select_last_id = text("SELECT max(id) FROM messages WHERE session_id = :session_id")
_select_last_time = text("SELECT max(timestamp) FROM messages WHERE session_id = :session_id")


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """The arguments of `Store.append`, and the store's own options."""

    session_id: str
    messages: Sequence[Message]
    owner: str
    turn_id: str | None
    expected_length: int | None
    replace_from: int | None
    fence: int | None
    source: str
    max_turns: int
    exact: bool


def append(database: Database, request: AppendRequest) -> int:
    """See `Store.append`."""
    with transaction(database):
        columns = columns_of(database)
        columns.check_writable()
        if request.turn_id is not None:
            columns.check_known("a turn_id", "state_meta.key", "state_meta.value")
        chain = find_chain(database, columns, request.session_id, request.owner)
        if chain is None and columns.meta and is_deleted(database, request.session_id):
            raise SessionDeleted
        if chain is not None and not chain.is_own:
            raise SessionTaken
        turn = _stored_turn(database, request, chain)
        if turn is not None and chain is not None:
            rows = fetch_rows(database, columns, chain.tip, last=turn.last)
            return len(shown_messages(rows, columns.rules))
        return _add_turn(database, columns, request, chain)


def _stored_turn(
    database: Database, request: AppendRequest, chain: SessionChain | None
) -> TurnEntry | None:
    if request.turn_id is None or chain is None:
        return None
    turn = load_turn(database, request.session_id, request.turn_id, chain.started_at)
    if turn is not None and turn.digest != digest_of(request.messages):
        raise TurnConflict
    return turn


def _add_turn(
    database: Database, columns: Columns, request: AppendRequest, chain: SessionChain | None
) -> int:
    now = time.time()
    messages = request.messages
    if request.turn_id is not None and not request.exact:
        messages = [without_beside(message) for message in messages]
    rows = [
        encode(number, message, columns.messages, columns.rules, exact=request.exact)
        for number, message in enumerate(messages)
    ]
    if columns.rules.order == "timestamp":
        _add_timestamps(rows, now, newest=_find_newest(database, chain))
    else:
        _add_timestamps(rows, now)
    kept, replaced = _find_position(database, columns, request, chain, rows)
    if chain is not None and replaced:
        deactivate(database, columns, chain.tip, replaced)
    if chain is None:
        chain = SessionChain((request.session_id,), now, is_own=True)
        user = {"user_id": request.owner} if request.owner else {}
        insert_session(
            database, id=request.session_id, source=request.source, started_at=now, **user
        )
    insert_messages(database, columns, chain.tip, rows)
    if request.turn_id is not None:
        ((last,),) = database.rows(_select_last_id, {"session_id": chain.tip})
        first = last - len(rows) + 1
        turn = TurnEntry(
            chain.started_at,
            chain.tip,
            first,
            last,
            digest_of(request.messages),
            [keys_added_to(message) for message in request.messages],
            [] if request.exact else [beside_of(message) for message in request.messages],
        )
        store_turn(database, request.session_id, request.turn_id, turn)
    return kept + len(rows)


def insert_session(database: Database, **values: Any) -> None:
    """Insert a session's row with the values of these columns."""
    database.run(_insert_statement("sessions", tuple(values)), values)


def insert_messages(database: Database, columns: Columns, session_id: str, rows: list[Row]) -> None:
    """Insert rows at the session's end, and count them and their calls as Hermes does."""
    if not rows:
        return
    active = {"active": 1} if "active" in columns.messages else {}
    inserted = [{"session_id": session_id, **active, **row} for row in rows]
    database.run(_insert_statement("messages", tuple(inserted[0])), *inserted)
    calls = sum(_count_stored_calls(row["tool_calls"]) for row in rows)
    counts = {"messages": len(rows), "tool_calls": calls}
    database.run(_add_counts, {**counts, "session_id": session_id})


def _find_position(
    database: Database,
    columns: Columns,
    request: AppendRequest,
    chain: SessionChain | None,
    rows: list[Row],
) -> tuple[int, list[Row]]:
    """Return the number of messages before the new rows, and the rows that they replace."""
    length, one_per_row, turns = 0, True, 0
    session_id = request.session_id if chain is None else chain.tip
    replaces = request.replace_from is not None
    check_free(database, columns, session_id, request.fence, replaces=replaces)
    if chain is not None:
        length, one_per_row = measure(database, columns, chain.tip)
        has_active = "active" in columns.messages
        ((turns,),) = database.rows(_count_turns[has_active], {"session_id": chain.tip})
    if request.expected_length is not None and request.expected_length != length:
        raise SessionConflict(request.expected_length, length)
    keep = length if request.replace_from is None else request.replace_from
    check_replaced(keep, length)
    before: list[Row] = []
    replaced: list[Row] = []
    if chain is not None and (keep < length or not one_per_row):
        before = fetch_rows(database, columns, chain.tip)
    if keep < length:
        cut = row_count_for(before, keep, columns.rules)
        before, replaced = before[:cut], before[cut:]
        turns = sum(row["role"] == "user" for row in before)
    # A full history may be replaced by one of at most the same length.
    if turns >= request.max_turns and keep + len(rows) > length:
        raise SessionFull(request.max_turns)
    check_visible(rows, before, columns.rules)
    return keep, replaced


def check_visible(rows: list[Row], before: list[Row], rules: Rules) -> None:
    """Raise ``InvalidMessage`` if Hermes would leave out one of ``rows`` after ``before``."""
    shown_before = len(shown_messages(before, rules))
    if len(shown_messages(before + rows, rules)) != shown_before + len(rows):
        raise InvalidMessage(
            "the messages look like Hermes' maintenance prompts, and would not come back from its "
            "database; nothing was stored"
        )


def row_count_for(rows: list[Row], length: int, rules: Rules) -> int:
    """Return how many of the rows make up the first ``length`` messages that Hermes shows."""
    shown = len(shown_messages(rows, rules))
    # Rows that Hermes does not show may be in between.
    ends = range(length, len(rows)) if shown < len(rows) else (length,)
    return next(end for end in ends if len(shown_messages(rows[:end], rules)) == length)


def deactivate(database: Database, columns: Columns, session_id: str, rows: list[Row]) -> None:
    """Take the rows out of the history, as Hermes' own rewind does; they stay in the table."""
    columns.check_known("removed messages", "messages.active")
    database.run(_deactivate, *[{"id": row["id"]} for row in rows])
    if "rewind_count" in columns.sessions:
        database.run(_add_rewind, {"session_id": session_id})
    if columns.rules.recounts:
        kept = fetch_rows(database, columns, session_id)
        calls = sum(_count_stored_calls(row["tool_calls"]) for row in kept)
        counts = {"messages": len(kept), "tool_calls": calls}
        database.run(_set_counts, {**counts, "session_id": session_id})


def _find_newest(database: Database, chain: SessionChain | None) -> float:
    """Return the latest time of the session's messages."""
    if chain is None:
        return -math.inf
    ((newest,),) = database.rows(_select_last_time, {"session_id": chain.tip})
    return -math.inf if newest is None else float(newest)


def _add_timestamps(rows: list[Row], now: float, *, newest: float | None = None) -> None:
    """Set the time of each row without one: now, and later than the row before.

    ``newest`` is given where Hermes orders messages by their times: no row may be earlier.
    """
    if newest is not None:
        now = max(now, newest + _STEP)
    for number, row in enumerate(rows):
        if row["timestamp"] is None:
            row["timestamp"] = now
        elif newest is not None and row["timestamp"] < newest:
            raise InvalidMessage(
                f"message {number} would come back from Hermes' database in another order, which "
                "is that of the times in this version; nothing was stored"
            )
        if newest is not None:
            newest = row["timestamp"]
        now = max(now, row["timestamp"]) + _STEP


@cache
def _insert_statement(table: str, names: tuple[str, ...]) -> TextClause:
    placeholders = ", ".join(f":{name}" for name in names)
    return text(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({placeholders})"  # noqa: S608  # known names
    )


def _count_stored_calls(stored: str | None) -> int:
    """Return how many calls a row has; one that is no list counts as one."""
    try:
        calls = json.loads(stored or "null")
    except ValueError:
        return 0
    return len(calls) if isinstance(calls, list) else int(calls is not None)
