"""The SQL of expiry: settings, when a session expires by them, and what a sweep finds and removes.

Of the settings the most specific one counts: a session's own, else its owner's, else the store's,
which is bound. The rows of deleted sessions, which only keep their ids, go by the store's, as no
index has an owner's.

Whatever removes sessions by their settings first locks one row of ``hermes_counters``, and then the
sessions, and only then reads the settings. An owner's setting is written under the lock of that
row, and a session's under the lock of its own row. So once a setting is written, nothing is removed
by the one before.

One process at a time sweeps, by a lease whose fence that row has. A removal checks the fence in its
own transaction, so that a late sweeper removes nothing.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from hermes_session_mw.database.connection import Database, Parameters, Row, text_of
from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS, upsert
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import HermesSessionError, SessionDeleted
from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import (
    owner_expiry,
    require_tables,
    session_expiry,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    OF_OWNER,
    Target,
    counters,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import (
    is_before,
    is_from,
    microseconds_of,
    now,
    now_in_milliseconds,
)
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    BATCH,
    COUNTS,
    IS_UNUSED,
    STALE,
    PruneCounts,
    StaleSession,
    lock_unused,
    remove,
    stale_sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.keyset import (
    is_after,
    of_all_or_one,
    owner_parameter,
    position,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    UPDATED_AT,
    insert_or_lock_row,
    lock_row,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import Key, KeyedRows

_SECOND = 1_000_000  # microseconds
_RECHECK = 60_000
"""Milliseconds after which a sweep looks again at an expired session that is in use."""

OWNERS = 200
"""Owners that one statement finds."""

_SWEEP, _SWEEP_UNTIL = "sweep", "sweep until"
"""The rows of ``hermes_counters`` with the fence of the last sweep, and the end of its lease."""


class SweepLost(HermesSessionError):
    """Another process has the lease by now."""


class SweepBusy(HermesSessionError):
    """Another process has the lease, for so many seconds more at most."""

    def __init__(self, seconds: float) -> None:
        super().__init__("another process sweeps")
        self.seconds: float = seconds


class DueSession(NamedTuple):
    """A session whose setting's time has come, and what the row of its setting has."""

    session: StaleSession
    is_expired: bool
    expires_after: int
    due_at: int


class Times(NamedTuple):
    """What says when a session expires: its last change, in microseconds, and the settings.

    Settings are in seconds, or None for never. ``has_own`` and ``has_owners`` tell whether there
    is one.
    """

    changed: int
    has_own: bool
    own: int | None
    has_owners: bool
    owners: int | None


_int = BigInteger()
_SECONDS = bindparam("seconds", type_=_int)
# For PostgreSQL's indexes, which take no volatile function.
_now = microseconds_of(now())
_is_there = sessions.c.deleted_at.is_(None)

# Settings.

_forget = delete(session_expiry).where(*in_session(session_expiry))
_set = insert(session_expiry).from_select(
    ["owner", "session_id", "expires_after", "due_at"],
    select(sessions.c.owner, sessions.c.id, _SECONDS, UPDATED_AT // 1000 + _SECONDS * 1000).where(
        *IS_SESSION
    ),
)
_set_never = insert(session_expiry).from_select(
    ["owner", "session_id"], select(sessions.c.owner, sessions.c.id).where(*IS_SESSION)
)
_is_deleted = select(sessions.c.deleted_at).where(*IS_SESSION)
_forget_owner = delete(owner_expiry).where(owner_expiry.c.owner == OF_OWNER)
_SET_OWNER = upsert(
    owner_expiry,
    {"owner": OF_OWNER, "expires_after": bindparam("seconds", type_=_int)},
    {"expires_after": bindparam("seconds", type_=_int)},
)
_find_owner = select(owner_expiry.c.expires_after).where(owner_expiry.c.owner == OF_OWNER)
_find_own = select(session_expiry.c.expires_after).where(*in_session(session_expiry))
_move = (
    update(session_expiry)
    .where(*in_session(session_expiry))
    .values(
        owner=bindparam("new_owner", type_=session_expiry.c.owner.type),
        session_id=bindparam("new_id", type_=session_expiry.c.session_id.type),
    )
)

_is_own = and_(
    session_expiry.c.owner == sessions.c.owner, session_expiry.c.session_id == sessions.c.id
)
_is_owners = owner_expiry.c.owner == sessions.c.owner
_with_settings = sessions.outerjoin(session_expiry, _is_own).outerjoin(owner_expiry, _is_owners)
_times = select(
    sessions.c.owner,
    sessions.c.id,
    UPDATED_AT,
    session_expiry.c.owner,
    session_expiry.c.expires_after,
    owner_expiry.c.owner,
    owner_expiry.c.expires_after,
).select_from(_with_settings)

# When a session expires.

_effective = case(
    (session_expiry.c.owner.is_not(None), session_expiry.c.expires_after),
    (and_(owner_expiry.c.owner.is_not(None), _is_there), owner_expiry.c.expires_after),
    else_=func.nullif(bindparam("default", type_=_int), 0),
)
# Never, which is NULL, makes it NULL, so that no row is selected.
_expired = (
    select(sessions.c.owner, sessions.c.id)
    .select_from(_with_settings)
    .where(UPDATED_AT + _effective * _SECOND <= _now)
)
_has_own = select(session_expiry.c.owner).where(_is_own).correlate(sessions).exists()
_has_owners = select(owner_expiry.c.owner).where(_is_owners).correlate(sessions).exists()
_has_none = and_(~_has_own, or_(~_has_owners, sessions.c.deleted_at.is_not(None)))
_inheriting = select(sessions.c.owner, sessions.c.id).where(_has_none)

# What a sweep finds.

_own_changed = UPDATED_AT + session_expiry.c.expires_after * _SECOND
_find_due = (
    STALE.add_columns(
        case((and_(_own_changed <= _now, IS_UNUSED), 1), else_=0),
        session_expiry.c.expires_after,
        session_expiry.c.due_at,
    )
    .select_from(session_expiry.join(sessions, _is_own))
    .where(session_expiry.c.due_at <= _now // 1000)
    .order_by(session_expiry.c.due_at)
    .limit(BATCH)
)
_CHANGED_BEFORE = bindparam("before", type_=_int)
_CHANGED_FROM = bindparam("since", type_=_int)
_changed_within = (
    is_before(sessions.c.updated_at, _CHANGED_BEFORE),
    is_from(sessions.c.updated_at, _CHANGED_FROM),
    UPDATED_AT < _CHANGED_BEFORE,
    UPDATED_AT >= _CHANGED_FROM,
    IS_UNUSED,
)
_listed = (
    STALE.add_columns(UPDATED_AT)
    .where(*_changed_within)
    .order_by(sessions.c.updated_at)
    .limit(BATCH)
    .offset(bindparam("kept", type_=_int))
)
_find_owners = _listed.where(sessions.c.owner == OF_OWNER, _is_there, ~_has_own)
_find_inheriting = _listed.where(_has_none)
_before = _now - owner_expiry.c.expires_after * _SECOND
_any_expired = (
    select(sessions.c.id)
    .where(
        _is_owners,
        _is_there,
        is_before(sessions.c.updated_at, _before),
        _before > UPDATED_AT,
    )
    .correlate(owner_expiry)
    .exists()
)
_owners = (
    select(owner_expiry.c.owner, _before, case((_any_expired, 1), else_=0))
    .where(owner_expiry.c.expires_after.is_not(None))
    .order_by(owner_expiry.c.owner)
    .limit(OWNERS)
)
_owners_after = _owners.where(
    owner_expiry.c.owner > bindparam("after", type_=owner_expiry.c.owner.type)
)
_clock = select(now_in_milliseconds())

# What a prune finds: whatever has expired, in the order of owner and id.

_expired_rows = STALE.select_from(_with_settings).where(
    UPDATED_AT + _effective * _SECOND <= _now, IS_UNUSED
)
_FIND_EXPIRED = {
    dialect: of_all_or_one(
        _expired_rows.where(is_after(dialect, sessions.c.owner, sessions.c.id))
        .order_by(sessions.c.owner, sessions.c.id)
        .limit(BATCH),
        sessions.c.owner,
    )
    for dialect in SUPPORTED_DIALECTS
}
_COUNT_EXPIRED = of_all_or_one(
    COUNTS.select_from(_with_settings).where(UPDATED_AT + _effective * _SECOND <= _now, IS_UNUSED),
    sessions.c.owner,
)

_SESSIONS = KeyedRows(sessions, "id")
_SETTINGS = KeyedRows(session_expiry, "session_id")
_reschedule = (
    update(session_expiry)
    .where(
        *in_session(session_expiry),
        # As it was found: a setting that was set since has a time of its own.
        session_expiry.c.due_at == bindparam("seen", type_=_int),
        session_expiry.c.expires_after == _SECONDS,
    )
    .values(due_at=bindparam("due", type_=_int))
)
_changed = select(UPDATED_AT // 1000).where(*IS_SESSION)
# Left where a row of a session was removed by who knows no expiry, over a SQLite engine without
# foreign keys.
_orphans = delete(session_expiry).where(
    session_expiry.c.due_at <= _now // 1000,
    ~select(sessions.c.id).where(_is_own).correlate(session_expiry).exists(),
)

# The lease.

_NAME = bindparam("of_name", type_=counters.c.name.type)
_counter = select(counters.c.value).where(counters.c.name == _NAME)
_lock_counter = _counter.with_for_update()
_MAKE_COUNTER = upsert(counters, {"name": _NAME, "value": 0}, {"value": counters.c.value})
_set_counter = (
    update(counters)
    .where(counters.c.name == _NAME)
    .values(value=bindparam("new_value", type_=_int))
)
_remaining = select(counters.c.value - now_in_milliseconds()).where(counters.c.name == _NAME)


def set_expiry(database: Database, session_id: str, owner: str, seconds: int | None) -> None:
    """Set a session's own setting; None is never."""
    require_tables(database)
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        insert_or_lock_row(database, target)
        ((deleted_at,),) = database.rows(_is_deleted, target)
        if deleted_at is not None:
            raise SessionDeleted
        write_setting(database, target, seconds)


def write_setting(database: Database, target: Target, seconds: int | None) -> None:
    """Set the setting of a session whose row is locked; None is never."""
    database.run(_forget, target)
    if seconds is None:
        database.run(_set_never, target)
    else:
        database.run(_set, {**target, "seconds": seconds})


def forget_expiry(database: Database, session_id: str, owner: str) -> None:
    """Remove a session's own setting, if it has one."""
    require_tables(database)
    target = Target(of_session=session_id, of_owner=owner)
    with transaction(database):
        lock_row(database, target, looks=False)
        database.run(_forget, target)


def set_owner_expiry(database: Database, owner: str, seconds: int | None) -> None:
    """Set an owner's setting; None is never."""
    require_tables(database)
    with transaction(database):
        _lock_sweeps(database)
        database.run(_SET_OWNER[database.dialect], {"of_owner": owner, "seconds": seconds})


def forget_owner_expiry(database: Database, owner: str) -> None:
    """Remove an owner's setting, if there is one."""
    require_tables(database)
    with transaction(database):
        _lock_sweeps(database)
        database.run(_forget_owner, {"of_owner": owner})


def find_times(
    database: Database, wanted: Sequence[Key], *, required: bool = True
) -> dict[Key, Times]:
    """Return what says when each of the sessions expires that there are."""
    if required:
        require_tables(database)
    return {
        (text_of(owner), text_of(id_)): Times(
            int(changed), own is not None, own_seconds, owners is not None, owners_seconds
        )
        for owner, id_, changed, own, own_seconds, owners, owners_seconds in _SESSIONS.rows(
            database, _times, wanted
        )
    }


def find_owner_expiry(database: Database, owner: str) -> list[int | None]:
    """Return an owner's setting, in seconds or None for never; nothing where there is none."""
    require_tables(database)
    return [seconds for (seconds,) in database.rows(_find_owner, {"of_owner": owner})]


def find_own(database: Database, target: Target) -> list[int | None]:
    """Return a session's own setting, as `find_owner_expiry` does."""
    return [seconds for (seconds,) in database.rows(_find_own, target)]


def copy_setting(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Give the setting of a session to another one, which is new."""
    for seconds in find_own(database, target):
        write_setting(database, Target(of_session=new_id, of_owner=new_owner), seconds)


def move_setting(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move the setting of a session to another one, whose row exists."""
    copy_setting(database, target, new_id, new_owner)
    database.run(_forget, target)


def remove_of(database: Database, of_sessions: Sequence[Key]) -> None:
    """Remove the settings of sessions whose rows are locked, and are removed too."""
    _SETTINGS.delete(database, of_sessions)


def forget_owner(database: Database, owner: str) -> None:
    """Remove an owner's setting with the owner; the transaction is open."""
    database.run(_forget_owner, {"of_owner": owner})


# A prune.


def lock_inheriting(
    database: Database,
    wanted: list[Key],
    floor: int,
    *,
    lock: Callable[[Database, list[Key], int], list[Key]],
) -> list[Key]:
    """Lock those that ``lock`` locks, and that neither have a setting nor have owners with one."""
    _lock_sweeps(database)
    locked = lock(database, wanted, floor)
    return _SESSIONS.keys(database, _inheriting, locked) if locked else []


def count_inheriting(database: Database, count: Select[Any], parameters: Parameters) -> Row:
    """Return the row of ``count``, about those that inherit the store's setting alone."""
    (counts,) = database.rows(_of_inheriting(count), parameters)
    return counts


@cache
def _of_inheriting(count: Select[Any]) -> Select[Any]:
    return count.where(_has_none)


def find_expired(
    database: Database, default: int | None, owner: str | None, after: tuple[str, str]
) -> list[StaleSession]:
    """Return the next rows, by owner and id, that have expired; ``default`` as `remove_expired`."""
    require_tables(database)
    parameters = {"default": default or 0, **position("after", after), **owner_parameter(owner)}
    statement = _FIND_EXPIRED[database.dialect][owner is not None]
    return stale_sessions(database.rows(statement, parameters))


def count_expired(database: Database, default: int | None, owner: str | None) -> PruneCounts:
    """Count what has expired, of one owner or of all."""
    require_tables(database)
    parameters = {"default": default or 0, **owner_parameter(owner)}
    (counts,) = database.rows(_COUNT_EXPIRED[owner is not None], parameters)
    return PruneCounts(*(int(each or 0) for each in counts))


# A sweep.


def acquire_sweep(database: Database, seconds: float) -> int:
    """Acquire the lease for ``seconds``, and return its fence.

    Raises:
        SweepBusy: another process has it.
    """
    require_tables(database)
    _check_free(database)
    with transaction(database):
        for name in (_SWEEP, _SWEEP_UNTIL):
            database.run(_MAKE_COUNTER[database.dialect], {"of_name": name})
        fence = _lock_sweeps(database) + 1
        _check_free(database)
        database.run(_set_counter, {"of_name": _SWEEP, "new_value": fence})
        _set_lease(database, seconds)
    return fence


def extend_sweep(database: Database, fence: int, seconds: float) -> None:
    """Have the lease end in ``seconds``, or raise `SweepLost`."""
    with transaction(database):
        _check_fence(database, fence)
        _set_lease(database, seconds)


def now_of(database: Database) -> int:
    """Return the microseconds from 1970 by the database's clock."""
    ((milliseconds,),) = database.rows(_clock, {})
    return int(milliseconds) * 1000


def find_due(database: Database) -> list[DueSession]:
    """Return sessions with a setting of their own, the time of which has come."""
    require_tables(database)
    return [
        DueSession(session, bool(is_expired), int(seconds), int(due_at))
        for *columns, is_expired, seconds, due_at in database.rows(_find_due, {})
        for session in stale_sessions([columns])
    ]


def reschedule(database: Database, left: Sequence[DueSession]) -> None:
    """Set when to look again at sessions that have not expired, or are in use."""
    with transaction(database):
        now = now_of(database) // 1000
        soonest = now + _RECHECK
        for each in left:
            target = Target(of_session=each.session.session_id, of_owner=each.session.owner)
            for (changed,) in database.rows(_changed, target):
                due = int(changed) + each.expires_after * 1000
                seen = {"seen": each.due_at, "seconds": each.expires_after}
                due = soonest if due <= now else due
                database.run(_reschedule, {**target, **seen, "due": due})


def drop_orphans(database: Database) -> None:
    """Remove settings whose sessions are gone."""
    with transaction(database):
        database.run(_orphans, {})


def find_owners(database: Database, after: str | None) -> list[tuple[str, int, bool]]:
    """Return the next owners with a setting that is not never, by name.

    With each comes the time before which its sessions were changed that have expired, and whether
    there may be any.
    """
    require_tables(database)
    rows = database.rows(*((_owners, {}) if after is None else (_owners_after, {"after": after})))
    return [(text_of(owner), int(before), bool(any_expired)) for owner, before, any_expired in rows]


def find_changed_before(
    database: Database, before: int, since: int, kept: int, owner: str | None
) -> list[tuple[StaleSession, int]]:
    """Return sessions without a setting, and when each was changed, the earliest changes first.

    They were changed before ``before``, and at ``since`` or later, in microseconds; the first
    ``kept`` of them are left out. They are those of an owner, or of all owners that have no
    setting.
    """
    parameters = {"before": before, "since": since, "kept": kept}
    if owner is None:
        rows = database.rows(_find_inheriting, parameters)
    else:
        rows = database.rows(_find_owners, {**parameters, "of_owner": owner})
    return [
        (session, int(changed))
        for *columns, changed in rows
        for session in stale_sessions([columns])
    ]


def remove_expired(
    database: Database,
    portion: Sequence[StaleSession],
    default: int | None,
    fence: int | None,
) -> list[StaleSession]:
    """Remove those of ``portion`` that have expired, and return them.

    ``default`` is the store's setting, in seconds or None for never. A sweeper has a ``fence``.

    Raises:
        SweepLost: another process sweeps by now.
    """
    lock = partial(_lock_expired, default=default, sweep_fence=fence)
    return remove(database, portion, lock)


def _lock_expired(
    database: Database,
    wanted: list[Key],
    floor: int,
    *,
    default: int | None,
    sweep_fence: int | None,
) -> list[Key]:
    if sweep_fence is None:
        _lock_sweeps(database)
    else:
        _check_fence(database, sweep_fence)
    locked = lock_unused(database, wanted, floor)
    # In a statement of its own, which reads what was written until the locks were taken.
    return _SESSIONS.keys(database, _expired, locked, default=default or 0) if locked else []


def _lock_sweeps(database: Database) -> int:
    """Lock the row with the fence of the last sweep until the transaction ends, and return it."""
    rows = database.rows(_lock_counter, {"of_name": _SWEEP})
    if not rows:
        database.run(_MAKE_COUNTER[database.dialect], {"of_name": _SWEEP})
        rows = database.rows(_lock_counter, {"of_name": _SWEEP})
    return int(rows[0][0])


def _check_fence(database: Database, fence: int) -> None:
    if _lock_sweeps(database) != fence:
        raise SweepLost("another process sweeps by now")


def _check_free(database: Database) -> None:
    for (remaining,) in database.rows(_remaining, {"of_name": _SWEEP_UNTIL}):
        if remaining > 0:
            raise SweepBusy(int(remaining) / 1000)


def _set_lease(database: Database, seconds: float) -> None:
    until = now_of(database) // 1000 + round(seconds * 1000)
    database.run(_set_counter, {"of_name": _SWEEP_UNTIL, "new_value": until})
