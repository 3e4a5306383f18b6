"""What is kept of a session in memory, and how it is changed: as a whole, under a lock."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import SessionConflict, SessionDeleted, TurnLost
from hermes_session_mw.messages import Message, encode_messages
from hermes_session_mw.stores.models import Reason

T = TypeVar("T")
Key = tuple[str, str]
"""An owner, and a session's id or another name."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message of the history."""

    turn_id: str
    body: str


@dataclass(frozen=True, slots=True)
class ArchivedRow:
    """A message that was in the history under the number ``seq``."""

    seq: int
    row: Row
    reason: Reason
    at: datetime


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session; replaced as a whole, so that who reads it sees a whole turn or nothing of it.

    The history's messages are numbered from ``first``, which is not 0 once it was compacted.
    """

    rows: list[Row] = field(default_factory=list)
    first: int = 0
    turns: int = 0
    archive: list[ArchivedRow] = field(default_factory=list)
    title: str | None = None
    parent_id: str | None = None
    created_at: float = field(default_factory=time.time)
    used_at: float = field(default_factory=time.time)
    fence: int = 0
    leased_until: float = float("-inf")
    deleted: bool = False

    @property
    def exists(self) -> bool:
        """Whether anything was ever stored in it; a lease alone is nothing."""
        return self.turns > 0

    @property
    def end(self) -> int:
        """The number that the next message gets."""
        return self.first + len(self.rows)

    def turn(self, turn_id: str) -> list[tuple[int, str]]:
        """Return the numbers and texts of a turn's messages, in the history and out of it."""
        rows = [*enumerate(self.rows, self.first), *((old.seq, old.row) for old in self.archive)]
        return sorted((number, row.body) for number, row in rows if row.turn_id == turn_id)

    def archived(self, start: int, stop: int, reason: Reason) -> list[ArchivedRow]:
        """Return the archive with ``rows[start:stop]`` added."""
        now = datetime.now(UTC)
        rows = enumerate(self.rows[start:stop], self.first + start)
        return [*self.archive, *(ArchivedRow(seq, row, reason, now) for seq, row in rows)]


class KeptSessions:
    """The sessions of one store, and the keys that lead to them; safe between threads."""

    def __init__(self, max_message_bytes: int, max_turn_messages: int, max_turns: int) -> None:
        self.max_message_bytes = max_message_bytes
        self.max_turn_messages = max_turn_messages
        self._max_turns = max_turns
        self._sessions: dict[Key, SessionRecord] = {}
        self._keys: dict[Key, str] = {}
        self._bound_at: dict[Key, float] = {}
        # No number of a turn that a removed session had is greater.
        self._floor = 0
        self._lock = threading.Lock()

    def _encode(self, messages: Sequence[Message]) -> list[str]:
        return encode_messages(messages, self.max_message_bytes, self.max_turn_messages)

    async def _look(self, session_id: str, owner: str) -> SessionRecord:
        await checkpoint()
        return self._sessions.get((owner, session_id), SessionRecord())

    async def _change(
        self,
        session_id: str,
        owner: str,
        change: Callable[[SessionRecord], tuple[SessionRecord, T]],
        fence: int | None = None,
    ) -> T:
        """Put what ``change`` makes of the session in its place."""
        await checkpoint()
        with self._lock:
            kept = self._sessions.get((owner, session_id), SessionRecord())
            if kept.deleted:
                raise SessionDeleted
            if fence is not None and fence != kept.fence:
                raise TurnLost
            changed, value = change(kept)
            if changed is not kept:
                self._sessions[owner, session_id] = changed
            return value

    def _unused(self, session_id: str, owner: str) -> SessionRecord:
        """Return what there is under an id that nothing is, or was, stored under: a lease."""
        kept = self._sessions.get((owner, session_id), SessionRecord())
        if kept.exists or kept.deleted:
            raise SessionConflict(0, len(kept.rows))
        return kept

    def _next_fence(self, *kept: SessionRecord) -> int:
        return max(self._floor, *(each.fence for each in kept)) + 1

    def _bind(self, key: Key, session_id: str) -> None:
        self._keys[key] = session_id
        self._bound_at[key] = time.time()

    def _lead_keys(self, owner: str, session_id: str, to: str | None) -> None:
        """Let the keys that lead to a session lead to another, or nowhere."""
        for key, leads_to in list(self._keys.items()):
            if key[0] == owner and leads_to == session_id:
                if to is None:
                    del self._keys[key]
                else:
                    self._bind(key, to)
