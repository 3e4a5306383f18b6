"""The SQL that tells of sessions; the rules are those of ``loading``."""

from sqlalchemy import and_, bindparam, or_, select, update

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionNotFound, StoreCorrupt
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.pagination import Place, time_of
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    IS_STORED,
    WHOSE,
    messages,
    of_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import locked

CHANGED = microseconds_of(sessions.c.updated_at)
FACTS = select(
    sessions.c.id,
    sessions.c.title,
    sessions.c.next_seq - sessions.c.first_seq,
    microseconds_of(sessions.c.created_at),
    CHANGED,
    sessions.c.parent_id,
).where(*IS_STORED)
"""What `as_info` takes, of each session that there is."""

_info = FACTS.where(*IS_SESSION)
BEFORE = bindparam("changed", type_=sessions.c.next_seq.type)
_list = (
    FACTS.where(
        sessions.c.owner == bindparam("owner"),
        or_(
            CHANGED < BEFORE,
            and_(CHANGED == BEFORE, sessions.c.id > bindparam("session_id")),
        ),
    )
    .order_by(CHANGED.desc(), sessions.c.id)
    .limit(bindparam("most"))
)
_FIRST_PAGE = Place(2**63 - 1, "")

_rename = (
    update(sessions)
    .where(*WHOSE, *IS_STORED)
    # So that nobody finds it changed: MySQL would set a TIMESTAMP by itself.
    .values(title=bindparam("new_title"), updated_at=sessions.c.updated_at)
)
NO_VALUE = (TypeError, ValueError, OverflowError)
"""What comes of a value of another type."""
ROWS = select(messages.c.turn_id, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
"""A history's messages, with the turns that they came in."""


def list_sessions(
    database: Database, owner: str, most: int, after: Place | None
) -> list[SessionInfo]:
    """Return up to ``most`` sessions that come after a place in the owner's list."""
    changed, session_id = after or _FIRST_PAGE
    values = {"owner": owner, "changed": changed, "session_id": session_id, "most": most}
    return [as_info(row) for row in database.rows(_list, values)]


def info(database: Database, session_id: str, owner: str) -> SessionInfo | None:
    """See `LifecycleStore.info`."""
    rows = database.rows(_info, {"session_id": session_id, "owner": owner})
    return as_info(rows[0]) if rows else None


def rename(database: Database, session_id: str, title: str | None, owner: str) -> bool:
    """See `LifecycleStore.rename`."""
    with transaction(database):
        named = database.run(_rename, of_session(session_id, owner) | {"new_title": title})
    return named > 0


def export(database: Database, session_id: str, owner: str) -> str:
    """See `LifecycleStore.export`."""
    with transaction(database):
        # Held, so that what the two statements find belongs together.
        exists = locked(database, session_id, owner).exists
        session = info(database, session_id, owner) if exists else None
        rows = database.rows(ROWS, {"session_id": session_id, "owner": owner})
    if session is None:
        raise SessionNotFound
    return jsonl.write(session, [(text_of(turn_id), body) for turn_id, body in rows])


def as_info(row: Row) -> SessionInfo:
    """Return what a row of ``FACTS`` says.

    Raises:
        StoreCorrupt: it has a value of another type, as SQLite lets it have.
    """
    session_id, title, length, created, changed, parent = row
    try:
        return SessionInfo(
            text_of(session_id),
            None if title is None else text_of(title),
            length,
            time_of(created),
            time_of(changed),
            None if parent is None else text_of(parent),
        )
    except NO_VALUE:
        raise of_another_type() from None


def of_another_type() -> StoreCorrupt:
    """Return the error for a row that has one."""
    return StoreCorrupt(
        "a session's row has a value of another type: hermes-sessions check names it"
    )
