"""The store contract without a database, for tests."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from anyio.lowlevel import checkpoint

from ..exceptions import SessionConflict, SessionDeleted, SessionFull
from ..messages import (
    MAX_MESSAGE_BYTES,
    MAX_TURN_MESSAGES,
    Message,
    decode_messages,
    encode_messages,
)
from .base import MAX_TURNS, History, check_age, check_keys, check_limit, length_after_repeat


@dataclass(frozen=True, slots=True)
class _Row:
    turn_id: str | None
    body: str


@dataclass(frozen=True, slots=True)
class _Session:
    """Replaced as a whole, so that a load in another thread sees a whole turn or nothing of it."""

    rows: list[_Row] = field(default_factory=list)
    turns: int = 0
    deleted: bool = False
    used_at: float = 0.0


class MemoryStore:
    """Keeps conversations in this process, and loses them with it; safe between threads.

    Messages pass through JSON as they would on their way to a database, so that what a test sees
    is what a real store would give. ``aclose()`` keeps them. The limits are `SQLAlchemyStore`'s.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_turn_messages: int = MAX_TURN_MESSAGES,
        max_turns: int = MAX_TURNS,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._max_turn_messages = max_turn_messages
        self._max_turns = max_turns
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._lock = threading.Lock()

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`."""
        check_keys(session_id, owner)
        check_limit(limit)
        await checkpoint()
        session = self._sessions.get((owner, session_id), _Session())
        rows = session.rows
        start = 0 if limit is None else max(len(rows) - limit, 0)
        messages = decode_messages([row.body for row in rows[start:]])
        return History(messages, len(rows), exists=bool(rows), deleted=session.deleted)

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        """See `Store.append`."""
        check_keys(session_id, owner, turn_id)
        bodies = encode_messages(messages, self._max_message_bytes, self._max_turn_messages)
        await checkpoint()
        with self._lock:
            session = self._sessions.get((owner, session_id), _Session())
            if session.deleted:
                raise SessionDeleted
            rows = session.rows
            stored = [
                (seq, row.body)
                for seq, row in enumerate(rows)
                if turn_id is not None and row.turn_id == turn_id
            ]
            if stored:
                return length_after_repeat(stored, bodies)
            if expected_length is not None and expected_length != len(rows):
                raise SessionConflict(expected_length, len(rows))
            if session.turns >= self._max_turns:
                raise SessionFull(self._max_turns)
            rows = [*rows, *(_Row(turn_id, body) for body in bodies)]
            self._sessions[owner, session_id] = _Session(
                rows, session.turns + 1, used_at=time.time()
            )
            return len(rows)

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """See `SQLAlchemyStore.delete`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            session = self._sessions.get((owner, session_id))
            if session is None or session.deleted:
                return False
            self._sessions[owner, session_id] = _Session(deleted=True, used_at=time.time())
            return True

    async def prune(self, older_than: timedelta) -> int:
        """See `SQLAlchemyStore.prune`."""
        check_age(older_than)
        await checkpoint()
        with self._lock:
            oldest = time.time() - older_than.total_seconds()
            expired = [key for key, each in self._sessions.items() if each.used_at < oldest]
            for key in expired:
                del self._sessions[key]
            return len(expired)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryStore ({len(self._sessions)} sessions)>"
