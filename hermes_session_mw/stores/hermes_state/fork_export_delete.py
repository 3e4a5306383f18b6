"""SQL that forks, exports and deletes conversations, by Hermes' own columns.

A fork is what Hermes calls a branch. A deletion takes what Hermes' own takes: it knows sessions one
by one, and a conversation here is all of those that continue each other.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import snapshot, transaction
from hermes_session_mw.exceptions import SessionConflict, SessionNotFound
from hermes_session_mw.messages import Message
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.hermes_state.append import (
    insert_messages,
    insert_session,
    row_count_for,
)
from hermes_session_mw.stores.hermes_state.keys_metadata import metadata_of
from hermes_session_mw.stores.hermes_state.leases import check_free
from hermes_session_mw.stores.hermes_state.list_rename_rewind import info_of
from hermes_session_mw.stores.hermes_state.load import Row, fetch_rows, shown_rows
from hermes_session_mw.stores.hermes_state.message_codec import decode
from hermes_session_mw.stores.hermes_state.rules import Rules
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import (
    SessionChain,
    ancestors,
    find_chain,
    marker,
)
from hermes_session_mw.stores.hermes_state.state_meta import (
    is_deleted,
    load_metadata,
    mark_deleted,
)
from hermes_session_mw.stores.jsonl import ExportedRow

_select_end = text("SELECT end_reason FROM sessions WHERE id = :session_id")
_select_user = text("SELECT user_id FROM sessions WHERE id = :session_id")
_select_exists = text("SELECT message_count FROM sessions WHERE id = :session_id")
_delete_messages = text("DELETE FROM messages WHERE session_id = :session_id")
_orphan = text("UPDATE sessions SET parent_session_id = NULL WHERE parent_session_id = :session_id")
_delete_session = text("DELETE FROM sessions WHERE id = :session_id")


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """The arguments of `LifecycleStore.fork`, and the store's own options."""

    session_id: str
    new_id: str
    owner: str
    length: int | None
    source: str


def fork(database: Database, request: ForkRequest) -> int:
    """See `LifecycleStore.fork`."""
    with transaction(database):
        columns = columns_of(database)
        columns.check_writable()
        chain = find_chain(database, columns, request.session_id, request.owner)
        if chain is None or not chain.is_own:
            raise SessionNotFound
        _check_unused(database, columns, request.new_id)
        rows = fetch_rows(database, columns, chain.tip)
        length = len(shown_rows(rows, columns.rules))
        if request.length is not None and request.length < length:
            rows = rows[: row_count_for(rows, request.length, columns.rules)]
        copied = [
            {name: value for name, value in row.items() if name != "id"}
            for row in shown_rows(rows, columns.rules)
        ]
        insert_session(
            database,
            id=request.new_id,
            source=request.source,
            started_at=time.time(),
            parent_session_id=_parent_of_fork(database, columns.rules, chain.tip),
            model_config=json.dumps({"_branched_from": chain.tip}),
            **_user_of(database, columns, chain),
        )
        insert_messages(database, columns, request.new_id, copied)
        return len(copied)


def export(database: Database, session_id: str, owner: str) -> str:
    """See `LifecycleStore.export`; a turn begins with each question, under its row's number."""
    with snapshot(database):
        columns = columns_of(database)
        chain = find_chain(database, columns, session_id, owner)
        if chain is None or not chain.is_own:
            raise SessionNotFound
        rows = shown_rows(fetch_rows(database, columns, chain.tip), columns.rules)
        body = metadata_of(database, columns, session_id, owner) if columns.meta else None
        metadata = None if body is None else json.loads(body)
        numbered = _numbered(rows, columns.rules)
        return jsonl.dump(info_of(database, columns, chain), numbered, metadata)


def delete(database: Database, session_id: str, owner: str) -> bool:
    """See `LifecycleStore.delete`; Hermes' helpers of the conversation are deleted with it."""
    with transaction(database):
        columns = columns_of(database)
        columns.check_writable()
        chain = find_chain(database, columns, session_id, owner)
        if chain is None and columns.meta:
            had_metadata = metadata_of(database, columns, session_id, owner) is not None
            if had_metadata:
                mark_deleted(database, session_id)
            return had_metadata
        if chain is None or not chain.is_own:
            return False
        check_free(database, columns, chain.tip, None, replaces=True)
        ids = _conversation(database, columns, chain, owner)
        for each in (*_helpers(database, columns, ids), *ids):
            database.run(_delete_messages, {"session_id": each})
            database.run(_orphan, {"session_id": each})
            database.run(_delete_session, {"session_id": each})
            if columns.meta:
                mark_deleted(database, each)
        return True


def _check_unused(database: Database, columns: Columns, session_id: str) -> None:
    rows = database.rows(_select_exists, {"session_id": session_id})
    is_used = columns.meta and (
        is_deleted(database, session_id) or load_metadata(database, session_id) is not None
    )
    if rows or is_used:
        raise SessionConflict(0, rows[0][0] or 0 if rows else 0)


def _parent_of_fork(database: Database, rules: Rules, tip: str) -> str | None:
    """Return the session to name as a branch's parent, as far as that leaves it a branch."""
    if not rules.marks_branches:
        return None  # no child would be listed whose parent goes on
    ((end_reason,),) = database.rows(_select_end, {"session_id": tip})
    # By the oldest rule every later child of a compressed session continues it.
    return None if end_reason == "compression" and rules.continuation == "later" else tip


def _user_of(database: Database, columns: Columns, chain: SessionChain) -> dict[str, Any]:
    """Return the conversation's user, whose the fork is too."""
    if "user_id" not in columns.sessions:
        return {}
    for session_id in (
        chain.ids[0],
        *(each for each, _ in ancestors(database, columns, chain.ids[0])),
    ):
        ((user,),) = database.rows(_select_user, {"session_id": session_id})
        if user is not None:
            return {"user_id": user}
    return {}


def _numbered(rows: Sequence[Row], rules: Rules) -> list[ExportedRow]:
    numbered = []
    turn_id = ""
    for row in rows:
        if row["role"] == "user" or not turn_id:
            turn_id = f"row-{row['id']}"
        numbered.append(ExportedRow(turn_id, _json_of(decode(row, rules)), _time_of(row)))
    return numbered


def _time_of(row: Row) -> datetime | None:
    """Return when a message was stored; None if its row has no time that a clock could have."""
    try:
        return datetime.fromtimestamp(row["timestamp"], UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _json_of(message: Message) -> str:
    """Return JSON that UTF-8 can encode: Hermes' own may have escapes of lone surrogates."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    try:
        body.encode()
    except UnicodeEncodeError:
        return json.dumps(message, separators=(",", ":"))
    return body


def _conversation(
    database: Database, columns: Columns, chain: SessionChain, owner: str
) -> tuple[str, ...]:
    """Return all sessions of the conversation, also those that the chain's first one continues."""
    before = ancestors(database, columns, chain.ids[0])
    whole = find_chain(database, columns, before[-1][0], owner) if before else None
    if whole is None or chain.ids[0] not in whole.ids:  # a sibling that is not gone on with
        return chain.ids
    return whole.ids


def _helpers(database: Database, columns: Columns, ids: Sequence[str]) -> list[str]:
    """Return the sessions of delegated tasks that began in ``ids``, and of those in turn."""
    if not columns.rules.marks_helpers:
        return []
    found: list[str] = []
    asked = list(ids)
    while asked:
        rows = database.rows(_select_helpers(), {"session_id": asked.pop()})
        new = [row[0] for row in rows if row[0] not in found and row[0] not in ids]
        found += new
        asked += new
    return found


@cache
def _select_helpers() -> TextClause:
    delegated = marker("sessions", "_delegate_from")
    return text(
        f"SELECT id FROM sessions WHERE {delegated} = :session_id"  # noqa: S608  # fixed names
        f" OR (parent_session_id = :session_id AND {delegated} IS NOT NULL)"
    )
