"""Conversations in memory that are edited, branched, and taken in turns."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from hermes_session_mw.exceptions import (
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionNotFound,
    TurnLost,
)
from hermes_session_mw.messages import Message, decode_messages
from hermes_session_mw.stores.memory.kept import KeptSessions, Row, SessionRecord
from hermes_session_mw.stores.models import ArchivedMessage, StoredTurn
from hermes_session_mw.stores.validation import (
    check_count,
    check_keys,
    check_lease,
    encode_replaced,
    is_same,
)


class Edits(KeptSessions):
    """The part of a `LifecycleStore` that changes a conversation's course."""

    async def rewind(
        self, session_id: str, length: int, owner: str = "", *, fence: int | None = None
    ) -> int:
        """See `LifecycleStore.rewind`."""
        check_keys(session_id, owner)
        check_count("length", length)

        def change(kept: SessionRecord) -> tuple[SessionRecord, int]:
            if length >= len(kept.rows):
                return kept, len(kept.rows)
            archive = kept.archived(length, len(kept.rows), "rewind")
            rows = kept.rows[:length]
            return replace(kept, rows=rows, archive=archive, used_at=time.time()), length

        return await self._change(session_id, owner, change, fence)

    async def compact(
        self,
        session_id: str,
        replaced: Sequence[Message],
        summary: Sequence[Message],
        owner: str = "",
        *,
        skipped: int = 0,
        fence: int | None = None,
    ) -> int:
        """See `LifecycleStore.compact`."""
        check_keys(session_id, owner)
        check_count("skipped", skipped)
        bodies = self._encode(summary)
        seen = encode_replaced(replaced, skipped, self.max_message_bytes)
        cut = skipped + len(seen)

        def change(kept: SessionRecord) -> tuple[SessionRecord, int]:
            standing = [row.body for row in kept.rows[skipped:cut]]
            if len(kept.rows) < cut or not is_same(standing, seen):
                raise SessionConflict(cut, len(kept.rows))
            turn_id = secrets.token_hex(16)
            rows = [*(Row(turn_id, body) for body in bodies), *kept.rows[cut:]]
            compacted = replace(
                kept,
                rows=rows,
                first=kept.first + cut - len(bodies),
                archive=kept.archived(0, cut, "compact"),
                used_at=time.time(),
            )
            return compacted, len(rows)

        return await self._change(session_id, owner, change, fence)

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """See `LifecycleStore.find_turn`."""
        check_keys(session_id, owner, turn_id)
        kept = await self._look(session_id, owner)
        rows = kept.turn(turn_id)
        if not rows:
            return None
        start = rows[0][0] - kept.first
        is_whole = sum(row.turn_id == turn_id for row in kept.rows) == len(rows)
        messages = decode_messages([body for _, body in rows])
        return StoredTurn(turn_id, messages, start if is_whole else None)

    async def archived(self, session_id: str, owner: str = "") -> list[ArchivedMessage]:
        """See `LifecycleStore.archived`."""
        check_keys(session_id, owner)
        archive = (await self._look(session_id, owner)).archive
        messages = decode_messages([old.row.body for old in archive])
        return [
            ArchivedMessage(message, old.row.turn_id, old.reason, old.at)
            for message, old in zip(messages, archive, strict=True)
        ]

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """See `LifecycleStore.fork`."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        check_count("length", length)
        parent = await self._look(session_id, owner)
        if not parent.exists:
            raise SessionNotFound
        turn_id = secrets.token_hex(16)
        rows = [Row(turn_id, row.body) for row in parent.rows[:length]]
        with self._lock:
            fence = self._unused(new_id, owner).fence
            child = SessionRecord(rows, turns=parent.turns, parent_id=session_id, fence=fence)
            self._sessions[owner, new_id] = child
        return len(rows)

    async def rotate(
        self, session_id: str, new_id: str, owner: str = "", new_owner: str | None = None
    ) -> bool:
        """See `LifecycleStore.rotate`."""
        to = owner if new_owner is None else new_owner
        check_keys(session_id, owner)
        check_keys(new_id, to)
        await self._look(session_id, owner)
        with self._lock:
            unused = self._unused(new_id, to)
            self._lead_keys(owner, session_id, new_id if to == owner else None)
            kept = self._sessions.get((owner, session_id), SessionRecord())
            if not kept.exists:
                return False
            fence = self._next_fence(kept, unused)
            self._sessions[to, new_id] = replace(kept, fence=fence, leased_until=float("-inf"))
            self._sessions[owner, session_id] = SessionRecord(deleted=True, fence=kept.fence)
            return True

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """See `LifecycleStore.acquire`."""
        check_keys(session_id, owner)
        check_lease(seconds)

        def change(kept: SessionRecord) -> tuple[SessionRecord, int]:
            now = time.monotonic()
            if kept.leased_until > now:
                raise SessionBusy(kept.leased_until - now)
            fence = self._next_fence(kept)
            return replace(kept, fence=fence, leased_until=now + seconds), fence

        return await self._change(session_id, owner, change)

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """See `LifecycleStore.extend`."""
        check_keys(session_id, owner)
        check_lease(seconds)

        def change(kept: SessionRecord) -> tuple[SessionRecord, None]:
            return replace(kept, leased_until=time.monotonic() + seconds), None

        try:
            await self._change(session_id, owner, change, fence)
        except SessionDeleted:
            raise TurnLost from None

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """See `LifecycleStore.release`."""
        check_keys(session_id, owner)
        key = owner, session_id
        await self._look(session_id, owner)
        with self._lock:
            kept = self._sessions.get(key, SessionRecord())
            if kept.fence == fence and not kept.deleted:
                self._sessions[key] = replace(kept, leased_until=float("-inf"))
