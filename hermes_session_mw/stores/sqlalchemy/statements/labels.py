"""The SQL of labels.

A session's row has its labels. ``hermes_labels`` has a row for each of them, too, with the time of
the session's last change: the index of a label's sessions, in the order of lists. So whatever
changes ``updated_at`` calls `touch_labels`, in the same transaction and under the lock of the
session's row; one that has no label is known by that row (``has_labels``), and nothing is sent.

A process of an earlier version does not call it: until its session's next change by this version,
lists by a label then have it where it was before.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import EllipsisType
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, null, select, update

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.messages import Message, as_json, decode_messages
from hermes_session_mw.stores.labels import (
    PAIR,
    TAG,
    LabelChange,
    Labels,
    Pairs,
    pairs_of,
    tag_key,
    tag_name,
)
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    IS_STORED,
    OF_OWNER,
    Target,
    in_session,
    labels,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads, writes
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import may_expire
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    NO_LABELS,
    SOME_LABELS,
    WITH_PAIRS,
    lock_row,
    tags_of,
)
from hermes_session_mw.stores.validation import encode_metadata

IN_LABELS = in_session(labels)
LABEL = bindparam("label", type_=labels.c.name.type)

_stored = reads(
    select(
        sessions.c.title,
        sessions.c.tags,
        sessions.c.pinned,
        sessions.c.shelved,
        sessions.c.has_labels,
        sessions.c.metadata,
    ).where(*IS_SESSION),
    Content(0, "title"),
    Content(5, "metadata"),
)
_write = (
    update(sessions)
    .where(*IS_SESSION)
    # No change of the history.
    .values(
        title=bindparam("new_title"),
        tags=bindparam("new_tags"),
        pinned=bindparam("new_pinned"),
        shelved=bindparam("new_shelved"),
        has_labels=bindparam("new_has_labels"),
        metadata=bindparam("new_metadata"),
        updated_at=sessions.c.updated_at,
    )
)
writes(_write, Content("new_title", "title"), Content("new_metadata", "metadata"))
_set = (
    update(sessions)
    .where(*IS_SESSION)
    .values(
        tags=bindparam("new_tags"),
        pinned=bindparam("new_pinned"),
        shelved=bindparam("new_shelved"),
        has_labels=bindparam("new_has_labels"),
        updated_at=sessions.c.updated_at,
    )
)
_mark = (
    update(sessions)
    .where(*IS_SESSION)
    .values(has_labels=bindparam("new_has_labels"), updated_at=sessions.c.updated_at)
)
_changed_at = select(sessions.c.updated_at).where(*IS_SESSION).scalar_subquery()
_row = {
    "owner": sessions.c.owner,
    "session_id": sessions.c.id,
    "name": LABEL,
    "updated_at": sessions.c.updated_at,
}
_add = insert(labels).from_select(list(_row), select(*_row.values()).where(*IS_SESSION))
_drop = delete(labels).where(*IN_LABELS, labels.c.name == LABEL)
_drop_all = delete(labels).where(*IN_LABELS)
_forget = (
    update(sessions)
    .where(*IS_SESSION)
    .values(tags=null(), pinned=0, shelved=0, has_labels=0, updated_at=sessions.c.updated_at)
)
_touch = update(labels).where(*IN_LABELS).values(updated_at=_changed_at)
_names = select(labels.c.name).where(*IN_LABELS)
_NEW_ID = bindparam("new_id", type_=sessions.c.id.type)
_NEW_OWNER = bindparam("new_owner", type_=sessions.c.owner.type)
_moved_at = (
    select(sessions.c.updated_at)
    .where(sessions.c.owner == _NEW_OWNER, sessions.c.id == _NEW_ID)
    .scalar_subquery()
)
_move = (
    update(labels)
    .where(*IN_LABELS)
    .values(owner=_NEW_OWNER, session_id=_NEW_ID, updated_at=_moved_at)
)
_tags = (
    select(labels.c.name, func.count(), func.max(sessions.c.tags))
    .select_from(
        labels.join(
            sessions, (sessions.c.owner == labels.c.owner) & (sessions.c.id == labels.c.session_id)
        )
    )
    .where(
        labels.c.owner == OF_OWNER,
        labels.c.name >= bindparam("first", type_=labels.c.name.type),
        labels.c.name < bindparam("end", type_=labels.c.name.type),
        *IS_STORED,
    )
    .group_by(labels.c.name)
)
_AFTER_TAGS = TAG[:-1] + chr(ord(TAG[-1]) + 1)


class _Stored(NamedTuple):
    """What a session's row has before a change."""

    title: str | None
    labels: Labels
    has_labels: int
    metadata: Message | None


def label(
    database: Database, session_id: str, owner: str, change: LabelChange, max_bytes: int
) -> bool:
    """See `LabelStore.label`; metadata may take ``max_bytes``.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        if not lock_row(database, target, looks=may_expire(database, target)).exists:
            return False
        before = _read(database, target)
        metadata = change.metadata(before.metadata)
        after = replace(change.labels(before.labels), pairs=pairs_of(metadata))
        title = before.title if isinstance(change.title, EllipsisType) else change.title
        if (title, after, metadata) != (before.title, before.labels, before.metadata):
            described = None if metadata is None else encode_metadata(metadata, max_bytes)
            values = {"new_title": title, "new_metadata": described, **columns_of(after)}
            database.run(_write, {**target, **values})
            if before.has_labels or after.names:
                _write_names(database, target, after.names)
    return True


def columns_of(after: Labels) -> dict[str, Any]:
    """Return the parameters of an UPDATE that sets the labels in a session's row."""
    return {
        "new_tags": as_json(list(after.tags)) if after.tags else None,
        "new_pinned": int(after.pinned),
        "new_shelved": int(after.shelved),
        "new_has_labels": value_of(after),
    }


def value_of(after: Labels) -> int:
    """Return the value of ``has_labels``."""
    if after.pairs:
        return WITH_PAIRS
    return SOME_LABELS if after.names else NO_LABELS


def touch_labels(database: Database, target: Target) -> None:
    """Note that a session with labels, whose row is locked, was changed now."""
    database.run(_touch, target)


def add_labels(database: Database, target: Target, names: Iterable[str]) -> None:
    """Add labels that the session, whose row is locked, does not have."""
    rows = [{**target, "label": name} for name in sorted(_indexed(database, names))]
    if rows:
        database.run(_add, *rows)


def write_pairs(database: Database, target: Target, pairs: Pairs) -> None:
    """Have the labels of a session, whose row is locked, tell the pairs of its new metadata."""
    before = _read(database, target)
    after = replace(before.labels, pairs=pairs)
    if before.has_labels or after.names:
        database.run(_mark, {**target, "new_has_labels": value_of(after)})
        _write_names(database, target, after.names)


def index_pairs(database: Database, target: Target) -> None:
    """Have ``hermes_labels`` name what a session's row has, which is locked: pairs where plain."""
    before = _read(database, target)
    if before.has_labels:
        _write_names(database, target, before.labels.names)


def forget_labels(database: Database, target: Target) -> None:
    """Remove the labels of a session that is deleted or cleared, whose row is locked."""
    database.run(_drop_all, target)
    database.run(_forget, target)


def move_labels(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the labels' rows to another session, whose row exists; the old one has no label then."""
    database.run(_move, {**target, "new_id": new_id, "new_owner": new_owner})
    database.run(_forget, target)


def write_labels(database: Database, target: Target, new: Labels) -> None:
    """Give a session without labels, whose row is locked, these."""
    if new.names:
        database.run(_set, {**target, **columns_of(new)})
        add_labels(database, target, new.names)


def tags(database: Database, owner: str) -> dict[str, int]:
    """See `LabelStore.tags`."""
    if not has_label_columns(database):
        return {}
    parameters = {"of_owner": owner, "first": TAG, "end": _AFTER_TAGS}
    found: dict[str, int] = {}
    for name, count, some in database.rows(_tags, parameters):
        spelled = {tag_name(tag): tag for tag in tags_of(some)}
        # A process of an earlier version may have moved the session without its tags.
        if (tag := spelled.get(text_of(name))) is not None:
            found[tag] = int(count)
    return dict(sorted(found.items(), key=lambda each: tag_key(each[0])))


def _read(database: Database, target: Target) -> _Stored:
    """Return what the row of a session has, which is locked."""
    ((title, tags, pinned, shelved, has_labels, body),) = database.rows(_stored, target)
    metadata = None if body is None else decode_messages([text_of(body)])[0]
    known = Labels(
        tags_of(tags),
        bool(pinned),
        bool(shelved),
        pairs_of(metadata) if has_labels == WITH_PAIRS else (),
    )
    return _Stored(None if title is None else text_of(title), known, has_labels, metadata)


def _indexed(database: Database, names: Iterable[str]) -> frozenset[str]:
    """Return the labels that have rows: where metadata is encrypted, none of its pairs."""
    return frozenset(each for each in names if not (database.encrypts and each.startswith(PAIR)))


def _write_names(database: Database, target: Target, names: frozenset[str]) -> None:
    """Have ``hermes_labels`` name the labels, and no others."""
    names = _indexed(database, names)
    known = {text_of(name) for (name,) in database.rows(_names, target)}
    dropped = [{**target, "label": name} for name in sorted(known - names)]
    if dropped:
        database.run(_drop, *dropped)
    add_labels(database, target, names - known)
