"""The SQL that takes messages out of a history, and keeps them in the archive.

The rules are those of ``loading``. Every change holds the session's row, so that an append comes
before it or after it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy import func as sql

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionConflict, SessionDeleted, SessionFull, TurnLost
from hermes_session_mw.messages import decode_messages
from hermes_session_mw.stores.models import ArchivedMessage, Reason
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_ARCHIVE,
    IN_SESSION,
    IS_SESSION,
    WHOSE,
    archive,
    messages,
    of_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements.append import (
    add_messages,
    begin_turn,
    check_expected,
    length_of_repeated,
)
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import check_replaced, is_same


class Counters(NamedTuple):
    """A session's row; the history's messages have the numbers from ``first`` to before ``end``."""

    first: int = 0
    end: int = 0
    turns: int = 0
    archived: int = 0
    fence: int = 0
    is_deleted: bool = False
    parent_id: str | None = None

    @property
    def length(self) -> int:
        """How many messages the history has; a deleted one has none, whatever its numbers say."""
        return 0 if self.is_deleted else self.end - self.first

    @property
    def exists(self) -> bool:
        """Whether anything was ever stored; a row may be there for a lease alone."""
        return self.turns > 0 and not self.is_deleted


# Changes nothing, and takes the row's lock, if the row is as a condition says.
TOUCH = update(sessions).where(*WHOSE).values(next_seq=sessions.c.next_seq)
# Locked by reading it, so that nobody makes, changes or removes the row in between; SQLite has all
# locked by then. PostgreSQL's weaker lock lets foreign keys be checked.
_counters = (
    select(
        sessions.c.first_seq,
        sessions.c.next_seq,
        sessions.c.turns,
        sessions.c.archived,
        sessions.c.fence,
        sessions.c.deleted_at,
        sessions.c.parent_id,
    )
    .where(*IS_SESSION)
    .with_for_update(key_share=True)
)

_IN_RANGE = (
    *IN_SESSION,
    messages.c.seq >= bindparam("from_seq"),
    messages.c.seq < bindparam("to_seq"),
)
_bodies = select(messages.c.body).where(*_IN_RANGE).order_by(messages.c.seq)
_MOVED = ("owner", "session_id", "number", "seq", "turn_id", "body", "reason")
_archive = insert(archive).from_select(
    _MOVED,
    select(
        messages.c.owner,
        messages.c.session_id,
        messages.c.seq + bindparam("offset", type_=messages.c.seq.type),
        messages.c.seq,
        messages.c.turn_id,
        messages.c.body,
        bindparam("reason", type_=archive.c.reason.type),
    ).where(*_IN_RANGE),
)
_remove = delete(messages).where(*_IN_RANGE)
_renumber = (
    update(sessions)
    .where(*WHOSE)
    .values(
        first_seq=bindparam("first"),
        next_seq=bindparam("end"),
        archived=bindparam("count"),
        updated_at=sql.now(),
    )
)
_archived = (
    select(
        archive.c.body, archive.c.turn_id, archive.c.reason, microseconds_of(archive.c.archived_at)
    )
    .where(*IN_ARCHIVE)
    .order_by(archive.c.number)
)


def locked(database: Database, session_id: str, owner: str) -> Counters:
    """Hold the session's row until the transaction ends, and return what it says."""
    rows = database.rows(_counters, {"session_id": session_id, "owner": owner})
    if not rows:
        return Counters()
    ((first, end, turns, archived, fence, deleted_at, parent_id),) = rows
    parent = None if parent_id is None else text_of(parent_id)
    return Counters(first, end, turns, archived, fence, deleted_at is not None, parent)


def rewind(database: Database, session_id: str, length: int, owner: str, fence: int | None) -> int:
    """See `LifecycleStore.rewind`."""
    with transaction(database):
        session = _editable(database, session_id, owner, fence)
        if length >= session.length:
            return session.length
        cut = session.first + length
        key = {"session_id": session_id, "owner": owner}
        session = _move(database, key, session, (cut, session.end), "rewind")
        _write(database, key, session._replace(end=cut))
    return length


def replace(
    database: Database,
    session_id: str,
    bodies: Sequence[str],
    owner: str,
    turn_id: str,
    expected_length: int | None,
    *,
    replace_from: int,
    may_be_stored: bool,
    max_turns: int,
    fence: int | None,
) -> int:
    """See `LifecycleStore.append` with ``replace_from``; the messages come as JSON texts."""
    key = {"session_id": session_id, "owner": owner}
    with transaction(database):
        taken, stored = begin_turn(
            database, key, turn_id, len(bodies), may_be_stored=may_be_stored, fence=fence
        )
        length = replace_from + len(bodies)
        if not stored:
            check_expected(expected_length, taken.length)
            check_replaced(replace_from, taken.length)
            # A full history may be replaced by one that is no longer.
            if taken.turns > max_turns and length > taken.length:
                raise SessionFull(max_turns)
            cut = taken.first + replace_from
            if cut < taken.start:
                session = Counters(taken.first, taken.start, archived=taken.archived)
                session = _move(database, key, session, (cut, taken.start), "replace")
                _write(database, key, session._replace(end=taken.first + length))
            add_messages(database, key, cut, [(turn_id, body) for body in bodies])
    return length_of_repeated(stored, bodies, taken) if stored else length


def compact(
    database: Database,
    session_id: str,
    replaced: Sequence[str],
    summary: Sequence[str],
    owner: str,
    *,
    skipped: int,
    fence: int | None,
    turn_id: str,
) -> int:
    """See `LifecycleStore.compact`; the messages come as JSON texts.

    ``turn_id`` is the summary's, by which a repetition finds out that it is there already.
    """
    key = {"session_id": session_id, "owner": owner}
    with transaction(database):
        session = _editable(database, session_id, owner, fence)
        if rows_of_turn(database, turn_id, key):
            return session.length
        cut = session.first + skipped + len(replaced)
        if cut > session.end:
            raise SessionConflict(skipped + len(replaced), session.length)
        span = {"from_seq": session.first + skipped, "to_seq": cut}
        standing = [body for (body,) in database.rows(_bodies, {**key, **span})]
        if not is_same(standing, replaced):
            raise SessionConflict(skipped + len(replaced), session.length)
        session = _move(database, key, session, (session.first, cut), "compact")
        session = session._replace(first=cut - len(summary))
        add_messages(database, key, session.first, [(turn_id, body) for body in summary])
        _write(database, key, session)
    return session.length


def archived(database: Database, session_id: str, owner: str) -> list[ArchivedMessage]:
    """See `LifecycleStore.archived`."""
    rows = database.rows(_archived, {"session_id": session_id, "owner": owner})
    found = decode_messages([row[0] for row in rows])
    return [
        ArchivedMessage(message, text_of(turn_id), reason, time_of(at))
        for message, (_, turn_id, reason, at) in zip(found, rows, strict=True)
    ]


def _editable(database: Database, session_id: str, owner: str, fence: int | None) -> Counters:
    session = locked(database, session_id, owner)
    if session.is_deleted:
        raise SessionDeleted
    if fence is not None and fence != session.fence:
        raise TurnLost
    return session


def _move(
    database: Database,
    key: dict[str, Any],
    session: Counters,
    span: tuple[int, int],
    reason: Reason,
) -> Counters:
    """Move the messages with the numbers of ``span`` to the archive, behind what is there."""
    values = {**key, "from_seq": span[0], "to_seq": span[1]}
    offset = session.archived - span[0]
    database.run(_archive, {**values, "reason": reason, "offset": offset})
    database.run(_remove, values)
    return session._replace(archived=offset + span[1])


def _write(database: Database, key: dict[str, Any], session: Counters) -> None:
    """Write down what the numbers are now."""
    values = {"first": session.first, "end": session.end, "count": session.archived}
    database.run(_renumber, of_session(**key) | values)
