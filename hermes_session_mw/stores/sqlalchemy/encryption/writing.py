"""The statements that read and set a session's data key."""

from functools import cache
from typing import Any, cast

from sqlalchemy import Executable, Select, bindparam, select, update

from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_SESSION, sessions

# FOR UPDATE also because MySQL would else read what the transaction's snapshot has.
FIND_KEY: Select[Any] = (
    select(sessions.c.data_key).where(*IS_SESSION).with_for_update(key_share=True)
)
"""Locks the session's row, and reads its wrapped data key."""

SET_KEY: Executable = (
    update(sessions)
    .where(*IS_SESSION)
    .values(data_key=bindparam("new_key"), updated_at=sessions.c.updated_at)
)
"""Sets the wrapped data key."""

SET_FIRST_KEY: Executable = cast("Any", SET_KEY).where(sessions.c.data_key.is_(None))
"""Sets the wrapped data key of a session that has none."""


@cache
def locking_of(statement: Executable) -> Executable:
    """Return the form of a statement of `LOCKS` that also returns the wrapped data key."""
    if isinstance(statement, Select):
        return statement.add_columns(sessions.c.data_key)
    returned: Executable = cast("Any", statement).returning(sessions.c.data_key)
    return returned
