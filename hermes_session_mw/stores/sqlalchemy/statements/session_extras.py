"""The SQL that tells what a session has beside its history: metadata, answers, ids, checkpoints.

Checkpoints have tables of their own, and modules that are imported where the tables are there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import case, select

from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_presence import (
    checkpoint_tables_exist,
    has_checkpoint_tables,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    Target,
    answers,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import HAS_METADATA
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import Key


class Extras(NamedTuple):
    """What there is, also of a deleted session; answers that have ended count.

    ``checkpoints``: whether the tables of checkpoints are there.
    """

    metadata: bool
    answers: bool = False
    message_ids: bool = False
    checkpoints: bool = False


_any_answer = select(answers.c.id).where(*in_session(answers)).exists()
_has_ids = select(sessions.c.has_message_ids).where(*IS_SESSION).scalar_subquery()
_has_all = HAS_METADATA.add_columns(
    case((_any_answer, 1), else_=0), _has_ids, has_checkpoint_tables()
)


def extras_of(database: Database, target: Target) -> Extras:
    """Tell what a session whose row is locked has beside its history, in one statement."""
    (row,) = database.rows(_has_all if has_answers(database) else HAS_METADATA, target)
    return Extras(*map(bool, row))


def has_checkpoints(database: Database, target: Target) -> bool:
    """Tell whether the session has checkpoints."""
    if not checkpoint_tables_exist(database):
        return False
    from hermes_session_mw.stores.sqlalchemy.statements import checkpoints  # noqa: PLC0415

    return checkpoints.has_checkpoints(database, target)


def remove_checkpoints(database: Database, target: Target) -> bool:
    """Remove the checkpoints of a session whose row is locked; return whether there was any."""
    from hermes_session_mw.stores.sqlalchemy.statements import checkpoints  # noqa: PLC0415

    return checkpoints.remove_all(database, target)


def remove_checkpoints_of(database: Database, of_sessions: Sequence[Key]) -> None:
    """Remove the checkpoints of sessions whose rows are locked, and are removed too."""
    from hermes_session_mw.stores.sqlalchemy.statements import checkpoints  # noqa: PLC0415

    checkpoints.remove_of(database, of_sessions)


def move_checkpoints(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the session's checkpoints to another session, whose row exists."""
    from hermes_session_mw.stores.sqlalchemy.statements import checkpoints  # noqa: PLC0415

    checkpoints.move(database, target, new_id, new_owner)
