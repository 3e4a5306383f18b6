"""The SQL that deletes one session, and that prunes sessions which have not changed for long.

An age is converted to a *cutoff* once, by the database's clock, since the clocks of several
machines may differ; all statements compare with the cutoff. So a prune removes what an operator has
counted before. Row locks are held for one portion of the sessions at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import and_, bindparam, case, delete, func, or_, select, update

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS, can_skip_locked
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionDeleted, TurnLost
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_presence import has_checkpoint_tables
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    IS_STORED,
    Target,
    answer_events,
    answers,
    archive,
    in_session,
    keys,
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
from hermes_session_mw.stores.sqlalchemy.statements.leases import raise_floor
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import remove_ids
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import (
    extras_of,
    remove_checkpoints,
    remove_checkpoints_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
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
    expired. ``has_ids``: whether its messages may have ids. ``has_checkpoints``: whether it may
    have some, as the tables are there.
    """

    owner: str
    session_id: str
    length: int
    fence: int = 0
    is_stored: bool = True
    has_answers: bool = False
    has_ids: bool = False
    has_checkpoints: bool = False


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
# A session with a lease is in use, even if nothing was written yet.
_is_stale = (sessions.c.updated_at < _CUTOFF, sessions.c.leased_until <= now_in_milliseconds())
_is_stored = and_(*IS_STORED)
_kept = LENGTH + sessions.c.archived
_OWNER, _ID = sessions.c.owner, sessions.c.id

_COUNT = of_all_or_one(
    select(
        func.sum(case((_is_stored, 1), else_=0)),
        func.sum(case((_is_stored, _kept), else_=0)),
        func.sum(case((_is_stored, 0), else_=1)),
    ).where(*_is_stale),
    _OWNER,
)
_any_answer = (
    select(answers.c.id).where(answers.c.owner == _OWNER, answers.c.session_id == _ID).exists()
)
_stale = select(_OWNER, _ID, _kept, sessions.c.fence, _is_stored).where(*_is_stale)
_extras = (
    case((_any_answer, 1), else_=0),
    sessions.c.has_message_ids,
    has_checkpoint_tables(),
)
# By dialect, and by whether there may be answers, ids and checkpoints.
_FIND = {
    (dialect, may_answer): of_all_or_one(
        (_stale.add_columns(*_extras) if may_answer else _stale)
        .where(is_after(dialect, _OWNER, _ID))
        .order_by(_OWNER, _ID)
        .limit(BATCH),
        _OWNER,
    )
    for dialect in SUPPORTED_DIALECTS
    for may_answer in (False, True)
}
# A row that somebody else has locked is in use: it is left, where the database can tell.
_lock = select(_OWNER, _ID).where(*_is_stale, sessions.c.fence <= bindparam("floor"))
_LOCK = {skips: _lock.with_for_update(skip_locked=skips) for skips in (False, True)}
_SESSIONS = KeyedRows(sessions, "id")
_CONTENTS = (
    KeyedRows(messages, "session_id"),
    KeyedRows(archive, "session_id"),
    KeyedRows(keys, "session_id", "ix_hermes_keys_session_id"),
)
_MESSAGE_IDS = KeyedRows(message_ids, "session_id")
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
        if extras.answers:
            remove_answers(database, target)
        if extras.message_ids:
            remove_ids(database, target)
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
        if extras.answers:
            remove_answers(database, target)
        if extras.message_ids:
            remove_ids(database, target)
        _empty(database, target)
        database.run(_clear, target)


def cutoff_of(database: Database, age: timedelta) -> float:
    """Return the time ``age`` ago by the database's clock, in seconds from 1970."""
    ((now,),) = database.rows(_now, {})
    # No cutoff is before 1970, which not every database supports.
    return max(int(now) / 1_000_000 - age.total_seconds(), 1)


def count_stale(database: Database, cutoff: float, owner: str | None) -> PruneCounts:
    """Count what a prune would remove, of one owner or of all."""
    parameters = {"cutoff": cutoff, **owner_parameter(owner)}
    one = owner is not None
    (counts,) = database.rows(_COUNT[one], parameters)
    ((stale_keys,),) = database.rows(_COUNT_KEYS[one], parameters)
    stored, length, ids = (int(each or 0) for each in counts)  # a sum of nothing is NULL
    return PruneCounts(stored, length, ids, int(stale_keys))


def find_stale(
    database: Database, cutoff: float, owner: str | None, after: tuple[str, str]
) -> list[StaleSession]:
    """Return the next rows, by owner and id, that were not written to since ``cutoff``."""
    parameters = {"cutoff": cutoff, **position("after", after), **owner_parameter(owner)}
    statements = _FIND[database.dialect, has_answers(database)]
    rows = database.rows(statements[owner is not None], parameters)
    return [
        StaleSession(text_of(owner_), text_of(id_), int(length), int(fence), *map(bool, more))
        for owner_, id_, length, fence, *more in rows
    ]


def remove_stale(
    database: Database, cutoff: float, portion: Sequence[StaleSession]
) -> list[StaleSession]:
    """Remove the rows of ``portion`` that are still stale, and return them.

    A few statements do it, however many rows there are. A session is kept if its lease was acquired
    since it was found, as its fence is above the floor then, or if its row is locked.
    """
    floor = max(each.fence for each in portion)
    raise_floor(database, floor)
    found = {(each.owner, each.session_id): each for each in portion}
    with transaction(database):
        lock = _LOCK[can_skip_locked(database.connection.dialect)]
        locked = _SESSIONS.keys(database, lock, list(found), cutoff=cutoff, floor=floor)
        if locked:
            _remove_answers(database, [key for key in locked if found[key].has_answers])
            with_ids = [key for key in locked if found[key].has_ids]
            if with_ids:
                _MESSAGE_IDS.delete(database, with_ids)
            with_checkpoints = [key for key in locked if found[key].has_checkpoints]
            if with_checkpoints:
                remove_checkpoints_of(database, with_checkpoints)
            for table in (*_CONTENTS, _SESSIONS):
                table.delete(database, locked)
    return [found[key] for key in locked]


def _remove_answers(database: Database, of_sessions: Sequence[Key]) -> None:
    """Remove the answers of sessions whose rows are locked, and are removed too."""
    if of_sessions:
        found = _ANSWERS.keys(database, _answer_keys, of_sessions)
        for start in range(0, len(found), BATCH):
            _EVENTS.delete(database, found[start : start + BATCH])
        _ANSWERS.delete(database, of_sessions)


def drop_stale_keys(database: Database, cutoff: float, owner: str | None) -> int:
    """Drop the keys that were bound before ``cutoff`` and lead to nothing; return how many."""
    parameters = {"cutoff": cutoff, **owner_parameter(owner)}
    with transaction(database):
        return database.run(_DROP_KEYS[owner is not None], parameters)


def counted(removed: PruneCounts, portion: Sequence[StaleSession]) -> PruneCounts:
    """Return ``removed`` with the rows of ``portion`` added."""
    stored = [each for each in portion if each.is_stored]
    return PruneCounts(
        removed.sessions + len(stored),
        removed.messages + sum(each.length for each in stored),
        removed.ids + len(portion) - len(stored),
    )


def _empty(database: Database, target: Target) -> None:
    for statement in _remove_messages:
        database.run(statement, target)
