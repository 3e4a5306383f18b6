"""pydantic-ai's conversations: `StoredConversations`, a ``ConversationStore`` over a store.

A conversation is a session, whose id is the ``conversation_id``. The line of entries up to its head
is the session's history, an entry's id is its message's id (``pydantic_ai_messages.py`` has the
messages), and the record stands in the session's metadata, under ``"pydantic_ai"``. So a save is
one append, which sets the record too.

A fork copies its line, with the ids, so that each conversation is whole by itself. What a branch
leaves is archived, and found again there: the tip of a branch that was left is a key of the
session. It cannot be gone back to where it has messages that others stored.

Others may add to the history, or edit it. The record then begins there: its head is the newest
message that pydantic-ai can read, and its revision another one. A conversation that others have
begun has a record without having been saved. Entries of messages that were stored without an id are
named by their place.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from hermes_session_mw.adapters.framework_import import needing

with needing("pydantic-ai-slim>=2.66", "pydantic", "pydantic_ai"):
    from pydantic import TypeAdapter
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )

from hermes_session_mw.adapters.chat_messages import store_item
from hermes_session_mw.adapters.escaping import escape, escape_id, unescape, unescape_id
from hermes_session_mw.adapters.item_parts import item_of
from hermes_session_mw.adapters.plain_values import plain
from hermes_session_mw.adapters.pydantic_ai_messages import (
    FORMAT,
    FoundEntry,
    find_entries,
    place_of,
    store_entry,
)
from hermes_session_mw.adapters.sessions import Recent, Sessions
from hermes_session_mw.adapters.target import StoreOrSession
from hermes_session_mw.exceptions import SessionConflict
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.message_store import HistoryRange, MessageStore, StoredMessage
from hermes_session_mw.stores.models import PAGE
from hermes_session_mw.stores.server_keys import server_key

__all__ = ["StoredConversations"]

_RECORD: Final[TypeAdapter[ConversationRecord]] = TypeAdapter(ConversationRecord)

_TRIES = 8
"""Times that a write is tried again while others change what is not pydantic-ai's."""


@dataclass(frozen=True, slots=True)
class _State:
    """What is stored of a conversation, and what the store has to have for a write to be made.

    ``record`` is None where there is no conversation.
    """

    session_id: str
    metadata: Message | None
    length: int
    turn_id: str | None  # of the newest message
    record: ConversationRecord | None

    @property
    def head_id(self) -> str | None:
        return None if self.record is None else self.record.head_id

    @property
    def revision(self) -> str | None:
        return None if self.record is None else self.record.revision


@dataclass(frozen=True, slots=True)
class _Line:
    """The messages up to an entry, and the session that has them, or those before a branch."""

    messages: list[StoredMessage]
    session_id: str
    is_live: bool  # they are the beginning of its history


class StoredConversations(ConversationStore):
    """An owner's conversations.

    ``delete`` removes a conversation with all that it left, for good, and its id can be used again.
    ``list_conversations`` reads each conversation that it returns, in the order in which their
    histories changed.
    """

    def __init__(self, store_or_session: StoreOrSession, owner: str = "") -> None:
        """Keep conversations as sessions of ``owner``; nothing is read.

        Args:
            store_or_session: a store; or ``request.state.hermes_session``, for its owner's
                conversations: its own is saved under its lease. Its ``Idempotency-Key`` is not
                used, since a run that is repeated has other messages.
            owner: up to 255 characters, with a store; a session has its own.

        Raises:
            NotSupported: the store has no single messages.
            TypeError: an owner is given beside a session.
            OwnerRequired: the session's ``owner`` hook answered None.
        """
        self._all = Sessions(store_or_session)
        self._owner = self._all.owner(owner)
        self._states: Recent[str, _State] = Recent()  # by session
        self._sessions: Recent[str, str] = Recent()  # by head

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the conversation's record; None where nothing is stored. One read, as a rule."""
        return (await self._state_of(escape_id(conversation_id))).record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the owner's records, or those of a scope, the newest first; a read for each."""
        records: list[ConversationRecord] = []
        cursor: str | None = None
        while limit is None or len(records) < limit:
            page = await self._all.call(MessageStore.list, self._owner, PAGE, cursor)
            for info in page.sessions:
                record = (await self._state_of(info.id)).record
                if record is not None and scope in {None, record.scope}:
                    records.append(record)
            cursor = page.cursor
            if cursor is None:
                break
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store the record and its new entries: one append, which stores all or nothing.

        A branch that is begun without an entry takes two operations: the record, and the rewind.
        Nothing is stored of the conversation of a request that is no turn, which is read as before.
        """
        session_id = escape_id(record.conversation_id)
        if self._all.is_no_turn(session_id, self._owner):
            return
        state = self._states.get(session_id)
        if state is None or state.revision != expected_revision:
            state = await self._state_of(session_id)
        for _ in range(_TRIES):
            if state.revision != expected_revision:
                break
            try:
                await self._write(state, record, new_entries)
            except SessionConflict:
                state = await self._state_of(session_id)
            else:
                self._states.pop(session_id, None)
                return
        raise ConversationConflict(record.conversation_id)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Remove the conversation, its entries and what it left, for good."""
        session_id = escape_id(conversation_id)
        for _ in range(_TRIES):
            state = await self._state_of(session_id)
            record = state.record
            if record is None or record.revision != expected_revision:
                break
            # Another revision, so that whoever has read this one can neither save nor delete it.
            changed = _document(state, replace(record, revision=mint_turn_id()))
            try:
                await self._set_metadata(state, changed)
            except SessionConflict:
                continue
            await self._all.write(MessageStore.clear, session_id, owner=self._owner)
            for tip in record.branches:
                await self._all.call(MessageStore.drop_key, _key(tip), self._owner)
            return
        raise ConversationConflict(conversation_id)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to ``head_id``, or the last ``limit`` of them; one read of them."""
        if head_id is None or limit == 0:
            return []
        session_id = self._sessions.get(head_id)
        found = None
        if session_id is not None:
            found = await self._newest(session_id, head_id, limit)
        if found is None:
            line = await self._line(head_id)
            if line is None:
                raise LookupError("there is no such entry")
            found = _up_to(find_entries(line.messages, line.session_id), head_id)
        return [each.entry for each in (found if limit is None else found[-limit:])]

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return the entry with this id."""
        return (await self.read_history(entry_id, limit=1))[-1]

    # Reading

    async def _state_of(self, session_id: str) -> _State:
        found = await self._load(session_id, -1, 1)
        newest = found.messages[-1] if found.messages else None
        turn_id = None if newest is None else newest.turn_id
        kept = (found.metadata or {}).get(FORMAT)
        record = None
        if isinstance(kept, dict) and "record" in kept:
            record = _RECORD.validate_python(unescape(kept["record"]))
            record = replace(record, conversation_id=unescape_id(session_id))
            if (kept.get("length"), kept.get("turn_id")) != (found.length, turn_id):
                record = await self._record_of_others(session_id, record, newest, found.length)
        elif newest is not None:
            record = ConversationRecord(
                conversation_id=unescape_id(session_id),
                head_id=None,
                revision="",
                updated_at=newest.created_at,
            )
            record = await self._record_of_others(session_id, record, newest, found.length)
        state = _State(session_id, found.metadata, found.length, turn_id, record)
        self._states.put(session_id, state)
        if state.head_id is not None:
            self._sessions.put(state.head_id, session_id)
        return state

    def _load(
        self, session_id: str, start: int, limit: int | None = None
    ) -> Awaitable[HistoryRange]:
        return self._all.call(MessageStore.load_range, session_id, self._owner, start, limit)

    async def _record_of_others(
        self,
        session_id: str,
        record: ConversationRecord,
        newest: StoredMessage | None,
        length: int,
    ) -> ConversationRecord:
        """Return the record of a history that others have changed since it was saved."""
        head_id = record.head_id
        if newest is None:
            head_id = None
        elif (head := find_entries([newest], session_id)) and item_of(
            newest.message, FORMAT
        ) is None:
            head_id = head[-1].entry.id
        else:
            found = await self._newest(session_id, None, 1)
            head_id = found[-1].entry.id if found else None
        at = "" if newest is None else newest.turn_id
        return replace(
            record,
            head_id=head_id,
            deferred_tool_requests=None,
            revision=f"{record.revision}+{length}:{at}",
            updated_at=record.updated_at
            if newest is None
            else max(record.updated_at, newest.created_at),
        )

    async def _newest(
        self, session_id: str, head_id: str | None, limit: int | None
    ) -> list[FoundEntry] | None:
        """Return a session's entries up to ``head_id``, the newest ``limit`` or more of them.

        None if the head is not among them; without one it is the newest entry.
        """
        count = None if limit is None else 2 * limit + 2
        while True:
            found = await self._load(session_id, -count if count else 0)
            entries = _up_to(find_entries(found.messages, session_id), head_id)
            # One more than the limit, for that is the parent of the first.
            if count is None or count >= found.length or len(entries) > (limit or 0):
                return entries or None
            count *= 4

    async def _line(self, entry_id: str) -> _Line | None:
        """Return the messages up to an entry, wherever it is; None where there is no such entry."""
        place = await self._find(entry_id)
        if place is not None:
            session_id, length = place
            found = await self._load(session_id, 0, length)
            return _Line(found.messages, session_id, is_live=True)
        bound = await self._all.call(MessageStore.find_key, _key(entry_id), self._owner)
        return None if bound is None else await self._archived_line(bound, entry_id)

    async def _find(self, entry_id: str) -> tuple[str, int] | None:
        """Return the session of an entry, and the messages of its history up to it."""
        place = place_of(entry_id)
        if place is None:
            found = await self._all.call(MessageStore.find_message, entry_id, self._owner)
            return None if found is None else (found[0], found[1].index + 1)
        session_id, index, turn_id = place
        there = await self._load(session_id, index, 1)
        is_same = bool(there.messages) and there.messages[0].turn_id == turn_id
        return (session_id, index + 1) if is_same else None

    async def _archived_line(self, session_id: str, entry_id: str) -> _Line | None:
        """Return the messages up to an entry of a branch that was left."""
        archived = await self._all.call(MessageStore.archived, session_id, self._owner)
        groups = _groups([each.message for each in archived])
        left: list[tuple[Message, str | None]] = []
        parent_id: str | None = entry_id
        while parent_id is not None and parent_id in groups:
            *parts, last = groups[parent_id]
            left[:0] = [*((part, None) for part in parts), (last, parent_id)]
            parent_id = item_of(last, FORMAT)["parent_id"]
        before = _Line([], session_id, is_live=True)
        if parent_id is not None:
            found = await self._line(parent_id)
            if found is None:
                return None
            before = found
        now, length = datetime.now(UTC), len(before.messages)
        again = [
            StoredMessage(message, index, "", message_id, now)
            for index, (message, message_id) in enumerate(left, length)
        ]
        return _Line([*before.messages, *again], before.session_id, is_live=not again)

    # Writing

    async def _write(
        self, state: _State, record: ConversationRecord, new_entries: Sequence[ConversationEntry]
    ) -> None:
        after = new_entries[0].parent_id if new_entries else record.head_id
        keep, turn_id = state.length, state.turn_id
        messages: list[tuple[Message, str | None]] = []
        if after is None and state.head_id is not None:
            keep, turn_id = 0, None
        elif after != state.head_id:
            line = await self._line(str(after))
            if line is None:
                raise ConversationConflict(record.conversation_id)
            if state.record is None and line.is_live and not new_entries:
                await self._fork(state, record, line)
                return
            keep, turn_id = await self._shared(state, line)
            messages = [(each.message, each.message_id) for each in line.messages[keep:]]
        for entry in new_entries:
            *parts, last = store_entry(entry)
            messages += [*((part, None) for part in parts), (last, entry.id)]
        await self._bind_left(state, record)
        await self._store_line(state, record, keep, turn_id, messages)

    async def _store_line(
        self,
        state: _State,
        record: ConversationRecord,
        keep: int,
        turn_id: str | None,
        messages: Sequence[tuple[Message, str | None]],
    ) -> None:
        """Have the history be its first ``keep`` messages, whose last turn is told, and others."""
        if not messages and state.record is None and not state.length:
            # What has no message is not listed.
            messages = [(store_item(FORMAT, {"kind": "empty"}), None)]
        if messages:
            made = mint_turn_id()
            changed = replace(state, length=keep + len(messages), turn_id=made)
            await self._all.write(
                MessageStore.append,
                state.session_id,
                [message for message, _ in messages],
                owner=self._owner,
                turn_id=made,
                expected_length=state.length,
                replace_from=keep if keep < state.length else None,
                message_ids=[message_id for _, message_id in messages],
                metadata=_document(changed, record),
                expected_metadata=state.metadata,
            )
            return
        await self._set_metadata(
            state, _document(replace(state, length=keep, turn_id=turn_id), record)
        )
        if keep < state.length:
            await self._all.write(
                MessageStore.rewind,
                state.session_id,
                keep,
                owner=self._owner,
                expected_length=state.length,
            )

    async def _set_metadata(self, state: _State, document: Message) -> None:
        await self._all.write(
            MessageStore.set_metadata,
            state.session_id,
            document,
            owner=self._owner,
            expected=state.metadata,
        )

    async def _fork(self, state: _State, record: ConversationRecord, line: _Line) -> None:
        """Copy the beginning of another conversation's history."""
        length = len(line.messages)
        await self._all.write(
            MessageStore.fork,
            line.session_id,
            state.session_id,
            owner=self._owner,
            length=length,
        )
        copied = await self._newest(state.session_id, None, 1) or []
        forked = replace(state, length=length, turn_id=copied[-1].turn_id if copied else None)
        head_id = copied[-1].entry.id if copied else None
        document = _document(forked, replace(record, head_id=head_id))
        await self._set_metadata(state, document)

    async def _shared(self, state: _State, line: _Line) -> tuple[int, str | None]:
        """Return how many messages the history and the line begin with alike, and their turn."""
        found = await self._load(state.session_id, 0, len(line.messages))
        keep = 0
        for stored, wanted in zip(found.messages, line.messages, strict=False):
            if (stored.message_id, stored.message) != (wanted.message_id, wanted.message):
                break
            keep += 1
        return keep, found.messages[keep - 1].turn_id if keep else None

    async def _bind_left(self, state: _State, record: ConversationRecord) -> None:
        """Have the branches that the record leaves now be found in the session's archive."""
        known = [] if state.record is None else state.record.branches
        for tip in record.branches:
            if tip not in known and place_of(tip) is None:
                await self._all.call(
                    MessageStore.move_key, _key(tip), state.session_id, self._owner
                )


def _document(state: _State, record: ConversationRecord) -> Message:
    """Return the session's metadata with the record, and the history that it was saved with."""
    kept: dict[str, Any] = {
        "record": escape(plain(_RECORD.dump_python(record, mode="python"))),
        "length": state.length,
        "turn_id": state.turn_id,
    }
    return {**(state.metadata or {}), FORMAT: kept}


def _up_to(entries: list[FoundEntry], head_id: str | None) -> list[FoundEntry]:
    if head_id is None:
        return entries
    ends = (at for at, each in enumerate(entries, 1) if each.entry.id == head_id)
    return entries[: next(ends, 0)]


def _groups(messages: Sequence[Message]) -> dict[str, list[Message]]:
    """Return the messages of each entry that is whole among those that were archived."""
    groups: dict[str, list[Message]] = {}
    parts: dict[str, list[Message]] = {}
    for message in messages:
        item = item_of(message, FORMAT)
        if item is None:
            continue
        if "part_of" in item:
            parts.setdefault(item["part_of"], []).append(message)
        else:
            groups[item["id"]] = [*parts.pop(item["id"], []), message]
    return groups


def _key(entry_id: str) -> str:
    return server_key(FORMAT, entry_id)
