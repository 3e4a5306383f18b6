"""The SQL that tells what a session has beside its history: metadata, answers, ids."""

from typing import NamedTuple

from sqlalchemy import case, select

from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    Target,
    answers,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import HAS_METADATA


class Extras(NamedTuple):
    """What there is, also of a deleted session; answers that have ended count."""

    metadata: bool
    answers: bool = False
    message_ids: bool = False


_any_answer = select(answers.c.id).where(*in_session(answers)).exists()
_has_ids = select(sessions.c.has_message_ids).where(*IS_SESSION).scalar_subquery()
_has_all = HAS_METADATA.add_columns(case((_any_answer, 1), else_=0), _has_ids)


def extras_of(database: Database, target: Target) -> Extras:
    """Tell what a session whose row is locked has beside its history, in one statement."""
    (row,) = database.rows(_has_all if has_answers(database) else HAS_METADATA, target)
    return Extras(*map(bool, row))
