"""Finds the sessions that a client's id leads to, and their owner.

When a conversation grows too long, Hermes ends its session and continues it in a child. A client
still has the old id: it leads to the last child, as Hermes itself resolves it. Which child that is
differs between versions of Hermes (``rules.py``).
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.hermes_state.rules import Rules
from hermes_session_mw.stores.hermes_state.schema import Columns

_CONFIG = "CASE WHEN json_valid({0}.model_config) THEN {0}.model_config ELSE '{{}}' END"
_MARKERS = ("_branched_from", "_delegate_from")
_IS_NO_TOOLS = "coalesce({0}.source, '') <> 'tool'"


def marker(table: str, name: str) -> str:
    """Return the SQL of a marker in a session's configuration, such as ``_branched_from``."""
    return f"json_extract({_CONFIG.format(table)}, '$.{name}')"


def is_continuation(rules: Rules, child: str, parent: str) -> str:
    """Return SQL that is true if ``child`` continues ``parent``, which ended by a compression."""
    if rules.continuation == "later":
        return f"{child}.started_at >= {parent}.ended_at"
    if rules.continuation == "unmarked":
        unmarked = [f"{marker(child, name)} IS NULL" for name in _MARKERS]
    else:
        unmarked = [
            f"coalesce({marker(child, name)}, '') <> {parent}.id"
            for name in (*_MARKERS, "_reset_from")
        ]
    return " AND ".join((*unmarked, _IS_NO_TOOLS.format(child)))


@cache
def _select_session(*, has_user: bool) -> TextClause:
    user = _user("sessions", has_user=has_user)
    return text(
        f"SELECT {user}, started_at, end_reason FROM sessions WHERE id = :session_id"  # noqa: S608  # fixed names
    )


@cache
def _select_child(rules: Rules, *, has_user: bool, has_activity: bool) -> TextClause:
    said = "(SELECT max(timestamp) FROM messages WHERE session_id = child.id)"
    if has_activity:
        both = f"SELECT {said} AS at UNION ALL SELECT child.last_activity_at"
        said = f"(SELECT max(at) FROM ({both}))"  # noqa: S608  # fixed names
    # Of several children a continued one comes first, then one that has not ended, then one that
    # has; among equals the one that was written to last. The oldest rule takes the youngest.
    preferred = (
        "child.started_at DESC"
        if rules.continuation == "later"
        else "CASE WHEN child.end_reason = 'compression' THEN 0"
        " WHEN child.ended_at IS NULL THEN 1 ELSE 2 END,"
        f" coalesce({said}, child.started_at) DESC, child.started_at DESC, child.id DESC"
    )
    return text(
        f"SELECT child.id, {_user('child', has_user=has_user)}, child.end_reason"  # noqa: S608  # fixed names
        " FROM sessions AS parent JOIN sessions AS child ON child.parent_session_id = parent.id"
        f" WHERE parent.id = :session_id AND {is_continuation(rules, 'child', 'parent')}"
        f" ORDER BY {preferred} LIMIT 1"
    )


@cache
def _select_parent(rules: Rules, *, has_user: bool) -> TextClause:
    return text(
        f"SELECT parent.id, {_user('parent', has_user=has_user)}"  # noqa: S608  # fixed names
        " FROM sessions AS child JOIN sessions AS parent ON parent.id = child.parent_session_id"
        " WHERE child.id = :session_id AND parent.end_reason = 'compression'"
        f" AND {is_continuation(rules, 'child', 'parent')}"
    )


def _user(table: str, *, has_user: bool) -> str:
    return f"{table}.user_id" if has_user else "NULL"


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
    rows = database.rows(_select_session(has_user=has_user), {"session_id": session_id})
    if not rows:
        return None
    user, started_at, end_reason = rows[0]
    if user is None and owner:
        users_before = (each for _, each in ancestors(database, columns, session_id))
        user = next((each for each in users_before if each is not None), None)
    select_child = _select_child(
        columns.rules, has_user=has_user, has_activity="last_activity_at" in columns.sessions
    )
    ids, users = [session_id], {user}
    while end_reason == "compression" and len(ids) <= columns.rules.chain:
        children = database.rows(select_child, {"session_id": ids[-1]})
        if not children or (children[0][0] in ids and columns.rules.continuation != "later"):
            break
        child, child_user, end_reason = children[0]
        ids.append(child)
        # Hermes gives a continuation no user: its owner is that of the conversation.
        users.add(user if child_user is None else child_user)
    return SessionChain(_once_each(ids), started_at, is_own=not owner or users == {owner})


def ancestors(
    database: Database, columns: Columns, session_id: str
) -> list[tuple[str, str | None]]:
    """Return the sessions that this one continues, the nearest first, each with its user."""
    select_parent = _select_parent(columns.rules, has_user="user_id" in columns.sessions)
    found: dict[str, str | None] = {}
    while len(found) < columns.rules.chain:
        rows = database.rows(select_parent, {"session_id": session_id})
        if not rows or rows[0][0] in found:
            break
        session_id, user = rows[0]
        found[session_id] = user
    return list(found.items())


def _once_each(ids: list[str]) -> tuple[str, ...]:
    """Leave out repeated ids of a circle, through which the oldest versions go on and on."""
    return (*dict.fromkeys(each for each in ids if each != ids[-1]), ids[-1])
