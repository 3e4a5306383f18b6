"""The SQL that deletes one session, and that prunes sessions which have not changed for long.

An age is converted to a *cutoff* once, by the database's clock, since the clocks of several
machines may differ; all statements compare with the cutoff. So a prune removes what an operator has
counted before. Row locks are held for one portion of the sessions at a time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import timedelta
from functools import partial
from operator import add
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS, can_skip_locked
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionDeleted, TurnLost
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import (
    expiry_tables_exist,
    has_checkpoint_tables,
    has_expiry_tables,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    IS_STORED,
    Target,
    answer_events,
    answers,
    archive,
    in_session,
    keys,
    labels,
    message_ids,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import (
    microseconds_of,
    now,
    now_in_milliseconds,
    time_at,
)
from hermes_session_mw.stores.sqlalchemy.statements.answers import remove_answers
from hermes_session_mw.stores.sqlalchemy.statements.keyset import (
    is_after,
    of_all_or_one,
    owner_parameter,
    position,
)
from hermes_session_mw.stores.sqlalchemy.statements.labels import forget_labels
from hermes_session_mw.stores.sqlalchemy.statements.leases import raise_floor
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import remove_ids
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import (
    Extras,
    extras_of,
    remove_checkpoints,
    remove_checkpoints_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
    forget_data_key,
    forget_metadata,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    LENGTH,
    MARK_DELETED,
    lock_row,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import Key, KeyedRows

BATCH = 500
"""Sessions that one statement finds."""

PORTION = 1000
"""Messages that one transaction removes, unless a single session has more."""


class StaleSession(NamedTuple):
    """A row that is old enough to be pruned.

    ``length`` counts its messages, archived ones too; ``fence`` is that of its last lease.
    ``is_stored`` is false where it only keeps a deleted session's id, or was made for a lease or
    for metadata. ``has_answers``: whether answers are stored for it, which have all ended or
    expired. ``has_ids``: whether its messages may have ids. ``has_checkpoints`` and ``has_expiry``:
    whether it may have some, as the tables are there. ``has_labels``: whether it may have labels.
    """

    owner: str
    session_id: str
    length: int
    fence: int = 0
    is_stored: bool = True
    has_answers: bool = False
    has_ids: bool = False
    has_checkpoints: bool = False
    has_expiry: bool = False
    has_labels: bool = True


@dataclass(frozen=True, slots=True)
class PruneCounts:
    """The counts of a prune.

    Attributes:
        sessions, messages: how many sessions, and messages in their histories and archives.
        ids: how many rows without a session: those that keep the ids of deleted sessions, and those
            that were made for a lease or for metadata.
        keys: how many keys were bound before the cutoff, and lead to nothing stored.
        answers: how many answers ended before the cutoff; their turns are not among the messages.
        folded: how many answers had lost their writer, and were or are to be folded.
    """

    sessions: int = 0
    messages: int = 0
    ids: int = 0
    keys: int = 0
    answers: int = 0
    folded: int = 0

    def __add__(self, other: "PruneCounts") -> "PruneCounts":
        """Return the sums."""
        return PruneCounts(*map(add, astuple(self), astuple(other)))


_is_there = sessions.c.deleted_at.is_(None)
_is_used = or_(sessions.c.turns > 0, sessions.c.answer_fence.is_not(None))
# By whether there may be a session that has only a question yet, which is being answered.
_MARK_DELETED = {
    False: MARK_DELETED.where(*IS_STORED),
    True: MARK_DELETED.where(_is_there, _is_used),
}
_mark_without_turn = MARK_DELETED.where(_is_there)
_remove_messages = [delete(table).where(*in_session(table)) for table in (messages, archive)]
_remove_keys = delete(keys).where(*in_session(keys))

_clear = (
    update(sessions)
    .where(*IS_SESSION)
    .values(
        {
            **dict.fromkeys(("next_seq", "first_seq", "turns", "archived", "has_message_ids"), 0),
            **dict.fromkeys(("title", "parent_id", "metadata"), None),
            **dict.fromkeys(("created_at", "updated_at"), now()),
        }
    )
)

_now = select(microseconds_of(now()))
_CUTOFF = time_at(bindparam("cutoff"))
IS_UNUSED: ColumnElement[bool] = sessions.c.leased_until <= now_in_milliseconds()
"""Whether a session has no lease: one that has is in use, even if nothing was written yet."""
_is_stale = (sessions.c.updated_at < _CUTOFF, IS_UNUSED)
_is_stored = and_(*IS_STORED)
_kept = LENGTH + sessions.c.archived
_OWNER, _ID = sessions.c.owner, sessions.c.id

COUNTS: Select[Any] = select(
    func.sum(case((_is_stored, 1), else_=0)),
    func.sum(case((_is_stored, _kept), else_=0)),
    func.sum(case((_is_stored, 0), else_=1)),
)
"""The first three of `PruneCounts`."""
_COUNT = of_all_or_one(COUNTS.where(*_is_stale), _OWNER)
_any_answer = (
    select(answers.c.id).where(answers.c.owner == _OWNER, answers.c.session_id == _ID).exists()
)
_rows = select(_OWNER, _ID, _kept, sessions.c.fence, _is_stored)
_extras = (
    case((_any_answer, 1), else_=0),
    sessions.c.has_message_ids,
    has_checkpoint_tables(),
    has_expiry_tables(),
)
STALE: Select[Any] = _rows.add_columns(*_extras)
"""The columns that `stale_sessions` takes."""
# By dialect, and by what may be there: nothing else, answers, ids and checkpoints, or labels too.
_FOUND = (_rows, STALE, STALE.add_columns(sessions.c.has_labels))
_FIND = {
    (dialect, form): of_all_or_one(
        found.where(*_is_stale, is_after(dialect, _OWNER, _ID)).order_by(_OWNER, _ID).limit(BATCH),
        _OWNER,
    )
    for dialect in SUPPORTED_DIALECTS
    for form, found in enumerate(_FOUND)
}
# A row that somebody else has locked is in use: it is left, where the database can tell.
_lock = select(_OWNER, _ID).where(IS_UNUSED, sessions.c.fence <= bindparam("floor"))


def _locking(statement: Select[Any]) -> dict[bool, Select[Any]]:
    return {skips: statement.with_for_update(skip_locked=skips) for skips in (False, True)}


_LOCK = _locking(_lock.where(*_is_stale))
_LOCK_UNUSED = _locking(_lock)
_SESSIONS = KeyedRows(sessions, "id")
_CONTENTS = (
    KeyedRows(messages, "session_id"),
    KeyedRows(archive, "session_id"),
    KeyedRows(keys, "session_id", "ix_hermes_keys_session_id"),
)
_MESSAGE_IDS = KeyedRows(message_ids, "session_id")
LABELS = KeyedRows(labels, "session_id")
"""The labels' rows."""
_ANSWERS = KeyedRows(answers, "session_id", "ix_hermes_answers_session_id")
_EVENTS = KeyedRows(answer_events, "answer_id")
_answer_keys = select(answers.c.owner, answers.c.id)

_leads_to_a_row = select(_ID).where(keys.c.owner == _OWNER, keys.c.session_id == _ID).exists()
_is_stale_key = (keys.c.updated_at < _CUTOFF, ~_leads_to_a_row)
_COUNT_KEYS = of_all_or_one(
    select(func.count()).select_from(keys).where(*_is_stale_key), keys.c.owner
)
_DROP_KEYS = of_all_or_one(delete(keys).where(*_is_stale_key), keys.c.owner)


def delete_session(database: Database, session_id: str, owner: str) -> bool:
    """Remove the session's messages, and leave a row, so that its id cannot be used again."""
    target = Target(of_session=session_id, of_owner=owner)
    may_answer = has_answers(database)
    with transaction(database):
        found = database.run(_MARK_DELETED[may_answer], target) > 0
        extras = extras_of(database, target)
        had_checkpoints = extras.checkpoints and remove_checkpoints(database, target)
        if extras.metadata or had_checkpoints:
            found = database.run(_mark_without_turn, target) > 0 or found
        if extras.metadata:
            forget_metadata(database, target)
        _remove_extras(database, target, extras)
        if found:
            _empty(database, target)
            database.run(_remove_keys, target)
    return found


def clear(
    database: Database,
    session_id: str,
    owner: str,
    fence: int | None,
    found: list[bool],
) -> None:
    """See `MessageStore.clear`; whether there was anything is added to ``found``.

    So it is known also of an attempt that may be committed. The row stays, as one that was made for
    a lease.
    """
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        session = lock_row(database, target, looks=False)
        if session.is_deleted:
            raise SessionDeleted
        if fence is not None and fence != session.fence:
            raise TurnLost
        extras = extras_of(database, target)
        had_checkpoints = extras.checkpoints and remove_checkpoints(database, target)
        found.append(session.exists or extras.metadata or extras.answers or had_checkpoints)
        if not found[-1]:
            return
        _remove_extras(database, target, extras)
        if extras.expiry:
            _expiry().remove_of(database, [(owner, session_id)])
        _empty(database, target)
        database.run(_clear, target)


def _remove_extras(database: Database, target: Target, extras: Extras) -> None:
    """Remove what a session that is deleted or cleared has beside its history and metadata."""
    if extras.data_key:
        forget_data_key(database, target)
    if extras.answers:
        remove_answers(database, target)
    if extras.message_ids:
        remove_ids(database, target)
    if extras.labels:
        forget_labels(database, target)


def cutoff_of(database: Database, age: timedelta) -> float:
    """Return the time ``age`` ago by the database's clock, in seconds from 1970."""
    ((now,),) = database.rows(_now, {})
    # No cutoff is before 1970, which not every database supports.
    return max(int(now) / 1_000_000 - age.total_seconds(), 1)


def count_stale(database: Database, cutoff: float, owner: str | None) -> PruneCounts:
    """Count what a prune would remove, of one owner or of all."""
    parameters = {"cutoff": cutoff, **owner_parameter(owner)}
    one = owner is not None
    if expiry_tables_exist(database):
        counts = _expiry().count_inheriting(database, _COUNT[one], parameters)
    else:
        (counts,) = database.rows(_COUNT[one], parameters)
    ((stale_keys,),) = database.rows(_COUNT_KEYS[one], parameters)
    stored, length, ids = (int(each or 0) for each in counts)  # a sum of nothing is NULL
    return PruneCounts(stored, length, ids, int(stale_keys))


def find_stale(
    database: Database, cutoff: float, owner: str | None, after: tuple[str, str]
) -> list[StaleSession]:
    """Return the next rows, by owner and id, that were not written to since ``cutoff``."""
    parameters = {"cutoff": cutoff, **position("after", after), **owner_parameter(owner)}
    form = 2 if has_label_columns(database) else int(has_answers(database))
    statements = _FIND[database.dialect, form]
    return stale_sessions(database.rows(statements[owner is not None], parameters))


def stale_sessions(rows: Iterable[Row]) -> list[StaleSession]:
    """Return the sessions in rows of `STALE`, which may also tell whether they have labels."""
    return [
        StaleSession(text_of(owner), text_of(id_), int(length), int(fence), *map(bool, more))
        for owner, id_, length, fence, *more in rows
    ]


def remove_stale(
    database: Database, cutoff: float, portion: Sequence[StaleSession]
) -> list[StaleSession]:
    """Remove the rows of ``portion`` that are still stale, and return them.

    A few statements do it, however many rows there are. A session is kept if its lease was acquired
    since it was found, as its fence is above the floor then, or if its row is locked; or if it has
    a setting of its own, or its owner has one, that says when it expires.
    """
    lock = partial(_lock_stale, cutoff=cutoff)
    if portion[0].has_expiry:
        lock = partial(_expiry().lock_inheriting, lock=lock)
    return remove(database, portion, lock)


Lock = Callable[[Database, list[Key], int], list[Key]]
"""Locks those of some sessions that are to be removed, and have no greater fence than the number.

It begins a transaction of removals, and returns the sessions.
"""


def remove(database: Database, portion: Sequence[StaleSession], lock: Lock) -> list[StaleSession]:
    """Remove the rows of ``portion`` that ``lock`` locks, and all that belongs to them."""
    floor = max(each.fence for each in portion)
    raise_floor(database, floor)
    found = {(each.owner, each.session_id): each for each in portion}
    with transaction(database):
        locked = lock(database, list(found), floor)
        if locked:
            _remove(database, found, locked)
    return [found[key] for key in locked]


def lock_unused(database: Database, wanted: list[Key], floor: int) -> list[Key]:
    """Lock those of the sessions that have no lease, and had none since they were found."""
    lock = _LOCK_UNUSED[can_skip_locked(database.connection.dialect)]
    return _SESSIONS.keys(database, lock, wanted, floor=floor)


def _lock_stale(database: Database, wanted: list[Key], floor: int, *, cutoff: float) -> list[Key]:
    lock = _LOCK[can_skip_locked(database.connection.dialect)]
    return _SESSIONS.keys(database, lock, wanted, cutoff=cutoff, floor=floor)


def _remove(database: Database, found: Mapping[Key, StaleSession], locked: Sequence[Key]) -> None:
    remove_answers_of(database, [key for key in locked if found[key].has_answers])
    with_ids = [key for key in locked if found[key].has_ids]
    if with_ids:
        _MESSAGE_IDS.delete(database, with_ids)
    with_checkpoints = [key for key in locked if found[key].has_checkpoints]
    if with_checkpoints:
        remove_checkpoints_of(database, with_checkpoints)
    with_labels = [key for key in locked if found[key].has_labels]
    if with_labels and has_label_columns(database):
        LABELS.delete(database, with_labels)
    with_expiry = [key for key in locked if found[key].has_expiry]
    if with_expiry:
        _expiry().remove_of(database, with_expiry)
    for table in (*_CONTENTS, _SESSIONS):
        table.delete(database, locked)


def _expiry() -> Any:
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415  # few have any

    return expiry


def remove_answers_of(database: Database, of_sessions: Sequence[Key]) -> int:
    """Remove the answers of sessions whose rows are locked, to be removed; return how many."""
    if not of_sessions:
        return 0
    found = _ANSWERS.keys(database, _answer_keys, of_sessions)
    for start in range(0, len(found), BATCH):
        _EVENTS.delete(database, found[start : start + BATCH])
    _ANSWERS.delete(database, of_sessions)
    return len(found)


def drop_stale_keys(database: Database, cutoff: float, owner: str | None) -> int:
    """Drop the keys that were bound before ``cutoff`` and lead to nothing; return how many."""
    parameters = {"cutoff": cutoff, **owner_parameter(owner)}
    with transaction(database):
        return database.run(_DROP_KEYS[owner is not None], parameters)


def counts_of(portion: Sequence[StaleSession]) -> PruneCounts:
    """Return the counts of rows that were removed."""
    stored = [each for each in portion if each.is_stored]
    messages_ = sum(each.length for each in stored)
    return PruneCounts(len(stored), messages_, len(portion) - len(stored))


def _empty(database: Database, target: Target) -> None:
    for statement in _remove_messages:
        database.run(statement, target)
