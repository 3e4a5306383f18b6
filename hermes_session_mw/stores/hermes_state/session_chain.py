"""Which session a client's id leads to, and whose it is.

Where a conversation grows too long, Hermes ends its session and goes on in a child of it. The id
that a client holds is the old one: it leads to the last child, as Hermes itself resolves it.
"""

from dataclasses import dataclass

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.hermes_state.schema import Columns

_MOST = 100  # as many steps as Hermes takes

_CONFIG = "CASE WHEN json_valid({0}.model_config) THEN {0}.model_config ELSE '{{}}' END"
PLAIN = (
    f"json_extract({_CONFIG}, '$._branched_from') IS NULL"
    f" AND json_extract({_CONFIG}, '$._delegate_from') IS NULL"
    " AND coalesce({0}.source, '') <> 'tool'"
)
"""SQL that is true of a child that is neither a branch nor a helper's session."""

_USERS = {True: "user_id", False: "NULL"}  # by whether there is such a column
_session = {
    has_user: text(
        f"SELECT {user}, started_at, end_reason FROM sessions WHERE id = :session_id"  # noqa: S608  # fixed names
    )
    for has_user, user in _USERS.items()
}
# Of several children the one that is itself continued comes first, then one that goes on; a
# closed one last. Among equals it is the one that was written to last.
_next = {
    has_user: text(
        f"SELECT id, {user}, end_reason FROM sessions AS child"  # noqa: S608  # fixed names
        f" WHERE parent_session_id = :session_id AND {PLAIN.format('child')}"
        " ORDER BY CASE WHEN end_reason = 'compression' THEN 0"
        " WHEN ended_at IS NULL THEN 1 ELSE 2 END,"
        " coalesce((SELECT max(timestamp) FROM messages WHERE session_id = child.id),"
        " started_at) DESC, started_at DESC, id DESC LIMIT 1"
    )
    for has_user, user in _USERS.items()
}
_continued = text(
    "SELECT parent.id, parent.user_id"  # noqa: S608  # fixed names
    " FROM sessions AS child JOIN sessions AS parent ON parent.id = child.parent_session_id"
    " WHERE child.id = :session_id AND parent.end_reason = 'compression'"
    f" AND {PLAIN.format('child')}"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is under an id.

    Attributes:
        chain: the id that was asked for, and those of the sessions that continue it.
        began: when the first of them was begun; with the id, it tells a session from another that
            had its id before.
        is_own: whether the owner who asks may see it.
    """

    chain: tuple[str, ...]
    began: float
    is_own: bool

    @property
    def tip(self) -> str:
        """The session that the conversation goes on in."""
        return self.chain[-1]


def find(database: Database, columns: Columns, session_id: str, owner: str) -> Found | None:
    """Return what there is under ``session_id``, for ``owner`` ("" sees all); None: nothing.

    Raises:
        StoreMisconfigured: the database does not know owners.
    """
    if owner:
        columns.check_known("owners", "sessions.user_id")
    has_user = "user_id" in columns.sessions
    rows = database.rows(_session[has_user], {"session_id": session_id})
    if not rows:
        return None
    user, began, end_reason = rows[0]
    if user is None and owner:
        user = _inherited(database, session_id)
    chain, users = [session_id], {user}
    while end_reason == "compression" and len(chain) <= _MOST:
        following = database.rows(_next[has_user], {"session_id": chain[-1]})
        if not following or following[0][0] in chain:
            break
        child, child_user, end_reason = following[0]
        chain.append(child)
        # Hermes gives a continuation no user: it is his whose conversation it continues.
        users.add(user if child_user is None else child_user)
    return Found(tuple(chain), began, is_own=not owner or users == {owner})


def _inherited(database: Database, session_id: str) -> str | None:
    """Return whose conversation a session continues that names nobody itself."""
    seen = {session_id}
    while len(seen) <= _MOST:
        rows = database.rows(_continued, {"session_id": session_id})
        if not rows or rows[0][0] in seen:
            return None
        session_id, user = rows[0]
        if user is not None:
            return str(user)
        seen.add(session_id)
    return None
