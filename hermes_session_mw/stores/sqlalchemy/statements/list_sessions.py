"""The SQL that lists, describes, renames and exports sessions."""

from sqlalchemy import and_, bindparam, or_, select, update

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionNotFound
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.pagination import OwnedPosition, Position, list_order
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    IS_STORED,
    Target,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.keyset import HAS_PREFIX, prefix_range
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    HAS_EXPIRED,
    LookingSelect,
    may_expire,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import find_metadata
from hermes_session_mw.stores.sqlalchemy.statements.session_pages import (
    OwnerPages,
    after_owned,
    of_every_owner,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    SESSION_INFO,
    lock_row,
    session_infos,
)

_info = LookingSelect(SESSION_INFO.where(*IS_SESSION))
# By whether the ids have a prefix.
_LISTED = {False: SESSION_INFO, True: SESSION_INFO.where(*HAS_PREFIX)}
_PAGES = {has_prefix: OwnerPages(columns) for has_prefix, columns in _LISTED.items()}
_OF_EVERY_OWNER = {has_prefix: of_every_owner(columns) for has_prefix, columns in _LISTED.items()}

_rename = (
    update(sessions)
    .where(*IS_SESSION)
    # A new title is not a change of the history.
    .values(title=bindparam("new_title"), updated_at=sessions.c.updated_at)
)
# By whether they look for an expired answer: what a fold would store is stored.
_RENAME = {
    False: _rename.where(*IS_STORED),
    True: _rename.where(or_(and_(*IS_STORED), HAS_EXPIRED)),
}
EXPORTED = select(messages.c.turn_id, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
"""The history's messages with their turn ids, as an export has them."""


def list_sessions(
    database: Database, owner: str, limit: int, after: Position, prefix: str = ""
) -> list[SessionInfo]:
    """Return up to ``limit`` sessions that come after a position in the owner's list."""
    more = prefix_range(prefix) if prefix else {}
    found = session_infos(_PAGES[bool(prefix)].rows(database, owner, limit, after, **more))
    return sorted(found, key=list_order)[:limit]


def list_all(
    database: Database, limit: int, after: OwnedPosition, prefix: str
) -> list[SessionInfo]:
    """Return up to ``limit`` sessions that come after a position in the list of all owners."""
    parameters = {**after_owned(after, limit), **(prefix_range(prefix) if prefix else {})}
    return session_infos(database.rows(_OF_EVERY_OWNER[bool(prefix)], parameters))


def info(
    database: Database, session_id: str, owner: str, *, folds: bool = True
) -> SessionInfo | None:
    """See `LifecycleStore.info`."""
    target = Target(of_session=session_id, of_owner=owner)
    rows = _info.rows(database, target, folds=folds)
    return next(iter(session_infos(rows)), None)


def rename(database: Database, session_id: str, title: str | None, owner: str) -> bool:
    """See `LifecycleStore.rename`."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        return (
            database.run(_RENAME[may_expire(database, target)], {**target, "new_title": title}) > 0
        )


def export(database: Database, session_id: str, owner: str) -> str:
    """See `LifecycleStore.export`."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        # Locked, so that the two statements agree.
        exists = lock_row(database, target, looks=may_expire(database, target)).exists
        session = info(database, session_id, owner, folds=False) if exists else None
        rows = database.rows(EXPORTED, target)
        metadata = find_metadata(database, session_id, owner)
    if session is None:
        raise SessionNotFound
    return jsonl.dump(session, [(text_of(turn_id), body) for turn_id, body in rows], metadata)
