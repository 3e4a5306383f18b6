"""The SQL that appends a turn whose messages have ids, or that sets metadata with it.

Which messages are new is known only under the lock of the session's row, so that the numbers are
taken by a second statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, update

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionDeleted, SessionFull, TurnLost
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_SESSION, Target, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now
from hermes_session_mw.stores.sqlalchemy.statements.append import (
    add_messages,
    begin_turn,
    check_expected,
    length_of_repeated,
)
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import add_ids, known_ids
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import may_expire
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import archive_range
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
    check_stored,
    write_metadata,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    SessionRow,
    lock_or_insert_row,
)
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import ExpectedBody, check_replaced

_counters = {
    "next_seq": bindparam("end"),
    "turns": bindparam("count"),
    "archived": bindparam("put_away"),
    "has_message_ids": bindparam("has_ids"),
    "updated_at": now(),
}
# By whether metadata is set too.
_WRITE = {
    False: update(sessions).where(*IS_SESSION).values(_counters),
    True: update(sessions)
    .where(*IS_SESSION)
    .values({**_counters, "metadata": bindparam("new_metadata")}),
}


@dataclass(frozen=True, slots=True)
class TurnDetails:
    """What is stored with a turn's messages: an id or None for each; and the metadata's JSON text.

    ``metadata`` is None where none is set.
    """

    message_ids: Sequence[str | None]
    metadata: str | None
    expected_metadata: ExpectedBody
    replace_from: int | None

    @property
    def has_ids(self) -> bool:
        """Whether any message has an id."""
        return any(each is not None for each in self.message_ids)


def append_with_ids(
    database: Database,
    session_id: str,
    bodies: Sequence[str],
    owner: str,
    turn_id: str,
    expected_length: int | None,
    *,
    details: TurnDetails,
    doubts: Sequence[object],
    may_be_stored: bool,
    max_turns: int,
    fence: int | None,
) -> int:
    """See `MessageStore.append`; the arguments are as for `append`.

    There are ``doubts`` if an earlier attempt may be committed: also one that has stored no turn,
    and the metadata alone.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    target = Target(of_session=session_id, of_owner=owner)
    looks = may_expire(database, target)
    with transaction(database):
        return append_inside(
            database,
            target,
            bodies,
            turn_id,
            expected_length,
            details=details,
            doubts=doubts,
            may_be_stored=may_be_stored,
            max_turns=max_turns,
            fence=fence,
            looks=looks,
        )


def append_inside(
    database: Database,
    target: Target,
    bodies: Sequence[str],
    turn_id: str,
    expected_length: int | None = None,
    *,
    details: TurnDetails,
    doubts: Sequence[object] = (),
    may_be_stored: bool,
    max_turns: int,
    fence: int | None,
    looks: bool,
) -> int:
    """Do what `append_with_ids` does, in a transaction that is open; ``looks`` as `lock_row`."""
    session = lock_or_insert_row(database, target, looks=looks)
    if session.is_deleted:
        raise SessionDeleted
    if fence is not None and fence != session.fence:
        raise TurnLost
    if may_be_stored and rows_of_turn(database, turn_id, target):
        # For the write in it, which is committed.
        session, stored = begin_turn(
            database, target, turn_id, 0, may_be_stored=True, fence=fence, looks=False
        )
        # Which of the messages were new is not known any more.
        compared = None if details.has_ids else bodies
        return length_of_repeated(stored, compared, session)
    check_expected(expected_length, session.length)
    turn = [*zip(bodies, details.message_ids, strict=True)]
    return _store(
        database, target, session, turn_id, turn, details, max_turns, in_doubt=bool(doubts)
    )


def _store(
    database: Database,
    target: Target,
    session: SessionRow,
    turn_id: str,
    turn: Sequence[tuple[str, str | None]],
    details: TurnDetails,
    max_turns: int,
    *,
    in_doubt: bool,
) -> int:
    """Store what is new of the turn's messages and their ids; return the length after it."""
    before, metadata = session.length, details.metadata
    keep = before if details.replace_from is None else details.replace_from
    check_replaced(keep, before)
    cut = session.first + keep
    if cut < session.end:
        session = archive_range(database, target, session, (cut, session.end), "replace")
    added = _unknown(database, target, session, turn)
    done = metadata if in_doubt and not added else None
    check_stored(database, target, details.expected_metadata, before, done=done)
    length = keep + len(added)
    # A history with too many turns may still be replaced by one that is not longer.
    if session.turns >= max_turns and length > before:
        raise SessionFull(max_turns)
    if length == before == keep:
        if metadata is not None:
            write_metadata(database, target, metadata)
        return length
    counters = {
        "end": cut + len(added),
        "count": session.turns + bool(added),
        "put_away": session.archived,
        "has_ids": int(session.has_ids or any(each is not None for _, each in added)),
    }
    described = {} if metadata is None else {"new_metadata": metadata}
    database.run(_WRITE[metadata is not None], {**target, **counters, **described})
    if added:
        add_messages(database, target, cut, [(turn_id, body) for body, _ in added])
        add_ids(database, target, cut, [each for _, each in added])
    return length


def _unknown(
    database: Database,
    target: Target,
    session: SessionRow,
    turn: Sequence[tuple[str, str | None]],
) -> Sequence[tuple[str, str | None]]:
    """Return those of the messages, with their ids, that the history does not have."""
    if not session.has_ids:
        return turn
    known = known_ids(database, target, [each for _, each in turn if each is not None])
    return [(body, message_id) for body, message_id in turn if message_id not in known]
