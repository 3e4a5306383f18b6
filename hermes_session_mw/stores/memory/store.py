"""The store contract without a database, for tests."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import SessionConflict, SessionFull
from hermes_session_mw.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TURN_MESSAGES,
    Message,
    decode_messages,
)
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.memory.edits import Edits
from hermes_session_mw.stores.memory.kept import Row, SessionRecord
from hermes_session_mw.stores.memory.threads import Threads
from hermes_session_mw.stores.models import MAX_TURNS
from hermes_session_mw.stores.validation import (
    check_age,
    check_count,
    check_int,
    check_keys,
    check_replaced,
    length_after_repeat,
)


class MemoryStore(Edits, Threads):
    """Keeps conversations in this process, and loses them with it; safe between threads.

    It is a `LifecycleStore`. Messages pass through JSON as they would on their way to a database,
    so that what a test sees is what a real store would give. ``aclose()`` keeps them. The limits
    are `SQLAlchemyStore`'s.

    Attributes:
        max_message_bytes: bytes of UTF-8 that one message may take as JSON.
        max_turn_messages: messages that one turn may have.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_turn_messages: int = MAX_TURN_MESSAGES,
        max_turns: int = MAX_TURNS,
    ) -> None:
        super().__init__(max_message_bytes, max_turn_messages, max_turns)

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`."""
        check_keys(session_id, owner)
        check_count("limit", limit)
        kept = await self._look(session_id, owner)
        rows = kept.rows
        start = 0 if limit is None else max(len(rows) - limit, 0)
        messages = decode_messages([row.body for row in rows[start:]])
        return History(messages, len(rows), exists=kept.exists, deleted=kept.deleted)

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
        *,
        fence: int | None = None,
        replace_from: int | None = None,
    ) -> int:
        """See `Store.append`, and `LifecycleStore.append`."""
        check_keys(session_id, owner, turn_id)
        check_int("expected_length", expected_length)
        check_count("replace_from", replace_from)
        bodies = self._encode(messages)

        def change(kept: SessionRecord) -> tuple[SessionRecord, int]:
            stored = [] if turn_id is None else kept.turn(turn_id)
            if stored:
                return kept, length_after_repeat(stored, bodies, kept.first, kept.end)
            before = len(kept.rows)
            if expected_length is not None and expected_length != before:
                raise SessionConflict(expected_length, before)
            keep = before if replace_from is None else replace_from
            check_replaced(keep, before)
            name = turn_id or secrets.token_hex(16)
            rows = [*kept.rows[:keep], *(Row(name, body) for body in bodies)]
            # A full history may be replaced by one that is no longer.
            if kept.turns >= self._max_turns and len(rows) > before:
                raise SessionFull(self._max_turns)
            archive = kept.archived(keep, before, "replace") if keep < before else kept.archive
            turns, now = kept.turns + 1, time.time()
            grown = replace(kept, rows=rows, archive=archive, turns=turns, used_at=now)
            return grown, len(rows)

        return await self._change(session_id, owner, change, fence)

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse what ``append`` would refuse for itself; the database is not asked.

        Raises:
            InvalidMessage: there is no message, or one cannot be stored as it is.
            MessageTooLarge: one takes more bytes than ``max_message_bytes``.
            TurnTooLong: there are more than ``max_turn_messages``.
        """
        self._encode(messages)

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """See `SQLAlchemyStore.delete`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            kept = self._sessions.get((owner, session_id), SessionRecord())
            if not kept.exists:
                return False
            gone = SessionRecord(deleted=True, used_at=time.time(), fence=kept.fence)
            self._sessions[owner, session_id] = gone
            self._lead_keys(owner, session_id, None)
            return True

    async def prune(self, older_than: timedelta) -> int:
        """See `SQLAlchemyStore.prune`."""
        check_age(older_than)
        await checkpoint()
        with self._lock:
            oldest, now = time.time() - older_than.total_seconds(), time.monotonic()
            expired = [
                key
                for key, each in self._sessions.items()
                if each.used_at < oldest and each.leased_until <= now
            ]
            for owner, session_id in expired:
                removed = self._sessions.pop((owner, session_id))
                self._floor = max(self._floor, removed.fence)
                self._lead_keys(owner, session_id, None)
            for key, leads_to in list(self._keys.items()):
                if self._bound_at[key] < oldest and (key[0], leads_to) not in self._sessions:
                    del self._keys[key]
            return len(expired)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryStore ({len(self._sessions)} sessions)>"
