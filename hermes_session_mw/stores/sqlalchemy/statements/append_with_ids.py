"""The SQL that appends a turn whose messages have ids, or that sets metadata with it.

Which messages are new is known only under the lock of the session's row, so that the numbers are
taken by a second statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from sqlalchemy import bindparam, func, update

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionDeleted, SessionFull, TurnLost
from hermes_session_mw.stores.expiry import Setting
from hermes_session_mw.stores.labels import Pairs
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_SESSION, Target, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now
from hermes_session_mw.stores.sqlalchemy.statements.append import (
    NewTitle,
    add_messages,
    begin_turn,
    check_expected,
    length_of_repeated,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, writes
from hermes_session_mw.stores.sqlalchemy.statements.labels import touch_labels, write_pairs
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import add_ids, known_ids
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import may_expire
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import archive_range
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import set_expiry
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
    NEW_METADATA,
    check_stored,
    write_metadata,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    WITH_PAIRS,
    SessionRow,
    lock_or_insert_row,
)
from hermes_session_mw.stores.sqlalchemy.statements.turns import rows_of_turn
from hermes_session_mw.stores.validation import ExpectedBody, check_replaced

_counters: dict[str, Any] = {
    "next_seq": bindparam("end"),
    "turns": bindparam("count"),
    "archived": bindparam("put_away"),
    "has_message_ids": bindparam("has_ids"),
    "updated_at": now(),
}
_SET: dict[str, dict[str, Any]] = {
    "new_metadata": {"metadata": bindparam("new_metadata")},
    "new_title": {"title": func.coalesce(sessions.c.title, bindparam("new_title"))},
}
_CONTENT = {"new_metadata": NEW_METADATA, "new_title": Content("new_title", "title")}
_FORMS: list[tuple[str, ...]] = [
    (),
    ("new_metadata",),
    ("new_title",),
    ("new_metadata", "new_title"),
]
# By what is set too.
_WRITE = {
    form: writes(
        update(sessions)
        .where(*IS_SESSION)
        .values(reduce(or_, (_SET[name] for name in form), _counters)),
        *(_CONTENT[name] for name in form),
    )
    for form in _FORMS
}


@dataclass(frozen=True, slots=True)
class TurnDetails:
    """What is stored with a turn's messages: an id or None for each; and the metadata's JSON text.

    ``metadata`` is None where none is set, and so is ``expires_after``, the session's setting of
    expiry. ``pairs`` are those in the metadata. ``title`` is for a session that has none.
    """

    message_ids: Sequence[str | None]
    metadata: str | None
    expected_metadata: ExpectedBody
    replace_from: int | None
    expires_after: Setting | None = None
    pairs: Pairs = ()
    title: NewTitle | None = None

    @property
    def has_ids(self) -> bool:
        """Whether any message has an id."""
        return any(each is not None for each in self.message_ids)

    def described(self, turns: int) -> dict[str, str]:
        """Return what is set of a session that has had so many turns, as parameters."""
        found = {} if self.metadata is None else {"new_metadata": self.metadata}
        if self.title is not None and turns < self.title.turns:
            found["new_title"] = self.title.text
        return found


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
        length = length_of_repeated(stored, compared, session)
    else:
        check_expected(expected_length, session.length)
        turn = [*zip(bodies, details.message_ids, strict=True)]
        length = _store(
            database, target, session, turn_id, turn, details, max_turns, in_doubt=bool(doubts)
        )
    if details.expires_after is not None:
        set_expiry(database, target, details.expires_after)
    return length


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
            write_metadata(database, target, metadata, details.pairs)
        return length
    counters = {
        "end": cut + len(added),
        "count": session.turns + bool(added),
        "put_away": session.archived,
        "has_ids": int(session.has_ids or any(each is not None for _, each in added)),
    }
    described = details.described(session.turns)
    database.run(_WRITE[tuple(described)], {**target, **counters, **described})
    _write_labels(database, target, session, details)
    if added:
        add_messages(database, target, cut, [(turn_id, body) for body, _ in added])
        add_ids(database, target, cut, [each for _, each in added])
    return length


def _write_labels(
    database: Database, target: Target, session: SessionRow, details: TurnDetails
) -> None:
    """Have the labels' rows tell the session's change, and the pairs of its new metadata."""
    if session.has_labels:
        touch_labels(database, target)
    has_pairs = bool(details.pairs) or session.has_labels == WITH_PAIRS
    if details.metadata is not None and has_pairs and has_label_columns(database):
        write_pairs(database, target, details.pairs)


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
