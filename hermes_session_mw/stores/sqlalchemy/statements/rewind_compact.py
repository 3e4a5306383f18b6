"""The SQL that moves messages from a history to the archive.

Every change locks the session's row, so that an append comes before it or after it.

A change that is repeated, because the reply to its COMMIT was lost, must not be made twice. A turn
is recognized by its id, and so is a summary. A pop, a rewind from an expected length and a
compaction without a summary leave no turn: the messages that they archive are marked with an id of
the *operation*.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Insert, bindparam, delete, insert, select, update

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionConflict, SessionDeleted, SessionFull, TurnLost
from hermes_session_mw.messages import Message, decode_messages, is_encrypted, needs_keys
from hermes_session_mw.stores.models import ArchivedMessage, Reason
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_ARCHIVE,
    IN_SESSION,
    IS_SESSION,
    Target,
    archive,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of, now
from hermes_session_mw.stores.sqlalchemy.statements.append import (
    NewTitle,
    add_messages,
    begin_turn,
    check_expected,
    length_of_repeated,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.labels import touch_labels
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import free_ids
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    LookingSelect,
    may_expire,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import SessionRow, lock_row
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import check_replaced, is_same

_IN_RANGE = (
    *IN_SESSION,
    messages.c.seq >= bindparam("from_seq"),
    messages.c.seq < bindparam("to_seq"),
)
_bodies = reads(
    select(messages.c.body).where(*_IN_RANGE).order_by(messages.c.seq),
    Content(0, "message", (messages.c.seq,)),
)
_archived_columns = {
    "owner": messages.c.owner,
    "session_id": messages.c.session_id,
    "number": messages.c.seq + bindparam("offset", type_=messages.c.seq.type),
    "seq": messages.c.seq,
    "turn_id": messages.c.turn_id,
    "body": messages.c.body,
    "reason": bindparam("reason", type_=archive.c.reason.type),
}
_OPERATION = bindparam("operation", type_=archive.c.operation.type)


def _insert_archived(columns: dict[str, Any]) -> Insert:
    return insert(archive).from_select(list(columns), select(*columns.values()).where(*_IN_RANGE))


# By whether the operation is noted, for which tables of an earlier version have no column.
_ARCHIVE = {
    False: _insert_archived(_archived_columns),
    True: _insert_archived({**_archived_columns, "operation": _OPERATION}),
}
_archived_by = reads(
    select(archive.c.body)
    .where(*IN_ARCHIVE, archive.c.operation == _OPERATION)
    .order_by(archive.c.number),
    Content(0, "message", (archive.c.seq,)),
)
_remove = delete(messages).where(*_IN_RANGE)
_renumber = (
    update(sessions)
    .where(*IS_SESSION)
    .values(
        first_seq=bindparam("first"),
        next_seq=bindparam("end"),
        archived=bindparam("count"),
        updated_at=now(),
    )
)
_archived = LookingSelect(
    select(
        archive.c.number,
        archive.c.body,
        archive.c.turn_id,
        archive.c.reason,
        microseconds_of(archive.c.archived_at),
        archive.c.seq,
    ).where(*IN_ARCHIVE),
    "number",
    content=(Content(1, "message", (5,)),),
)


def rewind(database: Database, session_id: str, length: int, owner: str, fence: int | None) -> int:
    """See `LifecycleStore.rewind`."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        session = _lock_to_edit(database, target, fence)
        if length < session.length:
            _cut(database, target, session, length)
    return min(length, session.length)


def rewind_expected(
    database: Database,
    session_id: str,
    length: int,
    owner: str,
    fence: int | None,
    expected_length: int,
    operation: str,
    *,
    repeated: bool,
) -> int:
    """See `MessageStore.rewind` with ``expected_length``."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        session, done = _lock_or_find(database, target, fence, operation, repeated=repeated)
        if done:
            return length
        check_expected(expected_length, session.length)
        if length < session.length:
            _cut(database, target, session, length, operation)
    return min(length, session.length)


def pop(
    database: Database,
    session_id: str,
    count: int,
    owner: str,
    fence: int | None,
    operation: str,
    *,
    repeated: bool,
) -> list[Message]:
    """See `MessageStore.pop`."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        session, bodies = _lock_or_find(database, target, fence, operation, repeated=repeated)
        length = max(session.length - count, 0)
        if not bodies and length < session.length:
            span = {"from_seq": session.first + length, "to_seq": session.end}
            bodies = [body for (body,) in database.rows(_bodies, {**target, **span})]
            if any(map(is_encrypted, bodies)):
                raise needs_keys()  # before anything is popped that cannot be returned
            _cut(database, target, session, length, operation)
    return decode_messages(bodies)


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
    title: NewTitle | None = None,
) -> int:
    """See `LifecycleStore.append` with ``replace_from``; the messages come as JSON texts."""
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        return add_turn(
            database,
            target,
            bodies,
            turn_id,
            replace_from,
            expected_length=expected_length,
            looks=may_expire(database, target),
            may_be_stored=may_be_stored,
            max_turns=max_turns,
            fence=fence,
            title=title,
        )


def add_turn(
    database: Database,
    target: Target,
    bodies: Sequence[str],
    turn_id: str,
    replace_from: int | None,
    *,
    expected_length: int | None = None,
    may_be_stored: bool,
    max_turns: int | None,
    fence: int | None = None,
    looks: bool = False,
    title: NewTitle | None = None,
) -> int:
    """Append a turn in the caller's transaction, as `replace` does; return the length after it.

    None for ``replace_from`` keeps all messages, and None for ``max_turns`` allows any number.
    ``looks`` is as for `begin_turn`.
    """
    session, stored = begin_turn(
        database,
        target,
        turn_id,
        len(bodies),
        may_be_stored=may_be_stored,
        fence=fence,
        looks=looks,
        edits=replace_from is not None,
        title=title,
    )
    if stored:
        return length_of_repeated(stored, bodies, session)
    check_expected(expected_length, session.length)
    keep = session.length if replace_from is None else replace_from
    check_replaced(keep, session.length)
    length = keep + len(bodies)
    # A history with too many turns may still be replaced by one that is not longer.
    if max_turns is not None and session.turns > max_turns and length > session.length:
        raise SessionFull(max_turns)
    cut = session.first + keep
    if cut < session.end:
        moved = archive_range(database, target, session, (cut, session.end), "replace")
        _write_numbers(database, target, moved._replace(end=session.first + length))
    add_messages(database, target, cut, [(turn_id, body) for body in bodies])
    return length


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
    repeated: bool,
) -> int:
    """See `LifecycleStore.compact`; the messages come as JSON texts.

    ``turn_id`` is the summary's; it shows that a repeated compaction was done already.
    """
    target = Target(of_session=session_id, of_owner=owner)
    operation = None if summary else turn_id
    with transaction(database):
        if operation is None:
            session = _lock_to_edit(database, target, fence)
            done: Sequence[Any] = rows_of_turn(database, turn_id, target) if repeated else ()
        else:
            session, done = _lock_or_find(database, target, fence, operation, repeated=repeated)
        if done:
            return session.length
        cut = session.first + skipped + len(replaced)
        if cut > session.end:
            raise SessionConflict(skipped + len(replaced), session.length)
        span = {"from_seq": session.first + skipped, "to_seq": cut}
        standing = [body for (body,) in database.rows(_bodies, {**target, **span})]
        if not is_same(standing, replaced):
            raise SessionConflict(skipped + len(replaced), session.length)
        old = session.first, cut
        session = archive_range(database, target, session, old, "compact", operation)
        session = session._replace(first=cut - len(summary))
        if summary:
            add_messages(database, target, session.first, [(turn_id, body) for body in summary])
        _write_numbers(database, target, session)
    return session.length


def archived(
    database: Database, session_id: str, owner: str, *, folds: bool = True
) -> list[ArchivedMessage]:
    """See `LifecycleStore.archived`."""
    target = Target(of_session=session_id, of_owner=owner)
    rows = _archived.rows(database, target, folds=folds)
    found = decode_messages([row[1] for row in rows])
    return [
        ArchivedMessage(message, text_of(turn_id), reason, time_of(at))
        for message, (_, _, turn_id, reason, at, _) in zip(found, rows, strict=True)
    ]


def _lock_to_edit(database: Database, target: Target, fence: int | None) -> SessionRow:
    session = lock_row(database, target, looks=may_expire(database, target))
    if session.is_deleted:
        raise SessionDeleted
    if fence is not None and fence != session.fence:
        raise TurnLost
    return session


def _lock_or_find(
    database: Database, target: Target, fence: int | None, operation: str, *, repeated: bool
) -> tuple[SessionRow, list[str]]:
    """Lock the session's row; return it, and what the ``repeated`` operation has archived already.

    For what was archived the lease does not matter any more. The whole archive is read for it.
    """
    if repeated:
        session = _lock_to_edit(database, target, None)
        rows = database.rows(_archived_by, {**target, "operation": operation})
        if rows:
            return session, [body for (body,) in rows]
    return _lock_to_edit(database, target, fence), []


def _cut(
    database: Database,
    target: Target,
    session: SessionRow,
    length: int,
    operation: str | None = None,
) -> None:
    """Keep the history's first ``length`` messages, and archive the others."""
    cut = session.first + length
    session = archive_range(database, target, session, (cut, session.end), "rewind", operation)
    _write_numbers(database, target, session._replace(end=cut))


def archive_range(
    database: Database,
    target: Target,
    session: SessionRow,
    span: tuple[int, int],
    reason: Reason,
    operation: str | None = None,
) -> SessionRow:
    """Move the messages with the numbers of ``span`` to the end of the archive.

    ``operation`` is what a repetition finds them by; None where it need not.
    """
    parameters = {**target, "from_seq": span[0], "to_seq": span[1]}
    offset = session.archived - span[0]
    noted = {} if operation is None else {"operation": operation}
    archive_them = _ARCHIVE[operation is not None]
    database.run(archive_them, {**parameters, **noted, "reason": reason, "offset": offset})
    database.run(_remove, parameters)
    if session.has_ids:
        free_ids(database, target, span)
    return session._replace(archived=offset + span[1])


def _write_numbers(database: Database, target: Target, session: SessionRow) -> None:
    """Write the counters back."""
    parameters = {"first": session.first, "end": session.end, "count": session.archived}
    database.run(_renumber, {**target, **parameters})
    if session.has_labels:
        touch_labels(database, target)
