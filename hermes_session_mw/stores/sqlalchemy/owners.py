"""The part of `SQLAlchemyStore` that hands out and erases all that an owner has."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import anyio

from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import SessionNotFound, StoreUnavailable
from hermes_session_mw.stores.owner_store import ErasureReceipt, check_erased
from hermes_session_mw.stores.sqlalchemy.statements import erase_owner
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    PORTION,
    StaleSession,
    cutoff_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import portions
from hermes_session_mw.stores.validation import check_keys

_WHOLE_FILE = 3600.0
"""Seconds that it may take to write a SQLite file anew."""

_PASSES = 20
"""How often sessions are looked for that were moved or copied meanwhile."""

_PAUSE = 0.1
"""Seconds between two of these, after the first."""


class SQLAlchemyOwners:
    """The methods of `OwnerStore`."""

    _retrying: RetryingExecutor
    export: Callable[..., Any]

    async def export_owner(self, owner: str) -> AsyncIterator[str]:
        """See `OwnerStore.export_owner`."""
        check_keys("-", owner)
        last = ""
        while found := await self._retrying.read(erase_owner.find, owner, last):
            for each in found:
                if each.is_stored:
                    try:
                        lines: str = await self.export(each.session_id, owner)
                    except SessionNotFound:
                        continue  # deleted meanwhile
                    yield lines
            last = found[-1].session_id

    async def erase_owner(
        self, owner: str, *, ownerless: bool = False, vacuum: bool = True
    ) -> ErasureReceipt:
        """See `OwnerStore.erase_owner`; up to 1,000 messages go in one short transaction.

        On SQLite what is removed is overwritten with zeros, the file is written anew (``VACUUM``)
        without what its unused parts have, and the WAL is emptied. Others cannot write meanwhile,
        about a second for each 100 MB, and the disk needs twice the file's size. With ``vacuum``
        false the file is left as it is: copies of what was rewritten or moved before may stay in
        it until a ``VACUUM``.

        Raises:
            StoreUnavailable: also if somebody reads a SQLite file for so long that its WAL cannot
                be emptied; and if somebody moves or copies the owner's sessions all the time.
        """
        check_erased(owner, ownerless=ownerless)
        began = await self._retrying.read(cutoff_of, timedelta(0))
        found, receipt = await self._erase_found(owner, None)
        passes = 0
        while found:
            if passes == _PASSES:
                raise StoreUnavailable("others move or copy the owner's sessions: try again")
            if passes > 1:
                # New sessions look as old as the erasure where times have whole seconds.
                await anyio.sleep(_PAUSE)
            found, more = await self._erase_found(owner, began)
            receipt += more
            passes += 1
        keys = await self._retrying.write(erase_owner.drop_keys, owner)
        patient = self._retrying.within(_WHOLE_FILE)
        await patient.write(erase_owner.merge_search_index)
        if vacuum:
            await patient.write(erase_owner.vacuum)
        await patient.write(erase_owner.empty_wal)
        return dataclasses.replace(receipt, keys=receipt.keys + keys)

    async def _erase_found(self, owner: str, began: float | None) -> tuple[int, ErasureReceipt]:
        """Erase what `erase_owner.find` finds; return how many rows, and the counts."""
        receipt, count, last = ErasureReceipt(), 0, ""
        while found := await self._retrying.read(erase_owner.find, owner, last, began):
            for portion in portions(found, PORTION):
                is_large = portion[0].length > PORTION
                if is_large:
                    receipt += await self._empty(portion[0])
                left = portion
                while left:
                    counts, left = await self._retrying.write(
                        erase_owner.erase, left, is_closed=is_large and portion[0].is_stored
                    )
                    receipt += counts
            count, last = count + len(found), found[-1].session_id
        return count, receipt

    async def _empty(self, session: StaleSession) -> ErasureReceipt:
        """Delete a session, and remove in slices what it has many of."""
        receipt, left = ErasureReceipt(), [session]
        while left:
            left = await self._retrying.write(erase_owner.close, left[0])
        for kind in erase_owner.KINDS:
            counts, after = await self._retrying.write(erase_owner.empty, session, kind, None)
            receipt += counts
            while after is not None:
                counts, after = await self._retrying.write(erase_owner.empty, session, kind, after)
                receipt += counts
        return receipt
