"""SQL that lists and renames sessions, rewinds them, and finds turns."""

import unicodedata
from dataclasses import replace
from functools import cache, partial
from typing import Any

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import snapshot, transaction
from hermes_session_mw.stores.hermes_state.append import deactivate, row_count_for
from hermes_session_mw.stores.hermes_state.leases import check_free
from hermes_session_mw.stores.hermes_state.load import fetch_rows, measure, shown_messages
from hermes_session_mw.stores.hermes_state.message_codec import decode
from hermes_session_mw.stores.hermes_state.rules import Rules
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import (
    SessionChain,
    find_chain,
    is_continuation,
    marker,
)
from hermes_session_mw.stores.hermes_state.state_meta import load_title, load_turn, store_title
from hermes_session_mw.stores.models import SessionInfo, StoredTurn
from hermes_session_mw.stores.pagination import Position, time_of

_MAX_TITLE = 100  # characters that Hermes gives a title

# A time in microseconds, within the range of Python's calendar: a message may have any.
_MICROSECONDS = "CAST(round(min(max({0}, -62135596800), 253402300799) * 1000000) AS INTEGER)"
_CHANGED = (
    "coalesce((SELECT max(timestamp) FROM messages WHERE session_id = sessions.id), started_at)"
)
# Why a session ended whose routing key a new one has taken over since.
_RESETS = (
    "'session_reset', 'session_switch', 'idle', 'daily', 'suspended', 'resume_pending_expired'"
)
_select_info = {
    has_title: text(
        f"SELECT {'title' if has_title else 'NULL'},"  # noqa: S608  # fixed names
        f" {_MICROSECONDS.format('started_at')}, {_MICROSECONDS.format(_CHANGED)},"
        f" {marker('sessions', '_branched_from')}"
        " FROM sessions WHERE id = :session_id"
    )
    for has_title in (True, False)
}
_select_titled = text("SELECT id FROM sessions WHERE title = :title AND id <> :session_id")
_update_title = text("UPDATE sessions SET title = :title WHERE id = :session_id")


def info(database: Database, session_id: str, owner: str) -> SessionInfo | None:
    """See `LifecycleStore.info`."""
    with snapshot(database):
        columns = columns_of(database)
        chain = find_chain(database, columns, session_id, owner)
        return info_of(database, columns, chain) if chain is not None and chain.is_own else None


def list_page(database: Database, owner: str, limit: int, after: Position) -> list[SessionInfo]:
    """Return up to one more than ``limit`` sessions, the latest changed first."""
    with snapshot(database):
        columns = columns_of(database)
        parameters: dict[str, Any] = {"changed": after.changed, "last": after.session_id}
        if owner:
            columns.check_known("owners", "sessions.user_id")
            parameters["owner"] = owner
        statement = _select_page(
            columns.rules,
            owned=bool(owner),
            unlisted=tuple(name for name in ("archived", "hidden") if name in columns.sessions),
        )
        rows = database.rows(statement, {**parameters, "most": limit + 1})
        listed = []
        for session_id, changed in rows:
            chain = find_chain(database, columns, session_id, owner)
            if chain is not None and chain.is_own:
                about = info_of(database, columns, chain)
                listed.append(replace(about, updated_at=time_of(changed)))
        return listed


def rename(database: Database, session_id: str, title: str | None, owner: str) -> bool | None:
    """See `LifecycleStore.rename`; the last session of the chain gets the title.

    Returns None if another conversation has the title and the caller, without an owner, may see it.
    An owner's title that is taken is stored in ``state_meta`` instead, without an error.
    """
    with transaction(database):
        columns = columns_of(database)
        columns.check_known("a title", "sessions.title")
        if owner:
            columns.check_known("an owner's title", "state_meta.key", "state_meta.value")
        chain = find_chain(database, columns, session_id, owner)
        if chain is None or not chain.is_own:
            return False
        key = {"title": title, "session_id": chain.tip}
        title_in_meta = None
        for (other,) in database.rows(_select_titled, key):
            if other in chain.ids:
                database.run(_update_title, {"title": None, "session_id": other})
            elif owner:
                title_in_meta = title
            else:
                return None
        database.run(_update_title, key if title_in_meta is None else {**key, "title": None})
        if columns.meta:
            ((_, started_at, *_),) = database.rows(_select_info[True], {"session_id": chain.tip})
            store_title(database, chain.tip, started_at, title_in_meta)
        return True


def check_hermes_title(title: str | None) -> None:
    """Raise ``ValueError`` for a title that Hermes would not keep as it is."""
    if title is None:
        return
    if not title or len(title) > _MAX_TITLE:
        raise ValueError(f"title: {len(title)} characters; Hermes takes 1 to {_MAX_TITLE}")
    plain = not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in title)
    if " ".join(title.split()) != title or not plain or "\ufffc" in title:
        raise ValueError(
            "title: Hermes accepts no control characters, and no white space other than "
            "single spaces between words"
        )


def rewind(database: Database, session_id: str, length: int, owner: str, fence: int | None) -> int:
    """See `LifecycleStore.rewind`; the rows stay in the table, as Hermes keeps them."""
    with transaction(database):
        columns = columns_of(database)
        columns.check_writable()
        columns.check_known("removed messages", "messages.active")
        chain = find_chain(database, columns, session_id, owner)
        if chain is None or not chain.is_own:
            return 0
        check_free(database, columns, chain.tip, fence, replaces=True)
        rows = fetch_rows(database, columns, chain.tip)
        length_before = len(shown_messages(rows, columns.rules))
        if length_before <= length:
            return length_before
        removed = rows[row_count_for(rows, length, columns.rules) :]
        deactivate(database, columns, chain.tip, removed)
        return length


def find_turn(database: Database, session_id: str, turn_id: str, owner: str) -> StoredTurn | None:
    """See `LifecycleStore.find_turn`."""
    with snapshot(database):
        columns = columns_of(database)
        chain = find_chain(database, columns, session_id, owner)
        if chain is None or not chain.is_own or not columns.meta:
            return None
        turn = load_turn(database, session_id, turn_id, chain.started_at)
        if turn is None:
            return None
        rows_between = partial(
            fetch_rows, database, columns, turn.session, first=turn.first, last=turn.last
        )
        rows = rows_between(inactive=True)
        if len(rows) != turn.last - turn.first + 1:
            return None  # Hermes has rewritten the conversation
        start = None
        still_there = len(rows_between())
        if turn.session == chain.tip and still_there == len(rows):
            before = fetch_rows(database, columns, chain.tip, last=turn.first - 1)
            start = len(shown_messages(before, columns.rules))
        messages = [
            {key: value for key, value in decode(row, columns.rules).items() if key not in added}
            | beside
            for row, added, beside in zip(
                rows, turn.added, turn.beside or [{}] * len(rows), strict=True
            )
        ]
        return StoredTurn(turn_id, messages, start)


def info_of(database: Database, columns: Columns, chain: SessionChain) -> SessionInfo:
    """Return the description of a conversation."""
    has_title = "title" in columns.sessions
    rows = [database.rows(_select_info[has_title], {"session_id": each})[0] for each in chain.ids]
    title = rows[-1][0]
    if title is None and columns.meta:
        title = load_title(database, chain.tip, rows[-1][1])
    begun, parent = rows[0][1], rows[0][3]
    changed = max(row[2] for row in rows)
    length, _ = measure(database, columns, chain.tip)
    return SessionInfo(
        chain.ids[0], title, length, time_of(begun), time_of(changed), parent_id=parent
    )


@cache
def _select_page(rules: Rules, *, owned: bool, unlisted: tuple[str, ...]) -> TextClause:
    # A conversation is listed by its first session, as Hermes does.
    wanted = [
        _is_root(rules),
        *(f"coalesce(root.{name}, 0) = 0" for name in unlisted),
    ]
    if owned:
        wanted.append("root.user_id = :owner")
    return text(
        "WITH RECURSIVE line (root, id) AS ("  # noqa: S608  # fixed names
        "SELECT root.id, root.id FROM sessions AS root"
        " LEFT JOIN sessions AS parent ON parent.id = root.parent_session_id"
        f" WHERE {' AND '.join(wanted)}"
        " UNION SELECT line.root, child.id FROM line"
        " JOIN sessions AS parent ON parent.id = line.id"
        " JOIN sessions AS child ON child.parent_session_id = parent.id"
        f" WHERE parent.end_reason = 'compression' AND {is_continuation(rules, 'child', 'parent')}"
        "), listed (id, changed) AS ("
        f"SELECT line.root, max({_MICROSECONDS.format(_CHANGED)}) FROM line"
        " JOIN sessions ON sessions.id = line.id GROUP BY line.root)"
        " SELECT id, changed FROM listed"
        " WHERE changed < :changed OR (changed = :changed AND id > :last)"
        " ORDER BY changed DESC, id LIMIT :most"
    )


def _is_root(rules: Rules) -> str:
    """Return SQL that is true for a ``root``: neither a continuation nor a helper's session.

    A branch is a conversation of its own, and so is what began after a reset.
    """
    begins = [
        "root.parent_session_id IS NULL",
        "(parent.end_reason = 'branched' AND root.started_at >= parent.ended_at)",
    ]
    if rules.marks_branches:
        begins.append(f"{marker('root', '_branched_from')} IS NOT NULL")
    if rules.lists_resets:
        was_reset = f"parent.end_reason IN ({_RESETS}) AND root.session_key <> ''"
        begins += [
            f"{marker('root', '_reset_from')} IS NOT NULL",
            f"({was_reset} AND root.session_key = parent.session_key)",
        ]
    wanted = ["coalesce(root.source, '') <> 'tool'", f"({' OR '.join(begins)})"]
    if rules.marks_helpers:
        wanted.append(f"{marker('root', '_delegate_from')} IS NULL")
    if rules.lists_resets:  # where a continuation may have its parent's markers
        continues = (
            f"parent.end_reason = 'compression' AND {is_continuation(rules, 'root', 'parent')}"
        )
        wanted.append(f"NOT coalesce({continues}, 0)")
    return " AND ".join(wanted)
