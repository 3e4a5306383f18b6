"""The store contract without a database, for tests."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from anyio.lowlevel import checkpoint

from ..exceptions import SessionConflict
from ..messages import MAX_MESSAGE_BYTES, Message, decode_messages, encode_messages
from .base import History, check_keys, check_limit, length_after_repeat


@dataclass(frozen=True, slots=True)
class _Row:
    turn_id: str | None
    body: str


class MemoryStore:
    """Keeps conversations in this process, and loses them with it; safe between threads.

    Messages pass through JSON as they would on their way to a database, so that what a test sees
    is what a real store would give. ``aclose()`` keeps them.
    """

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._sessions: dict[tuple[str, str], list[_Row]] = {}
        self._lock = threading.Lock()

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`."""
        check_keys(session_id, owner)
        check_limit(limit)
        await checkpoint()
        rows = self._sessions.get((owner, session_id), [])
        start = 0 if limit is None else max(len(rows) - limit, 0)
        bodies = [row.body for row in rows[start:]]
        return History(decode_messages(bodies), len(rows), exists=bool(rows))

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
        bodies = encode_messages(messages, self._max_message_bytes)
        await checkpoint()
        with self._lock:
            rows = self._sessions.get((owner, session_id), [])
            stored = [
                (seq, row.body)
                for seq, row in enumerate(rows)
                if turn_id is not None and row.turn_id == turn_id
            ]
            if stored:
                return length_after_repeat(stored, bodies)
            if expected_length is not None and expected_length != len(rows):
                raise SessionConflict(expected_length, len(rows))
            added = [_Row(turn_id, body) for body in bodies]
            # A new list, so that a load in another thread sees the whole turn or nothing of it.
            self._sessions[owner, session_id] = [*rows, *added]
            return len(rows) + len(added)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryStore ({len(self._sessions)} sessions)>"
