"""The SQL that gives out a session's turns: a lease, and a number that only grows.

The rules are those of ``editing``. The lease says when another may take the turn; what keeps a late
holder from writing is the number, which every write in a turn is checked against.
"""

from sqlalchemy import bindparam, select, update

from ...exceptions import SessionBusy, SessionDeleted, TurnLost
from .branching import INSERT_EMPTY
from .clock import now_in_milliseconds
from .database import Database
from .schema import IS_SESSION, WHOSE, of_session, sessions
from .transactions import transaction

_ends = now_in_milliseconds() + bindparam("lease", type_=sessions.c.leased_until.type)
_take = (
    update(sessions)
    .where(
        *WHOSE,
        sessions.c.deleted_at.is_(None),
        sessions.c.leased_until <= now_in_milliseconds(),
    )
    .values(fence=sessions.c.fence + 1, leased_until=_ends)
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
    for _, left, deleted_at in before:
        _check_free(left, deleted_at)
    with transaction(database):
        if not before:
            database.run(INSERT_EMPTY[database.dialect], key)
        lease = {"lease": _milliseconds(seconds)}
        taken = database.run(_take, of_session(session_id, owner) | lease)
        ((fence, left, deleted_at),) = database.rows(_lease, key)
    if not taken:
        _check_free(max(left, 1), deleted_at)  # it may be free again by now
    return int(fence)


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


def _check_free(left: int, deleted_at: object) -> None:
    if deleted_at is not None:
        raise SessionDeleted
    if left > 0:
        raise SessionBusy(left / 1000)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
