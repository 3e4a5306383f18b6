"""The SQL that finds a turn by its id, in the history or in the archive."""

from collections.abc import Sequence

from sqlalchemy import bindparam, func, literal_column, select, union_all

from hermes_session_mw.database.connection import Database, Row
from hermes_session_mw.messages import decode_messages
from hermes_session_mw.stores.models import StoredTurn
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_ARCHIVE,
    IN_SESSION,
    IS_SESSION,
    Target,
    archive,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import LookingSelect

_first = func.coalesce(select(sessions.c.first_seq).where(*IS_SESSION).scalar_subquery(), 0)
_in_history = select(
    messages.c.seq.label("seq"), messages.c.body.label("body"), _first.label("first")
).where(*IN_SESSION, messages.c.turn_id == bindparam("turn_id"))
_archived = select(archive.c.seq, archive.c.body, literal_column("NULL")).where(
    *IN_ARCHIVE, archive.c.turn_id == bindparam("turn_id")
)
_turn = union_all(_in_history, _archived)
# A turn got all its numbers at once, so they order its messages in both tables.
_BODY = Content(1, "message", (0,))
_ordered = reads(_turn.order_by("seq"), _BODY, order=("seq",))
_looking = LookingSelect(_turn, "seq", content=(_BODY,))


def rows_of_turn(database: Database, turn_id: str, target: Target) -> Sequence[Row]:
    """Return a turn's messages: number, JSON text, and the history's first number.

    The last is None for a message in the archive.
    """
    return database.rows(_ordered, {**target, "turn_id": turn_id})


def find_turn(
    database: Database, session_id: str, turn_id: str, owner: str, *, folds: bool = True
) -> StoredTurn | None:
    """See `LifecycleStore.find_turn`."""
    target = Target(of_session=session_id, of_owner=owner)
    rows = _looking.rows(database, target, folds=folds, turn_id=turn_id)
    if not rows:
        return None
    messages_of_turn = decode_messages([body for _, body, _ in rows])
    is_whole = all(first is not None for _, _, first in rows)
    return StoredTurn(turn_id, messages_of_turn, rows[0][0] - rows[0][2] if is_whole else None)
