"""The histories of `MemoryStore`: reading, appending and archiving messages, under its lock."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import (
    SessionConflict,
    SessionDeleted,
    SessionFull,
    TurnLost,
)
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import Message, decode_messages, encode_messages
from hermes_session_mw.stores.base import History, takes_encoded
from hermes_session_mw.stores.expiry import Setting
from hermes_session_mw.stores.first_words import first_words_of
from hermes_session_mw.stores.memory.answers import MemoryAnswers
from hermes_session_mw.stores.memory.records import Row, SessionRecord, appended, titled
from hermes_session_mw.stores.message_store import (
    ANY,
    ExpectedMetadata,
    HistoryRange,
    StoredMessage,
)
from hermes_session_mw.stores.models import ArchivedMessage, StoredTurn
from hermes_session_mw.stores.validation import (
    check_count,
    check_int,
    check_keys,
    check_message_id,
    check_message_ids,
    check_metadata,
    check_range,
    check_title,
    encode_expected,
    encode_metadata,
    encode_replaced,
    is_same,
    length_after_repeat,
)

T = TypeVar("T")


class MemoryHistories(MemoryAnswers):
    """The part of `MemoryStore` that works on messages."""

    expires_after: Setting | None
    _takes_first_words: bool

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
        message_ids: Sequence[str | None] | None = None,
        metadata: Message | None = None,
        expected_metadata: ExpectedMetadata = ANY,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> int:
        """See `LifecycleStore.append`, `MessageStore.append` and `LabelStore.append`.

        ``expires_after`` is as for `SQLAlchemyStore.append`.
        """
        check_keys(session_id, owner, turn_id)
        check_int("expected_length", expected_length)
        check_count("replace_from", replace_from)
        check_message_ids(message_ids, len(messages))
        check_title(title)
        bodies = self._encode(messages)
        words = first_words_of(messages) if self._takes_first_words else ""
        described = None if metadata is None else encode_metadata(metadata, self.max_message_bytes)
        expected = encode_expected(expected_metadata, self.max_message_bytes)
        own = self._own_expiry(expires_after)
        compared = None if any(each is not None for each in message_ids or ()) else bodies

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            stored = [] if turn_id is None else record.turn(turn_id)
            if own is not None:
                record = replace(record, expires_after=own)
            if stored:
                return record, length_after_repeat(stored, compared, record.first, record.end)
            before = len(record.rows)
            if expected_length is not None and expected_length != before:
                raise SessionConflict(expected_length, before)
            check_metadata(expected, record.metadata, before)
            grown = appended(record, bodies, turn_id, replace_from, message_ids)
            # A history with too many turns may still be replaced by one that is not longer.
            if record.turns >= self._max_turns and len(grown.rows) > before:
                raise SessionFull(self._max_turns)
            if described is not None:
                grown = replace(grown, metadata=described)
            return titled(grown, record, title, words), len(grown.rows)

        return await self._change(session_id, owner, change, fence)

    def check(self, messages: Sequence[Message]) -> None:
        """See `SQLAlchemyStore.check`."""
        self._encode(messages)

    async def pop(
        self, session_id: str, count: int = 1, owner: str = "", *, fence: int | None = None
    ) -> list[Message]:
        """See `MessageStore.pop`."""
        check_keys(session_id, owner)
        check_count("count", count)

        def change(record: SessionRecord) -> tuple[SessionRecord, list[str]]:
            keep = max(len(record.rows) - count, 0)
            popped = [row.body for row in record.rows[keep:]]
            return _rewound(record, keep), popped

        return decode_messages(await self._change(session_id, owner, change, fence))

    async def rewind(
        self,
        session_id: str,
        length: int,
        owner: str = "",
        *,
        fence: int | None = None,
        expected_length: int | None = None,
    ) -> int:
        """See `LifecycleStore.rewind`, and `MessageStore.rewind`."""
        check_keys(session_id, owner)
        check_count("length", length)
        check_int("expected_length", expected_length)

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            before = len(record.rows)
            if expected_length is not None and expected_length != before:
                raise SessionConflict(expected_length, before)
            return _rewound(record, length), min(length, before)

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
        """See `LifecycleStore.compact`, and `MessageStore.compact`."""
        check_keys(session_id, owner)
        check_count("skipped", skipped)
        bodies = self._encode(summary) if summary else []
        seen = encode_replaced(replaced, skipped, self.max_message_bytes)
        cut = skipped + len(seen)

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            standing = [row.body for row in record.rows[skipped:cut]]
            if len(record.rows) < cut or not is_same(standing, seen):
                raise SessionConflict(cut, len(record.rows))
            turn_id, now = mint_turn_id(), datetime.now(UTC)
            rows = [*(Row(turn_id, body, now) for body in bodies), *record.rows[cut:]]
            compacted = replace(
                record,
                rows=rows,
                first=record.first + cut - len(bodies),
                archive=record.archived(0, cut, "compact"),
                updated_at=time.time(),
            )
            return compacted, len(rows)

        return await self._change(session_id, owner, change, fence)

    async def clear(self, session_id: str, owner: str = "", *, fence: int | None = None) -> bool:
        """See `MessageStore.clear`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            record = self._record(session_id, owner)
            if record.deleted:
                raise SessionDeleted
            if fence is not None and fence != record.fence:
                raise TurnLost
            self._drop_answers(owner, session_id)
            if not record.is_used and record.answer_id is None:
                return False
            # The lease of an answer ends with it.
            is_answers = record.answer_id is not None and record.answer_fence == record.fence
            until = float("-inf") if is_answers else record.leased_until
            cleared = SessionRecord(fence=record.fence, leased_until=until)
            self._sessions[owner, session_id] = cleared
            return True

    async def load_range(
        self,
        session_id: str,
        owner: str = "",
        start: int = 0,
        limit: int | None = None,
        *,
        since: datetime | None = None,
    ) -> HistoryRange:
        """See `MessageStore.load_range`."""
        check_keys(session_id, owner)
        check_range(start, limit, since)
        record = await self._get(session_id, owner)
        counted = [
            (index, row)
            for index, row in enumerate(record.rows)
            if since is None or row.at >= since
        ]
        chosen = counted[start:][:limit]
        messages = decode_messages([row.body for _, row in chosen])
        found = [
            _stored_message(message, index, row)
            for message, (index, row) in zip(messages, chosen, strict=True)
        ]
        return HistoryRange(found, len(record.rows), metadata_of(record))

    async def find_message(
        self, message_id: str, owner: str = ""
    ) -> tuple[str, StoredMessage] | None:
        """See `MessageStore.find_message`."""
        check_message_id(message_id, owner)
        await checkpoint()
        with self._lock:
            found = [
                (session_id, index, row)
                for (of, session_id), record in self._sessions.items()
                if of == owner
                for index, row in enumerate(record.rows)
                if row.message_id == message_id
            ]
        if not found:
            return None
        session_id, index, row = min(found)
        return session_id, _stored_message(decode_messages([row.body])[0], index, row)

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

    async def set_metadata(
        self,
        session_id: str,
        metadata: Message,
        owner: str = "",
        *,
        expected: ExpectedMetadata = ANY,
    ) -> None:
        """See `LifecycleStore.set_metadata`, and `MessageStore.set_metadata`."""
        check_keys(session_id, owner)
        body = encode_metadata(metadata, self.max_message_bytes)
        wanted = encode_expected(expected, self.max_message_bytes)

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            check_metadata(wanted, record.metadata, len(record.rows))
            changed = record.updated_at if record.exists else time.time()
            return replace(record, metadata=body, updated_at=changed), None

        await self._change(session_id, owner, change)

    async def find_metadata(self, session_id: str, owner: str = "") -> Message | None:
        """See `LifecycleStore.find_metadata`."""
        check_keys(session_id, owner)
        return metadata_of(await self._get(session_id, owner))

    def _encode(self, messages: Sequence[Message]) -> list[str]:
        return encode_messages(messages, self.max_message_bytes, self.max_turn_messages)

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


def metadata_of(record: SessionRecord) -> Message | None:
    """Return the session's metadata; None where none was set."""
    return None if record.metadata is None else decode_messages([record.metadata])[0]


def _rewound(record: SessionRecord, length: int) -> SessionRecord:
    """Return the session with its first ``length`` messages, the others archived."""
    before = len(record.rows)
    if length >= before:
        return record
    archive = record.archived(length, before, "rewind")
    return replace(record, rows=record.rows[:length], archive=archive, updated_at=time.time())


def _stored_message(message: Message, index: int, row: Row) -> StoredMessage:
    return StoredMessage(message, index, row.turn_id, row.message_id, row.at)
