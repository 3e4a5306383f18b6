"""The SQL that tells what a session has beside its history: metadata, answers, ids, checkpoints.

Checkpoints, and settings of expiry, have tables of their own, and modules that are imported where
the tables are there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import case, select

from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.expiry import Setting, seconds_of, setting_of
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import (
    checkpoint_tables_exist,
    expiry_tables_exist,
    has_checkpoint_tables,
    has_expiry_tables,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    Target,
    answers,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import (
    HAS_DATA_KEY,
    HAS_METADATA,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import Key


class Extras(NamedTuple):
    """What there is, also of a deleted session; answers that have ended count.

    ``checkpoints``: whether the tables of checkpoints are there; ``data_key``: whether content was
    encrypted; ``labels``: whether there are labels.
    ``checkpoints`` and ``expiry``: whether their tables are there.
    """

    metadata: bool
    answers: bool = False
    message_ids: bool = False
    checkpoints: bool = False
    data_key: bool = False
    expiry: bool = False
    labels: bool = False


_any_answer = select(answers.c.id).where(*in_session(answers)).exists()
_has_ids = select(sessions.c.has_message_ids).where(*IS_SESSION).scalar_subquery()
_has_all = HAS_METADATA.add_columns(
    case((_any_answer, 1), else_=0),
    _has_ids,
    has_checkpoint_tables(),
    HAS_DATA_KEY,
    has_expiry_tables(),
)
_has_labels = select(sessions.c.has_labels).where(*IS_SESSION).scalar_subquery()
_with_labels = _has_all.add_columns(_has_labels)


def extras_of(database: Database, target: Target) -> Extras:
    """Tell what a session whose row is locked has beside its history, in one statement."""
    if has_label_columns(database):
        statement = _with_labels
    else:
        statement = _has_all if has_answers(database) else HAS_METADATA
    (row,) = database.rows(statement, target)
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


def count_checkpoints_of(database: Database, of_sessions: Sequence[Key]) -> int:
    """Return how many checkpoints the sessions have; the tables are there."""
    from hermes_session_mw.stores.sqlalchemy.statements import checkpoints  # noqa: PLC0415

    return checkpoints.count_of(database, of_sessions)


def move_checkpoints(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the session's checkpoints to another session, whose row exists."""
    from hermes_session_mw.stores.sqlalchemy.statements import checkpoints  # noqa: PLC0415

    checkpoints.move(database, target, new_id, new_owner)


def move_expiry(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the setting of a session to another one, whose row exists; the tables are there."""
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415

    expiry.move_setting(database, target, new_id, new_owner)


def copy_expiry(database: Database, target: Target, new_id: str) -> None:
    """Give a session's setting to another one of its owner; do nothing without the tables."""
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415

    if expiry_tables_exist(database):
        expiry.copy_setting(database, target, new_id, target["of_owner"])


def set_expiry(database: Database, target: Target, expires_after: Setting) -> None:
    """Set the setting of a session whose row is locked; the tables are there."""
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415

    expiry.write_setting(database, target, seconds_of(expires_after))


def find_expiry(database: Database, target: Target) -> Setting | None:
    """Return a session's own setting; None without one, or without the tables."""
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415

    found = expiry.find_own(database, target) if expiry_tables_exist(database) else []
    return setting_of(found[0]) if found else None


def remove_expiry_of(database: Database, of_sessions: Sequence[Key]) -> None:
    """Remove the settings of sessions whose rows are locked, and are removed too."""
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415

    expiry.remove_of(database, of_sessions)


def forget_expiry_of_owner(database: Database, owner: str) -> None:
    """Remove an owner's setting; the tables are there."""
    from hermes_session_mw.stores.sqlalchemy.statements import expiry  # noqa: PLC0415

    expiry.forget_owner(database, owner)
