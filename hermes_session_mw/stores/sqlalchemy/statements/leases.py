"""The SQL that gives out a session's turns: a lease, and a number that only grows.

The rules are those of ``editing``. The lease says when another may take the turn; what keeps a late
holder from writing is the number, which every write in a turn is checked against (see ``fences``).
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select, update

from hermes_session_mw.database.connection import Database, Row
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionBusy, SessionDeleted, TurnLost
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    WHOSE,
    of_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds
from hermes_session_mw.stores.sqlalchemy.statements.fences import next_fence
from hermes_session_mw.stores.sqlalchemy.statements.fork_rotate_import import hold_row

_ends = now_in_milliseconds() + bindparam("lease", type_=sessions.c.leased_until.type)
_take = (
    update(sessions)
    .where(
        *WHOSE,
        sessions.c.deleted_at.is_(None),
        sessions.c.leased_until <= now_in_milliseconds(),
    )
    .values(fence=next_fence(sessions.c.fence), leased_until=_ends)
)
_HELD = (*WHOSE, sessions.c.fence == bindparam("held"), sessions.c.deleted_at.is_(None))
_keep = update(sessions).where(*_HELD).values(leased_until=_ends)
_give_back = update(sessions).where(*_HELD).values(leased_until=0)
_lease = select(
    sessions.c.fence,
    sessions.c.leased_until - now_in_milliseconds(),
    sessions.c.deleted_at,
).where(*IS_SESSION)


def acquire(database: Database, session_id: str, owner: str, seconds: float) -> int:
    """See `LifecycleStore.acquire`."""
    key = {"session_id": session_id, "owner": owner}
    # A look first: who waits for another looks often, and need not keep the others from writing.
    before = database.rows(_lease, key)
    _check_free(before)
    values = of_session(session_id, owner) | {"lease": _milliseconds(seconds)}
    taken, rows = _try_to_take(database, key, values) if before else (0, before)
    if not taken:  # by others; or there was no row, or it was removed since, and is there again
        _check_free(rows)
        taken, rows = _try_to_take(database, key, values, makes_row=True)
    if not taken:
        _check_free(rows, at_least=1)  # it may be free again by now
    return int(rows[0][0])


def _try_to_take(
    database: Database, key: dict[str, Any], values: dict[str, Any], *, makes_row: bool = False
) -> tuple[int, Sequence[Row]]:
    """Take the turn if it is free; return whether it was, 1 or 0, and the lease as it is now."""
    with transaction(database):
        if makes_row:
            hold_row(database, **key)
        return database.run(_take, values), database.rows(_lease, key)


def extend(database: Database, session_id: str, owner: str, fence: int, seconds: float) -> None:
    """See `LifecycleStore.extend`."""
    values = {"held": fence, "lease": _milliseconds(seconds)}
    with transaction(database):
        if not database.run(_keep, of_session(session_id, owner) | values):
            raise TurnLost


def release(database: Database, session_id: str, owner: str, fence: int) -> None:
    """See `LifecycleStore.release`."""
    with transaction(database):
        database.run(_give_back, of_session(session_id, owner) | {"held": fence})


def _check_free(rows: Sequence[Row], at_least: int = 0) -> None:
    """Check that the turn is free; else it is for ``at_least`` milliseconds more that it is not."""
    for _, left, deleted_at in rows:
        if deleted_at is not None:
            raise SessionDeleted
        if (busy := max(left, at_least)) > 0:
            raise SessionBusy(busy / 1000)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
