"""Finds the sessions that a client's id leads to, and their owner.

When a conversation grows too long, Hermes ends its session and continues it in a child. A client
still has the old id: it leads to the last child, as Hermes itself resolves it.
"""

from dataclasses import dataclass

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.hermes_state.schema import Columns

_MAX_STEPS = 100  # the same limit as Hermes'

_CONFIG = "CASE WHEN json_valid({0}.model_config) THEN {0}.model_config ELSE '{{}}' END"
IS_CONTINUATION = (
    f"json_extract({_CONFIG}, '$._branched_from') IS NULL"
    f" AND json_extract({_CONFIG}, '$._delegate_from') IS NULL"
    " AND coalesce({0}.source, '') <> 'tool'"
)
"""SQL that is true for a child that is neither a branch nor a delegated task's session."""

_USERS = {True: "user_id", False: "NULL"}  # key: whether that column exists
_select_session = {
    has_user: text(
        f"SELECT {user}, started_at, end_reason FROM sessions WHERE id = :session_id"  # noqa: S608  # fixed names
    )
    for has_user, user in _USERS.items()
}
# Of several children a continued one comes first, then one that has not ended, then one that has;
# among equals the one that was written to last.
_select_child = {
    has_user: text(
        f"SELECT id, {user}, end_reason FROM sessions AS child"  # noqa: S608  # fixed names
        f" WHERE parent_session_id = :session_id AND {IS_CONTINUATION.format('child')}"
        " ORDER BY CASE WHEN end_reason = 'compression' THEN 0"
        " WHEN ended_at IS NULL THEN 1 ELSE 2 END,"
        " coalesce((SELECT max(timestamp) FROM messages WHERE session_id = child.id),"
        " started_at) DESC, started_at DESC, id DESC LIMIT 1"
    )
    for has_user, user in _USERS.items()
}
_select_parent = text(
    "SELECT parent.id, parent.user_id"  # noqa: S608  # fixed names
    " FROM sessions AS child JOIN sessions AS parent ON parent.id = child.parent_session_id"
    " WHERE child.id = :session_id AND parent.end_reason = 'compression'"
    f" AND {IS_CONTINUATION.format('child')}"
)


@dataclass(frozen=True, slots=True)
class SessionChain:
    """The sessions that one id leads to.

    Attributes:
        ids: the id that was asked for, and those of the sessions that continue it.
        started_at: when the first of them began; it distinguishes a session from an earlier one
            with the same id.
        is_own: whether the requested owner may see it.
    """

    ids: tuple[str, ...]
    started_at: float
    is_own: bool

    @property
    def tip(self) -> str:
        """The id of the last session, in which the conversation goes on."""
        return self.ids[-1]


def find_chain(
    database: Database, columns: Columns, session_id: str, owner: str
) -> SessionChain | None:
    """Return the sessions that ``session_id`` leads to, or None; the owner "" sees all."""
    if owner:
        columns.check_known("owners", "sessions.user_id")
    has_user = "user_id" in columns.sessions
    rows = database.rows(_select_session[has_user], {"session_id": session_id})
    if not rows:
        return None
    user, started_at, end_reason = rows[0]
    if user is None and owner:
        user = _inherited_user(database, session_id)
    ids, users = [session_id], {user}
    while end_reason == "compression" and len(ids) <= _MAX_STEPS:
        children = database.rows(_select_child[has_user], {"session_id": ids[-1]})
        if not children or children[0][0] in ids:
            break
        child, child_user, end_reason = children[0]
        ids.append(child)
        # Hermes gives a continuation no user: its owner is that of the conversation.
        users.add(user if child_user is None else child_user)
    return SessionChain(tuple(ids), started_at, is_own=not owner or users == {owner})


def _inherited_user(database: Database, session_id: str) -> str | None:
    """Return the user of the session that this one continues."""
    seen = {session_id}
    while len(seen) <= _MAX_STEPS:
        rows = database.rows(_select_parent, {"session_id": session_id})
        if not rows or rows[0][0] in seen:
            return None
        session_id, user = rows[0]
        if user is not None:
            return str(user)
        seen.add(session_id)
    return None
