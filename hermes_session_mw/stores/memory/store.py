"""A store in the process's own memory, for tests, for examples and to try things out.

A session is one immutable record, which every change replaces as a whole, under a lock. So a reader
never sees a part of a turn.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import (
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionNotFound,
    TurnLost,
)
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TURN_MESSAGES,
)
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.memory.answers import Answer
from hermes_session_mw.stores.memory.histories import MemoryHistories, metadata_of
from hermes_session_mw.stores.memory.records import Key, Row, SessionRecord
from hermes_session_mw.stores.models import (
    MAX_TURNS,
    PAGE,
    SessionInfo,
    SessionPage,
)
from hermes_session_mw.stores.pagination import (
    decode_cursor,
    decode_owned_cursor,
    list_order,
    owned_list_order,
    owned_page_of,
    page_of,
)
from hermes_session_mw.stores.validation import (
    check_age,
    check_count,
    check_key,
    check_keys,
    check_lease,
    check_page,
    check_prefix,
    check_title,
)

if TYPE_CHECKING:
    from hermes_session_mw.stores.checkpoint_store import CheckpointStore


class MemoryStore(MemoryHistories):
    """An `AnswerStore` and `MessageStore` that keeps conversations in this process, until it ends.

    Threads may share it. Messages are stored as JSON, as in a database, so that a test gets the
    same values as from a real store. ``aclose()`` keeps them. The limits are `SQLAlchemyStore`'s.

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
        self.max_message_bytes = max_message_bytes
        self.max_turn_messages = max_turn_messages
        self._max_turns = max_turns
        self._sessions: dict[Key, SessionRecord] = {}
        self._keys: dict[Key, str] = {}
        self._bound_at: dict[Key, float] = {}
        # The greatest fence of any session that was pruned.
        self._fence_floor = 0
        self._lock = threading.Lock()
        self._answers: dict[Key, Answer] = {}

    @cached_property
    def checkpoints(self) -> "CheckpointStore":
        """The sessions' checkpoints."""
        from hermes_session_mw.stores.memory.checkpoints import (  # noqa: PLC0415  # few keep any
            MemoryCheckpoints,
        )

        def records(of_owner: str) -> dict[str, SessionRecord]:
            with self._lock:
                return {
                    id_: each for (owner, id_), each in self._sessions.items() if owner == of_owner
                }

        return MemoryCheckpoints(records, self._change, self._encode, self._max_turns)

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """See `SQLAlchemyStore.delete`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            record = self._record(session_id, owner)
            if not record.is_used and record.answer_id is None:
                self._drop_answers(owner, session_id)
                return False
            gone = SessionRecord(deleted=True, updated_at=time.time(), fence=record.fence)
            self._sessions[owner, session_id] = gone
            self._drop_answers(owner, session_id)
            self._repoint_keys(owner, session_id, None)
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
                if each.updated_at < oldest and each.leased_until <= now
            ]
            for owner, session_id in expired:
                removed = self._sessions.pop((owner, session_id))
                self._fence_floor = max(self._fence_floor, removed.fence)
                self._drop_answers(owner, session_id)
                self._repoint_keys(owner, session_id, None)
            for key, leads_to in list(self._keys.items()):
                if self._bound_at[key] < oldest and (key[0], leads_to) not in self._sessions:
                    del self._keys[key]
            return len(expired)

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """See `LifecycleStore.fork`."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        check_count("length", length)
        parent = await self._get(session_id, owner)
        if not parent.exists:
            raise SessionNotFound
        turn_id = mint_turn_id()
        rows = [replace(row, turn_id=turn_id) for row in parent.rows[:length]]
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
        await checkpoint()
        with self._lock:
            unused = self._unused(new_id, to)
            self._fold(session_id, owner)
            self._repoint_keys(owner, session_id, new_id if to == owner else None)
            record = self._record(session_id, owner)
            if not record.is_used:
                return False
            fence = self._next_fence(record, unused)
            self._sessions[to, new_id] = replace(record, fence=fence, leased_until=float("-inf"))
            self._sessions[owner, session_id] = SessionRecord(deleted=True, fence=record.fence)
            self._move_answers(owner, session_id, to, new_id)
            return True

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """See `LifecycleStore.acquire`."""
        check_keys(session_id, owner)
        check_lease(seconds)

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            now = time.monotonic()
            if record.leased_until > now:
                raise SessionBusy(record.leased_until - now)
            fence = self._next_fence(record)
            return replace(record, fence=fence, leased_until=now + seconds), fence

        return await self._change(session_id, owner, change)

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """See `LifecycleStore.extend`."""
        check_keys(session_id, owner)
        check_lease(seconds)

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            return replace(record, leased_until=time.monotonic() + seconds), None

        try:
            await self._change(session_id, owner, change, fence, folds=False)
        except SessionDeleted:
            raise TurnLost from None

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """See `LifecycleStore.release`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            record = self._record(session_id, owner)
            if record.fence == fence and not record.deleted:
                self._sessions[owner, session_id] = replace(record, leased_until=float("-inf"))

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None, *, prefix: str = ""
    ) -> SessionPage:
        """See `LifecycleStore.list`, and `MessageStore.list`."""
        check_keys("-", owner)
        check_page(limit)
        check_prefix(prefix)
        after = decode_cursor(cursor)
        sessions = [each for each in await self._infos(prefix) if each.owner == owner]
        start = (-after.changed, after.session_id)
        found = [each for each in sorted(sessions, key=list_order) if list_order(each) > start]
        return page_of(found, limit)

    async def list_all(
        self, limit: int = PAGE, cursor: str | None = None, *, prefix: str = ""
    ) -> SessionPage:
        """See `MessageStore.list_all`."""
        check_page(limit)
        check_prefix(prefix)
        after = decode_owned_cursor(cursor)
        sessions = sorted(await self._infos(prefix), key=owned_list_order)
        start = (-after.changed, after.owner, after.session_id)
        return owned_page_of([each for each in sessions if owned_list_order(each) > start], limit)

    async def info(self, session_id: str, owner: str = "") -> SessionInfo | None:
        """See `LifecycleStore.info`."""
        check_keys(session_id, owner)
        record = await self._get(session_id, owner)
        return _info(owner, session_id, record) if record.exists else None

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """See `LifecycleStore.rename`."""
        check_keys(session_id, owner)
        check_title(title)
        await checkpoint()
        with self._lock:
            self._fold_expired(session_id, owner)
            record = self._record(session_id, owner)
            if record.exists:
                self._sessions[owner, session_id] = replace(record, title=title)
            return record.exists

    async def export(self, session_id: str, owner: str = "") -> str:
        """See `LifecycleStore.export`."""
        check_keys(session_id, owner)
        record = await self._get(session_id, owner)
        if not record.exists:
            raise SessionNotFound
        rows = ((row.turn_id, row.body) for row in record.rows)
        return jsonl.dump(_info(owner, session_id, record), rows, metadata_of(record))

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """See `LifecycleStore.import_`."""
        session = jsonl.parse(lines, self.max_message_bytes)
        new_id = session.session_id if session_id is None else session_id
        check_keys(new_id, owner)
        if session.turns > self._max_turns:
            raise SessionFull(self._max_turns)
        await checkpoint()
        with self._lock:
            fence, now = self._unused(new_id, owner).fence, datetime.now(UTC)
            self._sessions[owner, new_id] = SessionRecord(
                [Row(turn_id, body, now) for turn_id, body in session.rows],
                turns=session.turns,
                title=session.title,
                metadata=session.metadata,
                created_at=session.created_at.timestamp(),
                updated_at=time.time(),
                fence=fence,
            )
        return new_id

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """See `LifecycleStore.bind_key`."""
        check_key(key, owner)
        check_keys(new_id, owner)
        await checkpoint()
        with self._lock:
            if (owner, key) not in self._keys:
                self._bind_key((owner, key), new_id)
            return self._keys[owner, key]

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """See `LifecycleStore.move_key`."""
        check_key(key, owner)
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            self._bind_key((owner, key), session_id)

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """See `LifecycleStore.find_key`."""
        check_key(key, owner)
        await checkpoint()
        return self._keys.get((owner, key))

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """See `LifecycleStore.drop_key`."""
        check_key(key, owner)
        await checkpoint()
        with self._lock:
            return self._keys.pop((owner, key), None) is not None

    async def aclose(self) -> None:
        """Do nothing: no connection is held."""

    def __repr__(self) -> str:
        return f"<MemoryStore ({len(self._sessions)} sessions)>"

    async def _infos(self, prefix: str) -> Sequence[SessionInfo]:
        """Return the sessions whose id begins with ``prefix``."""
        await checkpoint()
        with self._lock:
            return [
                _info(owner, session_id, record)
                for (owner, session_id), record in self._sessions.items()
                if record.exists and session_id.startswith(prefix)
            ]

    def _unused(self, session_id: str, owner: str) -> SessionRecord:
        """Return the record of an id that was never used, or raise ``SessionConflict``."""
        self._fold_expired(session_id, owner)
        record = self._record(session_id, owner)
        if record.is_used or record.deleted or record.answer_id is not None:
            raise SessionConflict(0, len(record.rows))
        return record

    def _bind_key(self, key: Key, session_id: str) -> None:
        self._keys[key] = session_id
        self._bound_at[key] = time.time()

    def _repoint_keys(self, owner: str, session_id: str, to: str | None) -> None:
        """Point the keys of a session to another one; drop them where ``to`` is None."""
        for key, leads_to in list(self._keys.items()):
            if key[0] == owner and leads_to == session_id:
                if to is None:
                    del self._keys[key]
                else:
                    self._bind_key(key, to)


def _info(owner: str, session_id: str, record: SessionRecord) -> SessionInfo:
    created, updated = (
        datetime.fromtimestamp(at, UTC) for at in (record.created_at, record.updated_at)
    )
    return SessionInfo(
        session_id, record.title, len(record.rows), created, updated, record.parent_id, owner
    )
