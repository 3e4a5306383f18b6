"""The SQL that appends, in one transaction that begins ready to write.

Rules of this file: what is written is what Hermes itself would have written for the same messages;
its own triggers keep the full-text index; nothing is changed but rows.
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
from hermes_session_mw.stores.hermes_state.load import Row, measure, rows_of, visible
from hermes_session_mw.stores.hermes_state.message_codec import encode
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import Found, find
from hermes_session_mw.stores.hermes_state.turn_index import (
    Turn,
    added_to,
    digest_of,
    recall,
    remember,
)
from hermes_session_mw.stores.validation import check_replaced

_STEP = 1e-6  # seconds between the messages of a turn, as Hermes has them

_add_own = text(
    "INSERT INTO sessions (id, source, user_id, started_at)"
    " VALUES (:session_id, :source, :owner, :now)"
)
_add_anybodys = text(
    "INSERT INTO sessions (id, source, started_at) VALUES (:session_id, :source, :now)"
)
_count_up = text(
    "UPDATE sessions SET message_count = coalesce(message_count, 0) + :messages,"
    " tool_call_count = coalesce(tool_call_count, 0) + :tool_calls WHERE id = :session_id"
)
_locked_until = text("SELECT expires_at FROM compression_locks WHERE session_id = :session_id")
_questions = {
    has_active: text(
        "SELECT count(*) FROM messages"  # noqa: S608  # fixed names
        f" WHERE session_id = :session_id AND role = 'user'{' AND active = 1' * has_active}"
    )
    for has_active in (True, False)
}
_take_out = text("UPDATE messages SET active = 0 WHERE id = :id")
_count_rewind = text(
    "UPDATE sessions SET rewind_count = coalesce(rewind_count, 0) + 1 WHERE id = :session_id"
)
_last_id = text("SELECT max(id) FROM messages WHERE session_id = :session_id")


@dataclass(frozen=True, slots=True)
class Append:
    """What `Store.append` was asked for, and the store's own choices."""

    session_id: str
    messages: Sequence[Message]
    owner: str
    turn_id: str | None
    expected_length: int | None
    replace_from: int | None
    source: str
    max_turns: int
    exact: bool


def append(database: Database, wanted: Append) -> int:
    """See `Store.append`."""
    with transaction(database):
        columns = columns_of(database)
        columns.check_writable()
        if wanted.turn_id is not None:
            columns.check_known("a turn_id", "state_meta.key", "state_meta.value")
        found = find(database, columns, wanted.session_id, wanted.owner)
        if found is not None and not found.is_own:
            raise SessionTaken
        turn = _stored(database, wanted, found)
        if turn is not None and found is not None:
            return len(visible(rows_of(database, columns, found.tip, upto=turn.last)))
        return _add(database, columns, wanted, found)


def _stored(database: Database, wanted: Append, found: Found | None) -> Turn | None:
    if wanted.turn_id is None or found is None:
        return None
    turn = recall(database, wanted.session_id, wanted.turn_id, found.began)
    if turn is not None and turn.digest != digest_of(wanted.messages):
        raise TurnConflict
    return turn


def _add(database: Database, columns: Columns, wanted: Append, found: Found | None) -> int:
    now = time.time()
    rows = [
        encode(number, message, columns.messages, exact=wanted.exact)
        for number, message in enumerate(wanted.messages)
    ]
    _number(rows, now)
    place = _place(database, columns, wanted, found, rows)
    if found is not None and place.leaving:
        take_out(database, columns, found.tip, place.leaving)
    if found is None:
        found = Found((wanted.session_id,), now, is_own=True)
        values = {"session_id": wanted.session_id, "source": wanted.source, "now": now}
        if wanted.owner:
            database.run(_add_own, {**values, "owner": wanted.owner})
        else:
            database.run(_add_anybodys, values)
    _insert(database, columns, found.tip, rows)
    calls = sum(_calls(message.get("tool_calls")) for message in wanted.messages)
    counts = {"messages": len(rows), "tool_calls": calls}
    database.run(_count_up, {**counts, "session_id": found.tip})
    if wanted.turn_id is not None:
        ((last,),) = database.rows(_last_id, {"session_id": found.tip})
        first = last - len(rows) + 1
        added = [added_to(message) for message in wanted.messages]
        turn = Turn(found.began, found.tip, first, last, digest_of(wanted.messages), added)
        remember(database, wanted.session_id, wanted.turn_id, turn)
    return place.length + len(rows)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where rows may follow: after ``length`` messages, once the rows ``leaving`` are taken out."""

    length: int
    leaving: list[Row]


def _place(
    database: Database, columns: Columns, wanted: Append, found: Found | None, rows: list[Row]
) -> _Place:
    length, is_plain, turns = 0, True, 0
    if found is not None:
        _check_lock(database, columns, found.tip)
        length, is_plain = measure(database, columns, found.tip)
        has_active = "active" in columns.messages
        ((turns,),) = database.rows(_questions[has_active], {"session_id": found.tip})
    if wanted.expected_length is not None and wanted.expected_length != length:
        raise SessionConflict(wanted.expected_length, length)
    keep = length if wanted.replace_from is None else wanted.replace_from
    check_replaced(keep, length)
    before: list[Row] = []
    leaving: list[Row] = []
    if found is not None and (keep < length or not is_plain):
        before = rows_of(database, columns, found.tip)
    if keep < length:
        cut = place_of(before, keep)
        before, leaving = before[:cut], before[cut:]
        turns = sum(row["role"] == "user" for row in before)
    # A full history may be replaced by one that is no longer.
    if turns >= wanted.max_turns and keep + len(rows) > length:
        raise SessionFull(wanted.max_turns)
    check_visible(rows, before)
    return _Place(keep, leaving)


def check_visible(rows: list[Row], before: list[Row]) -> None:
    """Refuse what Hermes leaves out for its own upkeep, and the answer to that.

    Raises:
        InvalidMessage: ``rows`` would not come back after the rows ``before``.
    """
    if len(visible(before + rows)) != len(visible(before)) + len(rows):
        raise InvalidMessage(
            "the messages look like Hermes' own upkeep, and would not come back from its "
            "database; nothing was stored"
        )


def place_of(rows: list[Row], length: int) -> int:
    """Return how many of the rows hold the first ``length`` messages that Hermes shows."""
    whole = len(visible(rows))
    # Between the messages that Hermes shows there may stand some that it does not.
    ends = range(length, len(rows)) if whole < len(rows) else (length,)
    return next(end for end in ends if len(visible(rows[:end])) == length)


def take_out(database: Database, columns: Columns, session_id: str, rows: list[Row]) -> None:
    """Have Hermes leave the rows out of its history, as its own rewind does; they stay."""
    columns.check_known("what is taken back", "messages.active")
    database.run(_take_out, *[{"id": row["id"]} for row in rows])
    if "rewind_count" in columns.sessions:
        database.run(_count_rewind, {"session_id": session_id})


def _check_lock(database: Database, columns: Columns, session_id: str) -> None:
    """Refuse to add to what Hermes is summarizing: the summary would not know of it."""
    if not {"session_id", "expires_at"} <= columns.locks:
        return
    for (until,) in database.rows(_locked_until, {"session_id": session_id}):
        rest = until - time.time()
        if rest > 0:
            raise SessionBusy(rest)


def _number(rows: list[Row], now: float) -> None:
    """Give those a time that have none: now, and later than the one before."""
    for row in rows:
        if row["timestamp"] is None:
            row["timestamp"] = now
        now = max(now, row["timestamp"]) + _STEP


def _insert(database: Database, columns: Columns, session_id: str, rows: list[Row]) -> None:
    active = {"active": 1} if "active" in columns.messages else {}
    values = [{"session_id": session_id, **active, **row} for row in rows]
    database.run(_insert_of(tuple(values[0])), *values)


@cache
def _insert_of(names: tuple[str, ...]) -> TextClause:
    places = ", ".join(f":{name}" for name in names)
    return text(
        f"INSERT INTO messages ({', '.join(names)}) VALUES ({places})"  # noqa: S608  # known names
    )


def _calls(tool_calls: object) -> int:
    if isinstance(tool_calls, list):
        return len(tool_calls)
    return 0 if tool_calls is None else 1
