"""The SQL that lists, describes, renames and exports sessions."""

from sqlalchemy import and_, bindparam, or_, select, update

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionNotFound
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.pagination import OwnedPosition, Position, list_order, time_of
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    IS_STORED,
    Target,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads, writes
from hermes_session_mw.stores.sqlalchemy.statements.keyset import HAS_PREFIX, prefix_range
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    HAS_EXPIRED,
    LookingSelect,
    may_expire,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import find_expiry
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import find_metadata
from hermes_session_mw.stores.sqlalchemy.statements.session_pages import (
    OwnerPages,
    after_owned,
    of_every_owner,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    INFO_CONTENT,
    SESSION_INFO,
    lock_row,
    session_infos,
)

_INFO = {
    has: LookingSelect(columns.where(*IS_SESSION), content=INFO_CONTENT[has])
    for has, columns in SESSION_INFO.items()
}
# By whether the tables have labels, and whether the ids have a prefix.
_LISTED = {
    (has_labels, has_prefix): columns.where(*HAS_PREFIX) if has_prefix else columns
    for has_labels, columns in SESSION_INFO.items()
    for has_prefix in (False, True)
}
_PAGES = {form: OwnerPages(columns, *INFO_CONTENT[form[0]]) for form, columns in _LISTED.items()}
_OF_EVERY_OWNER = {
    form: reads(of_every_owner(columns), *INFO_CONTENT[form[0]], owner=6, session=0)
    for form, columns in _LISTED.items()
}

_rename = (
    update(sessions)
    .where(*IS_SESSION)
    # A new title is not a change of the history.
    .values(title=bindparam("new_title"), updated_at=sessions.c.updated_at)
)
# By whether they look for an expired answer: what a fold would store is stored.
_RENAME = {
    looks: writes(each, Content("new_title", "title"))
    for looks, each in (
        (False, _rename.where(*IS_STORED)),
        (True, _rename.where(or_(and_(*IS_STORED), HAS_EXPIRED))),
    )
}
_EXPORTED = reads(
    select(messages.c.turn_id, messages.c.body, microseconds_of(messages.c.created_at))
    .where(*IN_SESSION)
    .order_by(messages.c.seq),
    Content(1, "message", (messages.c.seq,)),
)


def list_sessions(
    database: Database, owner: str, limit: int, after: Position, prefix: str = ""
) -> list[SessionInfo]:
    """Return up to ``limit`` sessions that come after a position in the owner's list."""
    more = prefix_range(prefix) if prefix else {}
    pages = _PAGES[has_label_columns(database), bool(prefix)]
    found = session_infos(pages.rows(database, owner, limit, after, **more))
    return sorted(found, key=list_order)[:limit]


def list_all(
    database: Database, limit: int, after: OwnedPosition, prefix: str
) -> list[SessionInfo]:
    """Return up to ``limit`` sessions that come after a position in the list of all owners."""
    parameters = {**after_owned(after, limit), **(prefix_range(prefix) if prefix else {})}
    statement = _OF_EVERY_OWNER[has_label_columns(database), bool(prefix)]
    return session_infos(database.rows(statement, parameters))


def info(
    database: Database, session_id: str, owner: str, *, folds: bool = True
) -> SessionInfo | None:
    """See `LifecycleStore.info`."""
    target = Target(of_session=session_id, of_owner=owner)
    rows = _INFO[has_label_columns(database)].rows(database, target, folds=folds)
    return next(iter(session_infos(rows)), None)


def give_title(database: Database, target: Target, title: str) -> None:
    """Set the title of a session whose row is locked."""
    database.run(_RENAME[False], {**target, "new_title": title})


def rename(database: Database, session_id: str, title: str | None, owner: str) -> bool:
    """See `LifecycleStore.rename`."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        return (
            database.run(_RENAME[may_expire(database, target)], {**target, "new_title": title}) > 0
        )


def exported_rows(database: Database, target: Target) -> list[jsonl.ExportedRow]:
    """Return the history's messages with their turn ids and times, as an export has them."""
    return [
        jsonl.ExportedRow(text_of(turn_id), body, time_of(at))
        for turn_id, body, at in database.rows(_EXPORTED, target)
    ]


def export(database: Database, session_id: str, owner: str, *, has_expiry: bool = False) -> str:
    """See `LifecycleStore.export`; ``has_expiry``: whether it may have a setting of expiry."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        # Locked, so that the two statements agree.
        exists = lock_row(database, target, looks=may_expire(database, target)).exists
        session = info(database, session_id, owner, folds=False) if exists else None
        rows = exported_rows(database, target)
        metadata = find_metadata(database, session_id, owner)
        own = find_expiry(database, target) if has_expiry else None
    if session is None:
        raise SessionNotFound
    return jsonl.dump(session, rows, metadata, own)
