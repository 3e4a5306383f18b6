"""The SQL that lists sessions, names them, and takes turns back."""

import unicodedata
from dataclasses import replace
from functools import cache, partial
from typing import Any

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.stores.hermes_state.append import place_of, take_out
from hermes_session_mw.stores.hermes_state.load import measure, rows_of, snapshot, visible
from hermes_session_mw.stores.hermes_state.message_codec import decode
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import PLAIN, Found, find
from hermes_session_mw.stores.hermes_state.titles import keep_title, kept_title
from hermes_session_mw.stores.hermes_state.turn_index import recall
from hermes_session_mw.stores.models import SessionInfo, StoredTurn
from hermes_session_mw.stores.pagination import Position, time_of

_MAX_TITLE = 100  # characters that Hermes gives a title

# A time as microseconds, as far as Python's calendar goes: a message may claim any.
_MICROSECONDS = "CAST(round(min(max({0}, -62135596800), 253402300799) * 1000000) AS INTEGER)"
_CHANGED = (
    "coalesce((SELECT max(timestamp) FROM messages WHERE session_id = sessions.id), started_at)"
)
# Not what continues another, nor a helper's session; a branch is a conversation of its own.
_ROOT = (
    "coalesce(root.source, '') <> 'tool'"
    " AND json_extract(coalesce(root.model_config, '{}'), '$._delegate_from') IS NULL"
    " AND (root.parent_session_id IS NULL OR parent.end_reason = 'branched'"
    " OR json_extract(coalesce(root.model_config, '{}'), '$._branched_from') IS NOT NULL)"
)
_about = {
    has_title: text(
        f"SELECT {'title' if has_title else 'NULL'},"  # noqa: S608  # fixed names
        f" {_MICROSECONDS.format('started_at')}, {_MICROSECONDS.format(_CHANGED)},"
        " json_extract(coalesce(model_config, '{}'), '$._branched_from')"
        " FROM sessions WHERE id = :session_id"
    )
    for has_title in (True, False)
}
_titled = text("SELECT id FROM sessions WHERE title = :title AND id <> :session_id")
_title = text("UPDATE sessions SET title = :title WHERE id = :session_id")


def info(database: Database, session_id: str, owner: str) -> SessionInfo | None:
    """See `LifecycleStore.info`."""
    with snapshot(database):
        columns = columns_of(database)
        found = find(database, columns, session_id, owner)
        return _info(database, columns, found) if found is not None and found.is_own else None


def list_page(
    database: Database, owner: str, limit: int, after: Position | None
) -> list[SessionInfo]:
    """Return up to one more than ``limit`` sessions, the ones changed last first."""
    with snapshot(database):
        columns = columns_of(database)
        place = after or Position(2**63 - 1, "")
        values: dict[str, Any] = {"changed": place.changed, "last": place.session_id}
        if owner:
            columns.check_known("owners", "sessions.user_id")
            values["owner"] = owner
        statement = _page(owned=bool(owner), may_be_hidden="archived" in columns.sessions)
        rows = database.rows(statement, {**values, "most": limit + 1})
        listed = []
        for session_id, changed in rows:
            found = find(database, columns, session_id, owner)
            if found is not None and found.is_own:
                about = _info(database, columns, found)
                listed.append(replace(about, updated_at=time_of(changed)))
        return listed


def rename(database: Database, session_id: str, title: str | None, owner: str) -> bool | None:
    """See `LifecycleStore.rename`; the title goes to where the conversation goes on.

    Returns None where a conversation that the caller may see has the title: "" sees all. An owner
    is never told so: a title that is taken is kept beside.
    """
    with transaction(database):
        columns = columns_of(database)
        columns.check_known("a title", "sessions.title")
        if owner:
            columns.check_known("an owner's title", "state_meta.key", "state_meta.value")
        found = find(database, columns, session_id, owner)
        if found is None or not found.is_own:
            return False
        key = {"title": title, "session_id": found.tip}
        beside = None
        for (other,) in database.rows(_titled, key):
            if other in found.chain:
                database.run(_title, {"title": None, "session_id": other})
            elif owner:
                beside = title
            else:
                return None
        database.run(_title, key if beside is None else {**key, "title": None})
        if columns.meta:
            ((_, began, *_),) = database.rows(_about[True], {"session_id": found.tip})
            keep_title(database, found.tip, began, beside)
        return True


def check_hermes_title(title: str | None) -> None:
    """Refuse a title that Hermes would have written otherwise.

    Raises:
        ValueError: it is empty or too long, or has white space or characters that Hermes removes.
    """
    if title is None:
        return
    if not title or len(title) > _MAX_TITLE:
        raise ValueError(f"title: {len(title)} characters; Hermes takes 1 to {_MAX_TITLE}")
    plain = not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in title)
    if " ".join(title.split()) != title or not plain or "\ufffc" in title:
        raise ValueError(
            "title: Hermes keeps none with control characters, or with white space other than "
            "single spaces between words"
        )


def rewind(database: Database, session_id: str, length: int, owner: str) -> int:
    """See `LifecycleStore.rewind`; what is taken out stays in the table, as Hermes keeps it."""
    with transaction(database):
        columns = columns_of(database)
        columns.check_known("what is taken back", "messages.active")
        found = find(database, columns, session_id, owner)
        if found is None or not found.is_own:
            return 0
        rows = rows_of(database, columns, found.tip)
        whole = len(visible(rows))
        if whole <= length:
            return whole
        take_out(database, columns, found.tip, rows[place_of(rows, length) :])
        return length


def find_turn(database: Database, session_id: str, turn_id: str, owner: str) -> StoredTurn | None:
    """See `LifecycleStore.find_turn`."""
    with snapshot(database):
        columns = columns_of(database)
        found = find(database, columns, session_id, owner)
        if found is None or not found.is_own or not columns.meta:
            return None
        turn = recall(database, session_id, turn_id, found.began)
        if turn is None:
            return None
        rows_between = partial(
            rows_of, database, columns, turn.session, first=turn.first, upto=turn.last
        )
        rows = rows_between(taken_out=True)
        if len(rows) != turn.last - turn.first + 1:
            return None  # Hermes has written the conversation anew
        start = None
        still_there = len(rows_between())
        if turn.session == found.tip and still_there == len(rows):
            start = len(visible(rows_of(database, columns, found.tip, upto=turn.first - 1)))
        messages = [
            {key: value for key, value in decode(row).items() if key not in added}
            for row, added in zip(rows, turn.added, strict=True)
        ]
        return StoredTurn(turn_id, messages, start)


def _info(database: Database, columns: Columns, found: Found) -> SessionInfo:
    has_title = "title" in columns.sessions
    told = [database.rows(_about[has_title], {"session_id": each})[0] for each in found.chain]
    title = told[-1][0]
    if title is None and columns.meta:
        title = kept_title(database, found.tip, told[-1][1])
    begun, parent = told[0][1], told[0][3]
    changed = max(row[2] for row in told)
    length, _ = measure(database, columns, found.tip)
    return SessionInfo(
        found.chain[0], title, length, time_of(begun), time_of(changed), parent_id=parent
    )


@cache
def _page(*, owned: bool, may_be_hidden: bool) -> TextClause:
    # A conversation is listed by the session that it began in, as Hermes lists it.
    whose = " AND root.user_id = :owner" if owned else ""
    hidden = " AND coalesce(root.archived, 0) = 0" if may_be_hidden else ""
    return text(
        "WITH RECURSIVE line (root, id) AS ("  # noqa: S608  # fixed names
        "SELECT root.id, root.id FROM sessions AS root"
        f" LEFT JOIN sessions AS parent ON parent.id = root.parent_session_id"
        f" WHERE {_ROOT}{whose}{hidden}"
        " UNION SELECT line.root, child.id FROM line"
        " JOIN sessions AS parent ON parent.id = line.id"
        " JOIN sessions AS child ON child.parent_session_id = parent.id"
        f" WHERE parent.end_reason = 'compression' AND {PLAIN.format('child')}"
        "), listed (id, changed) AS ("
        f"SELECT line.root, max({_MICROSECONDS.format(_CHANGED)}) FROM line"
        " JOIN sessions ON sessions.id = line.id GROUP BY line.root)"
        " SELECT id, changed FROM listed"
        " WHERE changed < :changed OR (changed = :changed AND id > :last)"
        " ORDER BY changed DESC, id LIMIT :most"
    )
