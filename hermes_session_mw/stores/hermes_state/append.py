"""SQL that appends, in one transaction that takes SQLite's write lock at its beginning.

It writes the rows that Hermes itself would have written for the same messages. Hermes' own triggers
maintain the full-text index. The tables are never changed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import (
    InvalidMessage,
    SessionBusy,
    SessionConflict,
    SessionFull,
    SessionTaken,
    TurnConflict,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.hermes_state.load import Row, fetch_rows, measure, shown_messages
from hermes_session_mw.stores.hermes_state.message_codec import encode
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import SessionChain, find_chain
from hermes_session_mw.stores.hermes_state.state_meta import (
    TurnEntry,
    digest_of,
    keys_added_to,
    load_turn,
    store_turn,
)
from hermes_session_mw.stores.validation import check_replaced

_STEP = 1e-6  # seconds between the messages of a turn, as Hermes does

_insert_owned = text(
    "INSERT INTO sessions (id, source, user_id, started_at)"
    " VALUES (:session_id, :source, :owner, :now)"
)
_insert_unowned = text(
    "INSERT INTO sessions (id, source, started_at) VALUES (:session_id, :source, :now)"
)
_add_counts = text(
    "UPDATE sessions SET message_count = coalesce(message_count, 0) + :messages,"
    " tool_call_count = coalesce(tool_call_count, 0) + :tool_calls WHERE id = :session_id"
)
_select_lock = text("SELECT expires_at FROM compression_locks WHERE session_id = :session_id")
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
_select_last_id = text("SELECT max(id) FROM messages WHERE session_id = :session_id")


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """The arguments of `Store.append`, and the store's own options."""

    session_id: str
    messages: Sequence[Message]
    owner: str
    turn_id: str | None
    expected_length: int | None
    replace_from: int | None
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
        if chain is not None and not chain.is_own:
            raise SessionTaken
        turn = _stored_turn(database, request, chain)
        if turn is not None and chain is not None:
            return len(shown_messages(fetch_rows(database, columns, chain.tip, last=turn.last)))
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
    rows = [
        encode(number, message, columns.messages, exact=request.exact)
        for number, message in enumerate(request.messages)
    ]
    _add_timestamps(rows, now)
    kept, replaced = _find_position(database, columns, request, chain, rows)
    if chain is not None and replaced:
        deactivate(database, columns, chain.tip, replaced)
    if chain is None:
        chain = SessionChain((request.session_id,), now, is_own=True)
        parameters = {"session_id": request.session_id, "source": request.source, "now": now}
        if request.owner:
            database.run(_insert_owned, {**parameters, "owner": request.owner})
        else:
            database.run(_insert_unowned, parameters)
    active = {"active": 1} if "active" in columns.messages else {}
    inserted = [{"session_id": chain.tip, **active, **row} for row in rows]
    database.run(_insert_statement(tuple(inserted[0])), *inserted)
    calls = sum(_count_tool_calls(message.get("tool_calls")) for message in request.messages)
    counts = {"messages": len(rows), "tool_calls": calls}
    database.run(_add_counts, {**counts, "session_id": chain.tip})
    if request.turn_id is not None:
        ((last,),) = database.rows(_select_last_id, {"session_id": chain.tip})
        first = last - len(rows) + 1
        added = [keys_added_to(message) for message in request.messages]
        turn = TurnEntry(
            chain.started_at, chain.tip, first, last, digest_of(request.messages), added
        )
        store_turn(database, request.session_id, request.turn_id, turn)
    return kept + len(rows)


def _find_position(
    database: Database,
    columns: Columns,
    request: AppendRequest,
    chain: SessionChain | None,
    rows: list[Row],
) -> tuple[int, list[Row]]:
    """Return the number of messages before the new rows, and the rows that they replace."""
    length, one_per_row, turns = 0, True, 0
    if chain is not None:
        _check_lock(database, columns, chain.tip)
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
        cut = row_count_for(before, keep)
        before, replaced = before[:cut], before[cut:]
        turns = sum(row["role"] == "user" for row in before)
    # A full history may be replaced by one of at most the same length.
    if turns >= request.max_turns and keep + len(rows) > length:
        raise SessionFull(request.max_turns)
    check_visible(rows, before)
    return keep, replaced


def check_visible(rows: list[Row], before: list[Row]) -> None:
    """Raise ``InvalidMessage`` if Hermes would leave out one of ``rows`` after ``before``."""
    if len(shown_messages(before + rows)) != len(shown_messages(before)) + len(rows):
        raise InvalidMessage(
            "the messages look like Hermes' maintenance prompts, and would not come back from its "
            "database; nothing was stored"
        )


def row_count_for(rows: list[Row], length: int) -> int:
    """Return how many of the rows make up the first ``length`` messages that Hermes shows."""
    shown = len(shown_messages(rows))
    # Rows that Hermes does not show may be in between.
    ends = range(length, len(rows)) if shown < len(rows) else (length,)
    return next(end for end in ends if len(shown_messages(rows[:end])) == length)


def deactivate(database: Database, columns: Columns, session_id: str, rows: list[Row]) -> None:
    """Take the rows out of the history, as Hermes' own rewind does; they stay in the table."""
    columns.check_known("removed messages", "messages.active")
    database.run(_deactivate, *[{"id": row["id"]} for row in rows])
    if "rewind_count" in columns.sessions:
        database.run(_add_rewind, {"session_id": session_id})


def _check_lock(database: Database, columns: Columns, session_id: str) -> None:
    """Refuse to append while Hermes compresses the session: the summary would lack the turn."""
    if not {"session_id", "expires_at"} <= columns.locks:
        return
    for (until,) in database.rows(_select_lock, {"session_id": session_id}):
        remaining = until - time.time()
        if remaining > 0:
            raise SessionBusy(remaining)


def _add_timestamps(rows: list[Row], now: float) -> None:
    """Set the time of each row without one: now, and later than the row before."""
    for row in rows:
        if row["timestamp"] is None:
            row["timestamp"] = now
        now = max(now, row["timestamp"]) + _STEP


@cache
def _insert_statement(names: tuple[str, ...]) -> TextClause:
    placeholders = ", ".join(f":{name}" for name in names)
    return text(
        f"INSERT INTO messages ({', '.join(names)}) VALUES ({placeholders})"  # noqa: S608  # known names
    )


def _count_tool_calls(tool_calls: object) -> int:
    if isinstance(tool_calls, list):
        return len(tool_calls)
    return 0 if tool_calls is None else 1
