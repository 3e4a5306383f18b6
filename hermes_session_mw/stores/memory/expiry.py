"""The expiry of a `MemoryStore`'s sessions, which makes this when ``store.expiry`` is used.

Times are those of the process's own clock.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from anyio.lowlevel import checkpoint

from hermes_session_mw.stores.expiry import (
    NEVER,
    SessionExpiry,
    Setting,
    Sweep,
    expires_at,
    rounded,
)
from hermes_session_mw.stores.memory.records import SessionRecord
from hermes_session_mw.stores.validation import check_keys


@dataclass(slots=True)
class MemoryExpiry:
    """An `ExpiryStore` in the store's memory; get it as ``store.expiry``.

    ``owners`` has the owners' settings, ``find`` returns a session's record, ``change`` replaces
    it, and ``remove`` removes and returns those that a function of owner and record chooses.
    """

    expires_after: Setting
    owners: dict[str, Setting]
    find_record: Callable[[str, str], SessionRecord | None]
    change: Callable[..., Awaitable[Any]]
    remove: Callable[[Callable[[str, SessionRecord], bool]], Sequence[SessionRecord]]

    async def set(self, session_id: str, expires_after: Setting | None, owner: str = "") -> None:
        """See `ExpiryStore.set`."""
        check_keys(session_id, owner)
        own = None if expires_after is None else rounded(expires_after)
        if own is None and self.find_record(session_id, owner) is None:
            await checkpoint()
            return

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            return replace(record, expires_after=own), None

        await self.change(session_id, owner, change)

    async def set_owner(self, owner: str, expires_after: Setting | None) -> None:
        """See `ExpiryStore.set_owner`."""
        check_keys("-", owner)
        setting = None if expires_after is None else rounded(expires_after)
        await checkpoint()
        if setting is None:
            self.owners.pop(owner, None)
        else:
            self.owners[owner] = setting

    async def find(self, session_id: str, owner: str = "") -> SessionExpiry:
        """See `ExpiryStore.find`."""
        check_keys(session_id, owner)
        await checkpoint()
        record = self.find_record(session_id, owner)
        inherited = self.owners.get(owner, self.expires_after)
        if record is None:
            return SessionExpiry(None, inherited, None)
        return SessionExpiry(record.expires_after, inherited, self.time_of(owner, record))

    async def find_owner(self, owner: str) -> Setting | None:
        """See `ExpiryStore.find_owner`."""
        check_keys("-", owner)
        await checkpoint()
        return self.owners.get(owner)

    async def sweep(
        self,
        interval: float,
        is_stopped: Callable[[], bool] = lambda: False,  # noqa: ARG002  # it is short
    ) -> Sweep:
        """See `ExpiryStore.sweep`; nobody else sweeps this store."""
        await checkpoint()
        removed = self.remove(self.is_expired)
        stored = [each for each in removed if each.exists]
        messages = sum(len(each.rows) + len(each.archive) for each in stored)
        return Sweep(len(stored), messages, len(removed) - len(stored), again=interval)

    def is_expired(self, owner: str, record: SessionRecord) -> bool:
        """Tell whether a session has expired."""
        setting = self._setting_of(owner, record)
        return setting is not NEVER and (record.updated_at + setting.total_seconds() <= time.time())

    def time_of(self, owner: str, record: SessionRecord) -> datetime | None:
        """Return when a session expires; None for never."""
        changed = datetime.fromtimestamp(record.updated_at, UTC)
        return expires_at(changed, self._setting_of(owner, record))

    def _setting_of(self, owner: str, record: SessionRecord) -> Setting:
        if record.expires_after is not None:
            return record.expires_after
        # As in a database, ids of deleted sessions go by the store's.
        return self.expires_after if record.deleted else self.owners.get(owner, self.expires_after)
