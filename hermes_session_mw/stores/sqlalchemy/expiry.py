"""The expiry of a `SQLAlchemyStore`'s sessions, which makes this when ``store.expiry`` is used.

Each operation checks its arguments, and is one function of `statements`, as the store's are. The
first one makes the tables.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import HermesSessionError
from hermes_session_mw.stores.expiry import (
    SessionExpiry,
    Setting,
    Sweep,
    check_expiry,
    expires_at,
    seconds_of,
    setting_of,
)
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import (
    ExpiryTablesUnknown,
    make_tables,
    require_tables,
)
from hermes_session_mw.stores.sqlalchemy.statements import expiry
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    BATCH,
    PORTION,
    PruneCounts,
    StaleSession,
    counts_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.expiry import SweepBusy, SweepLost, Times
from hermes_session_mw.stores.sqlalchemy.statements.keyset import START
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import portions
from hermes_session_mw.stores.validation import check_keys

T = TypeVar("T")
P = ParamSpec("P")

LEASE = 60.0
"""Seconds of a sweep's lease, after which another process takes over from one that died."""

_EARLIER = 120 * 1_000_000
"""Microseconds before the last sweep's cutoff from which the next one looks."""

_FIRST = 2 * 86_400 * 1_000_000
"""The earliest time that a look begins with, in microseconds: MySQL has none before 1970."""

_WHOLE = 3600.0
"""Seconds after which a sweep looks at everything again that was not changed for long.

So it comes to what an earlier sweep had passed: sessions that were in use then, or whose own
setting was removed since, and those that were imported with times of long ago.
"""


class SQLAlchemyExpiry:
    """An `ExpiryStore` in the store's database; get it as ``store.expiry``."""

    def __init__(
        self, retrying: RetryingExecutor, expires_after: Setting, *, creates: bool
    ) -> None:
        self.expires_after: Setting = expires_after
        self._retrying = retrying
        self._creates = creates
        # The cutoff of the last sweep, which has removed what was changed before and had no
        # setting; and when everything is looked at again.
        self._swept_to = 0
        self._whole_at = float("-inf")

    async def set(self, session_id: str, expires_after: Setting | None, owner: str = "") -> None:
        """See `ExpiryStore.set`; one short transaction."""
        check_keys(session_id, owner)
        if expires_after is None:
            await self._write(expiry.forget_expiry, session_id, owner)
            return
        check_expiry(expires_after)
        seconds = seconds_of(expires_after)
        await self._write(expiry.set_expiry, session_id, owner, seconds)

    async def set_owner(self, owner: str, expires_after: Setting | None) -> None:
        """See `ExpiryStore.set_owner`; one short transaction."""
        check_keys("-", owner)
        if expires_after is None:
            await self._write(expiry.forget_owner_expiry, owner)
            return
        check_expiry(expires_after)
        seconds = seconds_of(expires_after)
        await self._write(expiry.set_owner_expiry, owner, seconds)

    async def find(self, session_id: str, owner: str = "") -> SessionExpiry:
        """See `ExpiryStore.find`."""
        check_keys(session_id, owner)
        found = await self._read(expiry.find_times, [(owner, session_id)])
        if not found:
            inherited = await self.find_owner(owner)
            return SessionExpiry(None, self.expires_after if inherited is None else inherited, None)
        ((_, times),) = found.items()
        return self._expiry_of(times)

    async def find_owner(self, owner: str) -> Setting | None:
        """See `ExpiryStore.find_owner`."""
        check_keys("-", owner)
        for seconds in await self._read(expiry.find_owner_expiry, owner):
            return setting_of(seconds)
        return None

    async def described(self, found: Sequence[SessionInfo]) -> list[SessionInfo]:
        """Return the descriptions with the times when the sessions expire."""
        if not found:
            return []
        keys = [(each.owner, each.id) for each in found]
        times = await self._read(expiry.find_times, keys)
        return [
            replace(each, expires_at=self._expiry_of(times[key]).expires_at)
            if key in times
            else each
            for key, each in zip(keys, found, strict=True)
        ]

    async def prepare(self) -> None:
        """Make the tables, if that was not done yet; a write of the store needs them."""
        await self._read(require_tables)

    async def sweep(self, interval: float, is_stopped: Callable[[], bool] = lambda: False) -> Sweep:
        """See `ExpiryStore.sweep`; sets of up to 1,000 messages in short transactions."""
        try:
            fence = await self._write(expiry.acquire_sweep, LEASE)
        except SweepBusy as busy:
            return Sweep(again=busy.seconds, swept=False)
        began = time.monotonic()
        sweep = _Removals(self._write, fence, seconds_of(self.expires_after), is_stopped)
        rest = LEASE
        try:
            await self._sweep(sweep)
            rest = max(began + interval - time.monotonic(), 0.0)
            # Nobody needs to sweep before the next one is due, unless this one was not finished.
            await self._write(expiry.extend_sweep, fence, 0.0 if is_stopped() else rest * 0.9)
        except SweepLost:
            pass  # whoever has the lease goes on
        except Exception:
            with suppress(HermesSessionError):
                await self._write(expiry.extend_sweep, fence, 0.0)
            raise
        counts = sweep.counts
        return Sweep(counts.sessions, counts.messages, counts.ids, again=rest)

    async def remove_expired(
        self, owner: str | None, advance: Callable[[int], None]
    ) -> PruneCounts:
        """Remove what has expired, of one owner or of all, beside any sweeper; return the counts.

        All sessions are read for it. ``advance`` gets each portion's size.
        """
        removed, last, seconds = PruneCounts(), START, seconds_of(self.expires_after)
        while True:
            found = await self._read(expiry.find_expired, seconds, owner, last)
            for portion in portions(found, PORTION):
                gone = await self._write(expiry.remove_expired, portion, seconds, None)
                removed += counts_of(gone)
                advance(len(portion))
            if len(found) < BATCH:
                return removed
            last = found[-1][:2]

    async def count_expired(self, owner: str | None) -> PruneCounts:
        """Count what `remove_expired` would remove."""
        return await self._read(expiry.count_expired, seconds_of(self.expires_after), owner)

    async def _sweep(self, sweep: "_Removals") -> None:
        now = time.monotonic()
        is_whole = now >= self._whole_at
        await self._sweep_due(sweep)
        await self._sweep_owners(sweep)
        await self._sweep_inheriting(sweep, is_whole=is_whole)
        if is_whole and not sweep.is_stopped():
            await self._write(expiry.drop_orphans)
            self._whole_at = now + _WHOLE

    async def _sweep_due(self, sweep: "_Removals") -> None:
        """Remove sessions by settings of their own."""
        while not sweep.is_stopped():
            found = await self._read(expiry.find_due)
            gone = await sweep.remove([each.session for each in found if each.is_expired])
            left = [each for each in found if each.session not in gone]
            if left:
                await self._write(expiry.reschedule, left)
            if len(found) < BATCH:
                return

    async def _sweep_owners(self, sweep: "_Removals") -> None:
        """Remove sessions by their owners' settings."""
        after: str | None = None
        while not sweep.is_stopped():
            found = await self._read(expiry.find_owners, after)
            for owner, before, any_expired in found:
                if any_expired:
                    await self._sweep_changed(sweep, before, _FIRST, owner)
            if len(found) < expiry.OWNERS:
                return
            after = found[-1][0]

    async def _sweep_inheriting(self, sweep: "_Removals", *, is_whole: bool) -> None:
        """Remove sessions by the store's setting."""
        if not isinstance(self.expires_after, timedelta):
            return
        cutoff = await self._read(expiry.now_of)
        cutoff -= int(self.expires_after / timedelta(microseconds=1))
        since = 0 if is_whole else self._swept_to
        await self._sweep_changed(sweep, cutoff, max(since - _EARLIER, _FIRST), None)
        if not sweep.is_stopped():
            self._swept_to = cutoff

    async def _sweep_changed(
        self, sweep: "_Removals", before: int, since: int, owner: str | None
    ) -> None:
        """Remove the sessions without a setting that were changed within a time."""
        kept = 0
        while not sweep.is_stopped():
            found = await self._read(expiry.find_changed_before, before, since, kept, owner)
            gone = await sweep.remove([session for session, _ in found])
            if len(found) < BATCH:
                return
            last = found[-1][1]
            # What stays comes again, if it was changed at the time from which the next are found.
            kept = kept if last == since else 0
            kept += sum(changed == last and session not in gone for session, changed in found)
            since = last

    def _expiry_of(self, times: Times) -> SessionExpiry:
        inherited = setting_of(times.owners) if times.has_owners else self.expires_after
        own = setting_of(times.own) if times.has_own else None
        found = SessionExpiry(own, inherited, None)
        return replace(found, expires_at=expires_at(time_of(times.changed), found.expires_after))

    async def _read(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(lambda database: work(database, *args, **kwargs), writes=False)

    async def _write(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(lambda database: work(database, *args, **kwargs), writes=True)

    async def _run(self, work: Callable[[Database], T], *, writes: bool) -> T:
        """Run ``work``; the first time over an engine the tables are made before."""
        try:
            return await self._retrying.run(work, writes=writes)
        except ExpiryTablesUnknown:
            make = partial(make_tables, creates=self._creates)
            await self._retrying.run(make, writes=True)
        return await self._retrying.run(work, writes=writes)


class _Removals:
    """What one sweep removes, in portions, while it has its lease.

    Attributes:
        counts: what it has removed.
    """

    def __init__(
        self,
        write: Callable[..., Awaitable[Any]],
        fence: int,
        default: int | None,
        is_stopped: Callable[[], bool],
    ) -> None:
        self.counts = PruneCounts()
        self.is_stopped: Callable[[], bool] = is_stopped
        self._write, self._fence, self._default = write, fence, default
        self._extend_at = time.monotonic() + LEASE / 3

    async def remove(self, found: Sequence[StaleSession]) -> Collection[StaleSession]:
        """Remove those that have expired, and return them."""
        gone: set[StaleSession] = set()
        for portion in portions(found, PORTION):
            if self.is_stopped():
                break
            if time.monotonic() >= self._extend_at:
                await self._write(expiry.extend_sweep, self._fence, LEASE)
                self._extend_at = time.monotonic() + LEASE / 3
            removed = await self._write(expiry.remove_expired, portion, self._default, self._fence)
            self.counts += counts_of(removed)
            gone.update(removed)
        return gone
