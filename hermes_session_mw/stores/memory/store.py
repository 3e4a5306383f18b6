"""A store in the process's own memory, for tests, for examples and to try things out.

A session is one immutable record, which every change replaces as a whole, under a lock. So a reader
never sees a part of a turn.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

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
    Message,
    decode_messages,
    encode_messages,
)
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.base import History, takes_encoded
from hermes_session_mw.stores.memory.answers import Answer, MemoryAnswers
from hermes_session_mw.stores.memory.records import Key, Row, SessionRecord, appended
from hermes_session_mw.stores.models import (
    MAX_TURNS,
    PAGE,
    ArchivedMessage,
    SessionInfo,
    SessionPage,
    StoredTurn,
)
from hermes_session_mw.stores.pagination import decode_cursor, list_order, page_of
from hermes_session_mw.stores.validation import (
    check_age,
    check_count,
    check_int,
    check_key,
    check_keys,
    check_lease,
    check_page,
    check_title,
    encode_metadata,
    encode_replaced,
    is_same,
    length_after_repeat,
)

T = TypeVar("T")


class MemoryStore(MemoryAnswers):
    """An `AnswerStore` that keeps conversations in this process, until it ends.

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
        self._encode = partial(
            encode_messages, max_bytes=max_message_bytes, max_messages=max_turn_messages
        )
        self._sessions: dict[Key, SessionRecord] = {}
        self._keys: dict[Key, str] = {}
        self._bound_at: dict[Key, float] = {}
        # The greatest fence of any session that was pruned.
        self._fence_floor = 0
        self._lock = threading.Lock()
        self._answers: dict[Key, Answer] = {}

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`."""
        check_keys(session_id, owner)
        check_count("limit", limit)
        record = await self._get(session_id, owner)
        rows = record.rows
        start = 0 if limit is None else max(len(rows) - limit, 0)
        messages = decode_messages([row.body for row in rows[start:]])
        return History(messages, len(rows), exists=record.exists, deleted=record.deleted)

    @takes_encoded
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

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            stored = [] if turn_id is None else record.turn(turn_id)
            if stored:
                return record, length_after_repeat(stored, bodies, record.first, record.end)
            before = len(record.rows)
            if expected_length is not None and expected_length != before:
                raise SessionConflict(expected_length, before)
            grown = appended(record, bodies, turn_id, replace_from)
            # A history with too many turns may still be replaced by one that is not longer.
            if record.turns >= self._max_turns and len(grown.rows) > before:
                raise SessionFull(self._max_turns)
            return grown, len(grown.rows)

        return await self._change(session_id, owner, change, fence)

    def check(self, messages: Sequence[Message]) -> None:
        """See `SQLAlchemyStore.check`."""
        self._encode(messages)

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

    async def rewind(
        self, session_id: str, length: int, owner: str = "", *, fence: int | None = None
    ) -> int:
        """See `LifecycleStore.rewind`."""
        check_keys(session_id, owner)
        check_count("length", length)

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            if length >= len(record.rows):
                return record, len(record.rows)
            archive = record.archived(length, len(record.rows), "rewind")
            rows = record.rows[:length]
            return replace(record, rows=rows, archive=archive, updated_at=time.time()), length

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

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            standing = [row.body for row in record.rows[skipped:cut]]
            if len(record.rows) < cut or not is_same(standing, seen):
                raise SessionConflict(cut, len(record.rows))
            turn_id = mint_turn_id()
            rows = [*(Row(turn_id, body) for body in bodies), *record.rows[cut:]]
            compacted = replace(
                record,
                rows=rows,
                first=record.first + cut - len(bodies),
                archive=record.archived(0, cut, "compact"),
                updated_at=time.time(),
            )
            return compacted, len(rows)

        return await self._change(session_id, owner, change, fence)

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """See `LifecycleStore.find_turn`."""
        check_keys(session_id, owner, turn_id)
        record = await self._get(session_id, owner)
        rows = record.turn(turn_id)
        if not rows:
            return None
        start = rows[0][0] - record.first
        is_whole = sum(row.turn_id == turn_id for row in record.rows) == len(rows)
        messages = decode_messages([body for _, body in rows])
        return StoredTurn(turn_id, messages, start if is_whole else None)

    async def archived(self, session_id: str, owner: str = "") -> list[ArchivedMessage]:
        """See `LifecycleStore.archived`."""
        check_keys(session_id, owner)
        archive = (await self._get(session_id, owner)).archive
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
        parent = await self._get(session_id, owner)
        if not parent.exists:
            raise SessionNotFound
        turn_id = mint_turn_id()
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
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> SessionPage:
        """See `LifecycleStore.list`."""
        check_keys("-", owner)
        check_page(limit)
        after = decode_cursor(cursor)
        await checkpoint()
        with self._lock:
            sessions = [
                _info(owner, session_id, record)
                for (session_owner, session_id), record in self._sessions.items()
                if session_owner == owner and record.exists
            ]
        start = (-after.changed, after.session_id)
        found = [each for each in sorted(sessions, key=list_order) if list_order(each) > start]
        return page_of(found, limit)

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
        return jsonl.dump(_info(owner, session_id, record), rows, _metadata(record))

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """See `LifecycleStore.import_`."""
        session = jsonl.parse(lines, self.max_message_bytes)
        new_id = session.session_id if session_id is None else session_id
        check_keys(new_id, owner)
        if session.turns > self._max_turns:
            raise SessionFull(self._max_turns)
        await checkpoint()
        with self._lock:
            fence = self._unused(new_id, owner).fence
            self._sessions[owner, new_id] = SessionRecord(
                [Row(turn_id, body) for turn_id, body in session.rows],
                turns=session.turns,
                title=session.title,
                metadata=session.metadata,
                created_at=session.created_at.timestamp(),
                updated_at=time.time(),
                fence=fence,
            )
        return new_id

    async def set_metadata(self, session_id: str, metadata: Message, owner: str = "") -> None:
        """See `LifecycleStore.set_metadata`."""
        check_keys(session_id, owner)
        body = encode_metadata(metadata, self.max_message_bytes)

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            changed = record.updated_at if record.exists else time.time()
            return replace(record, metadata=body, updated_at=changed), None

        await self._change(session_id, owner, change)

    async def find_metadata(self, session_id: str, owner: str = "") -> Message | None:
        """See `LifecycleStore.find_metadata`."""
        check_keys(session_id, owner)
        return _metadata(await self._get(session_id, owner))

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

    async def _get(self, session_id: str, owner: str) -> SessionRecord:
        """Return the record, after a fold if that is needed."""
        await checkpoint()
        with self._lock:
            self._fold_expired(session_id, owner)
            return self._record(session_id, owner)

    async def _change(
        self,
        session_id: str,
        owner: str,
        change: Callable[[SessionRecord], tuple[SessionRecord, T]],
        fence: int | None = None,
        *,
        folds: bool = True,
    ) -> T:
        """Replace the record by ``change``'s first value, and return its second one."""
        await checkpoint()
        with self._lock:
            if folds:
                self._fold_expired(session_id, owner)
            record = self._record(session_id, owner)
            if record.deleted:
                raise SessionDeleted
            if fence is not None and fence != record.fence:
                raise TurnLost
            changed, value = change(record)
            if changed is not record:
                self._sessions[owner, session_id] = changed
            return value

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


def _metadata(record: SessionRecord) -> Message | None:
    return None if record.metadata is None else decode_messages([record.metadata])[0]


def _info(owner: str, session_id: str, record: SessionRecord) -> SessionInfo:
    created, updated = (
        datetime.fromtimestamp(at, UTC) for at in (record.created_at, record.updated_at)
    )
    return SessionInfo(
        session_id, record.title, len(record.rows), created, updated, record.parent_id, owner
    )
