"""SQL that takes turns: with other requests here, and with Hermes where it takes them as well.

The rules are those of ``session/turn_lock.py``. Hermes newer than 0.19 has one running turn for
each conversation, in its table ``session_turn_leases``, under the id of the conversation's first
session: a lease that is held here is a row there, so that each side waits for the other. In older
files a lease is a row of ``state_meta``, which only this package reads.

A holder here is named by its fence, which a row of ``state_meta`` counts for the whole file. While
Hermes holds a lease nothing is appended or taken back, with a fence or without; a lease of another
request here concerns only those that take one, too.
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import snapshot, transaction
from hermes_session_mw.exceptions import (
    SessionBusy,
    SessionDeleted,
    SessionTaken,
    StoreCorrupt,
    TurnLost,
)
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import ancestors, find_chain
from hermes_session_mw.stores.hermes_state.state_meta import (
    is_deleted,
    load_value,
    remove_value,
    store_value,
)

_OURS = "hermes_session_mw:"
_FENCE, _LEASE = "fence", "lease"
_NEEDED = ("state_meta.key", "state_meta.value")
_TABLE = {"conversation_id", "holder", "acquired_at", "expires_at"}

_select_lease = text(
    "SELECT holder, expires_at FROM session_turn_leases WHERE conversation_id = :conversation"
)
_upsert_lease = text(
    "INSERT INTO session_turn_leases (conversation_id, holder, acquired_at, expires_at)"
    " VALUES (:conversation, :holder, :now, :until) ON CONFLICT (conversation_id) DO UPDATE"
    " SET holder = excluded.holder, acquired_at = excluded.acquired_at,"
    " expires_at = excluded.expires_at"
)
_delete_lease = text("DELETE FROM session_turn_leases WHERE conversation_id = :conversation")
_select_lock = text("SELECT expires_at FROM compression_locks WHERE session_id = :session_id")


@dataclass(frozen=True, slots=True)
class _Lease:
    """A lease that was taken, and perhaps has expired.

    Attributes:
        holder: who holds it; a request here begins with ``hermes_session_mw:``.
        until: when it expires, in seconds since 1970.
    """

    holder: str
    until: float

    @property
    def is_hermes(self) -> bool:
        return not self.holder.startswith(_OURS)


def acquire(database: Database, session_id: str, seconds: float, owner: str) -> int:
    """See `LifecycleStore.acquire`."""
    # Read first: requests that wait poll it, and must not take the write lock for that.
    with snapshot(database):
        columns = columns_of(database)
        columns.check_known("turn()", *_NEEDED)
        _check_expired(
            _find(database, columns, _conversation(database, columns, session_id, owner))
        )
    with transaction(database):
        columns = columns_of(database)
        columns.check_known("turn()", *_NEEDED)
        conversation = _conversation(database, columns, session_id, owner)
        _check_expired(_find(database, columns, conversation))
        fence = int(load_value(database, _FENCE) or 0) + 1
        store_value(database, str(fence), _FENCE)
        _store(database, columns, conversation, _Lease(_holder(fence), time.time() + seconds))
        return fence


def extend(database: Database, session_id: str, fence: int, seconds: float, owner: str) -> None:
    """See `LifecycleStore.extend`."""
    with transaction(database):
        columns = columns_of(database)
        conversation = _conversation(database, columns, session_id, owner)
        lease = _find(database, columns, conversation)
        _check_held(lease, fence)
        _store(database, columns, conversation, _Lease(_holder(fence), time.time() + seconds))


def release(database: Database, session_id: str, fence: int, owner: str) -> None:
    """See `LifecycleStore.release`."""
    with transaction(database):
        columns = columns_of(database)
        conversation = _conversation(database, columns, session_id, owner)
        lease = _find(database, columns, conversation)
        if lease is not None and lease.holder == _holder(fence):
            _drop(database, columns, conversation)


def check_free(
    database: Database, columns: Columns, session_id: str, fence: int | None, *, replaces: bool
) -> None:
    """Raise an error unless the session may be written to now.

    Raises:
        TurnLost: the lease with this fence was taken by another.
        SessionBusy: Hermes is in a turn, or compresses the session.
    """
    lease = None
    if fence is not None or _has_table(columns):
        lease = _find(database, columns, _first_id(database, columns, session_id))
    if fence is not None:
        _check_held(lease, fence)
    elif lease is not None and lease.is_hermes:
        _check_expired(lease)
    if (replaces or columns.rules.fences_appends) and {"session_id", "expires_at"} <= columns.locks:
        for (until,) in database.rows(_select_lock, {"session_id": session_id}):
            _check_expired(_lease("", until))


def _conversation(database: Database, columns: Columns, session_id: str, owner: str) -> str:
    chain = find_chain(database, columns, session_id, owner)
    if chain is not None and not chain.is_own:
        raise SessionTaken
    if chain is None and columns.meta and is_deleted(database, session_id):
        raise SessionDeleted
    return _first_id(database, columns, session_id)


def _first_id(database: Database, columns: Columns, session_id: str) -> str:
    """Return the id of the conversation's first session, under which Hermes has its lease."""
    found = ancestors(database, columns, session_id)
    return found[-1][0] if found else session_id


def _check_expired(lease: _Lease | None) -> None:
    if lease is not None and lease.until > (now := time.time()):
        raise SessionBusy(lease.until - now)


def _check_held(lease: _Lease | None, fence: int) -> None:
    if lease is None or lease.holder != _holder(fence):
        raise TurnLost


def _holder(fence: int) -> str:
    return f"{_OURS}{fence}"


def _has_table(columns: Columns) -> bool:
    return columns.leases >= _TABLE


def _find(database: Database, columns: Columns, conversation: str) -> _Lease | None:
    if _has_table(columns):
        rows = database.rows(_select_lease, {"conversation": conversation})
        return _lease(*rows[0]) if rows else None
    value = load_value(database, _LEASE, conversation)
    if value is None:
        return None
    try:
        stored = json.loads(value)
        return _lease(stored["holder"], stored["until"])
    except (ValueError, TypeError, KeyError):
        raise StoreCorrupt("a lease in Hermes' table state_meta cannot be read") from None


def _lease(holder: Any, until: Any) -> _Lease:
    """Return the lease, or lock, of a row; raise ``StoreCorrupt`` if its end is not a number."""
    try:
        return _Lease(str(holder), float(until))
    except (ValueError, TypeError):
        raise StoreCorrupt("a lease in Hermes' database has no time at which it ends") from None


def _store(database: Database, columns: Columns, conversation: str, lease: _Lease) -> None:
    if _has_table(columns):
        values = {"holder": lease.holder, "until": lease.until, "now": time.time()}
        database.run(_upsert_lease, {"conversation": conversation, **values})
    else:
        store_value(database, json.dumps(asdict(lease)), _LEASE, conversation)


def _drop(database: Database, columns: Columns, conversation: str) -> None:
    if _has_table(columns):
        database.run(_delete_lease, {"conversation": conversation})
    else:
        remove_value(database, _LEASE, conversation)
