"""The SQL that acquires, extends and releases a session's lease, and that numbers leases by fences.

No other request can acquire the lease until its end. Every write is checked against its *fence*, a
number that only grows, so that a late holder cannot write. A session's row has the fence of its
last lease. One number for all sessions remains after rows are removed: the *floor*, which is at
least the fence of every removed row.

A prune raises the floor first, commits that, and then removes the rows. A new fence is greater than
the row's and the floor, and computed by the statement that writes it, which sees every floor that
was raised before the row was inserted. So no transaction waits for the floor's lock while it holds
a session's.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, func, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.connection import Database, Row
from hermes_session_mw.database.dialects import upsert
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionBusy, SessionDeleted, TurnLost
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    Target,
    counters,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    EXPIRED_FENCE,
    AnswerExpired,
    leasing,
    may_expire,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import insert_or_lock_row


class _greatest(FunctionElement[int]):  # noqa: N801  # used like a function
    """The greatest of several numbers."""

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True


@compiles(_greatest)
def _compile_greatest(element: _greatest, compiler: SQLCompiler, **options: Any) -> str:
    name = "max" if compiler.dialect.name == "sqlite" else "greatest"
    return f"{name}({compiler.process(element.clauses, **options)})"


_FENCE = "fence"
_floor = func.coalesce(
    select(counters.c.value).where(counters.c.name == _FENCE).scalar_subquery(), 0
)
_read_floor = select(_floor)

_FLOOR_ROW = {"name": _FENCE, "value": bindparam("floor", type_=counters.c.value.type)}
_RAISED = {"value": _greatest(counters.c.value, _FLOOR_ROW["value"])}
_RAISE_FLOOR = upsert(counters, _FLOOR_ROW, _RAISED)


def next_fence(*fences: ColumnElement[int]) -> ColumnElement[int]:
    """Return the SQL expression of a fence above ``fences`` and the floor."""
    return _greatest(*fences, _floor) + 1


LEASE_END = now_in_milliseconds() + bindparam("lease", type_=sessions.c.leased_until.type)
"""When a lease of ``:lease`` milliseconds ends that begins now."""

_acquire = (
    update(sessions)
    .where(
        *IS_SESSION,
        sessions.c.deleted_at.is_(None),
        sessions.c.leased_until <= now_in_milliseconds(),
    )
    .values(fence=next_fence(sessions.c.fence), leased_until=LEASE_END)
)
_IS_HELD = (*IS_SESSION, sessions.c.fence == bindparam("held"), sessions.c.deleted_at.is_(None))
_extend = update(sessions).where(*_IS_HELD).values(leased_until=LEASE_END)
_release = update(sessions).where(*_IS_HELD).values(leased_until=0)
_lease = select(
    sessions.c.fence, sessions.c.leased_until - now_in_milliseconds(), sessions.c.deleted_at
).where(*IS_SESSION)
_lease_and_answer = _lease.add_columns(EXPIRED_FENCE)


def acquire(database: Database, session_id: str, owner: str, seconds: float) -> int:
    """See `LifecycleStore.acquire`.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    target = Target(of_session=session_id, of_owner=owner)
    looks = may_expire(database, target)
    # Read first: requests that wait for the lease poll it, and must not take write locks for that.
    rows = database.rows(_lease_and_answer if looks else _lease, target)
    _check_free(rows)
    if looks and rows and rows[0][3]:
        raise AnswerExpired(session_id, owner)
    parameters = {**target, "lease": in_milliseconds(seconds)}
    acquired = 0
    if rows:
        with transaction(database):
            acquired, rows = database.run(_acquire, parameters), database.rows(_lease, target)
    if not acquired:  # by others; or there was no row, or it was removed and inserted again since
        _check_free(rows)
        with transaction(database):
            insert_or_lock_row(database, target)
            acquired, rows = database.run(_acquire, parameters), database.rows(_lease, target)
    if not acquired:
        _check_free(rows, at_least=1)  # it may have ended since
    return int(rows[0][0])


def extend(database: Database, session_id: str, owner: str, fence: int, seconds: float) -> None:
    """See `LifecycleStore.extend`."""
    target = Target(of_session=session_id, of_owner=owner)
    with leasing(database, seconds), transaction(database):
        if not database.run(_extend, {**target, "held": fence, "lease": in_milliseconds(seconds)}):
            raise TurnLost


def release(database: Database, session_id: str, owner: str, fence: int) -> None:
    """See `LifecycleStore.release`."""
    with transaction(database):
        database.run(_release, {**Target(of_session=session_id, of_owner=owner), "held": fence})


def _check_free(rows: Sequence[Row], at_least: int = 0) -> None:
    """Check that the lease is free; if not, report at least ``at_least`` milliseconds to wait."""
    for _, remaining, deleted_at, *_ in rows:
        if deleted_at is not None:
            raise SessionDeleted
        if (busy := max(remaining, at_least)) > 0:
            raise SessionBusy(busy / 1000)


def in_milliseconds(seconds: float) -> int:
    """Return the seconds of a lease in milliseconds, at least one."""
    return max(round(seconds * 1000), 1)


def raise_floor(database: Database, fence: int) -> None:
    """Raise the floor to ``fence``: a row that is inserted from now on gets only greater ones."""
    # Usually it is high enough: rows that never had a lease have the fence 0.
    if fence and fence > database.rows(_read_floor, {})[0][0]:
        with transaction(database):
            database.run(_RAISE_FLOOR[database.dialect], {"floor": fence})
