"""A store in the process's own memory, for tests, for examples and to try things out.

A session is one immutable record, which every change replaces as a whole, under a lock. So a reader
never sees a part of a turn.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import (
    NotSupported,
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
from hermes_session_mw.stores.expiry import ExpiryStore, Setting, check_store_expiry
from hermes_session_mw.stores.memory.answers import Answer
from hermes_session_mw.stores.memory.histories import metadata_of
from hermes_session_mw.stores.memory.labels import MemoryLabels
from hermes_session_mw.stores.memory.records import Key, Row, SessionRecord
from hermes_session_mw.stores.models import (
    MAX_TURNS,
    PAGE,
    SessionInfo,
    SessionPage,
)
from hermes_session_mw.stores.owner_store import ErasureReceipt, check_erased
from hermes_session_mw.stores.pagination import (
    decode_owned_cursor,
    owned_list_order,
    owned_page_of,
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
    from hermes_session_mw.stores.memory.expiry import MemoryExpiry
    from hermes_session_mw.stores.memory.search import MemorySearch
    from hermes_session_mw.stores.search import SearchOptions, SearchPage


class MemoryStore(MemoryLabels):
    """An `AnswerStore`, `MessageStore` and `LabelStore` in this process, until that ends.

    Threads may share it. Messages are stored as JSON, as in a database, so that a test gets the
    same values as from a real store. ``aclose()`` keeps them. The limits are `SQLAlchemyStore`'s,
    and so are ``expires_after``, ``title_from_first_words`` and ``search``.

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
        expires_after: Setting | None = None,
        title_from_first_words: bool = False,
        search: "bool | SearchOptions" = False,
    ) -> None:
        check_store_expiry(expires_after)
        self.expires_after: Setting | None = expires_after
        self._owner_expiry: dict[str, Setting] = {}
        self.max_message_bytes = max_message_bytes
        self.max_turn_messages = max_turn_messages
        self._max_turns = max_turns
        self._takes_first_words = title_from_first_words
        self._sessions: dict[Key, SessionRecord] = {}
        self._keys: dict[Key, str] = {}
        self._bound_at: dict[Key, float] = {}
        # The greatest fence of any session that was pruned.
        self._fence_floor = 0
        self._lock = threading.Lock()
        self._answers: dict[Key, Answer] = {}
        self._search = None if search is False else _searching(search)

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

    @property
    def expiry(self) -> "ExpiryStore | None":
        """When sessions expire, and what removes them; None without ``expires_after``."""
        return self._expiry

    @cached_property
    def _expiry(self) -> "MemoryExpiry | None":
        if self.expires_after is None:
            return None
        from hermes_session_mw.stores.memory.expiry import (  # noqa: PLC0415  # few have any
            MemoryExpiry,
        )

        def find(session_id: str, owner: str) -> SessionRecord | None:
            return self._sessions.get((owner, session_id))

        def remove(is_chosen: Callable[[str, SessionRecord], bool]) -> Sequence[SessionRecord]:
            with self._lock:
                return self._remove_unused(is_chosen)

        return MemoryExpiry(self.expires_after, self._owner_expiry, find, self._change, remove)

    async def search(
        self,
        owner: str,
        query: str,
        limit: int = PAGE,
        cursor: str | None = None,
        *,
        session_id: str | None = None,
        since: datetime | None = None,
        role: str | None = None,
    ) -> "SearchPage":
        """See `SearchStore.search`; it reads all of the owner's messages, without an index."""
        if self._search is None:
            raise NotSupported(self, "search", ": give the store search=True")

        def records_of() -> dict[str, SessionRecord]:
            with self._lock:
                return {id_: each for (of, id_), each in self._sessions.items() if of == owner}

        return await self._search.search(
            records_of, owner, query, limit, cursor, session_id, since, role
        )

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """See `SQLAlchemyStore.delete`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            record = self._record(session_id, owner)
            if not record.is_used and record.answer_id is None:
                self._drop_answers(owner, session_id)
                return False
            gone = SessionRecord(
                deleted=True,
                updated_at=time.time(),
                fence=record.fence,
                expires_after=record.expires_after,
            )
            self._sessions[owner, session_id] = gone
            self._drop_answers(owner, session_id)
            self._repoint_keys(owner, session_id, None)
            return True

    async def prune(self, older_than: timedelta) -> int:
        """See `SQLAlchemyStore.prune`."""
        check_age(older_than)
        await checkpoint()
        with self._lock:
            oldest, expiry = time.time() - older_than.total_seconds(), self._expiry

            def is_stale(owner: str, record: SessionRecord) -> bool:
                if expiry is not None and expiry.is_expired(owner, record):
                    return True
                owners = None if record.deleted else self._owner_expiry.get(owner)
                has_setting = record.expires_after is not None or owners is not None
                return record.updated_at < oldest and not has_setting

            removed = self._remove_unused(is_stale)
            for key, leads_to in list(self._keys.items()):
                if self._bound_at[key] < oldest and (key[0], leads_to) not in self._sessions:
                    del self._keys[key]
            return len(removed)

    def _remove_unused(
        self, is_chosen: Callable[[str, SessionRecord], bool]
    ) -> Sequence[SessionRecord]:
        """Remove those of the sessions without a lease that are chosen, and return them."""
        now = time.monotonic()
        removed = {
            key: each
            for key, each in self._sessions.items()
            if each.leased_until <= now and is_chosen(key[0], each)
        }
        for (owner, session_id), record in removed.items():
            del self._sessions[owner, session_id]
            self._fence_floor = max(self._fence_floor, record.fence)
            self._drop_answers(owner, session_id)
            self._repoint_keys(owner, session_id, None)
        return [*removed.values()]

    async def export_owner(self, owner: str) -> AsyncIterator[str]:
        """See `OwnerStore.export_owner`."""
        check_keys("-", owner)
        for session_id in sorted(each.id for each in await self._infos("", owner)):
            try:
                lines = await self.export(session_id, owner)
            except SessionNotFound:
                continue  # deleted meanwhile
            yield lines

    async def erase_owner(self, owner: str, *, ownerless: bool = False) -> ErasureReceipt:
        """See `OwnerStore.erase_owner`."""
        check_erased(owner, ownerless=ownerless)
        await checkpoint()
        with self._lock:
            receipt = ErasureReceipt(
                keys=sum(of == owner for of, _ in self._keys),
                answers=sum(of == owner for of, _ in self._answers),
            )
            for key in [key for key in self._sessions if key[0] == owner]:
                removed = self._sessions.pop(key)
                self._fence_floor = max(self._fence_floor, removed.fence)
                receipt += _counts_of(removed)
            self._owner_expiry.pop(owner, None)
            for kept in (self._keys, self._bound_at, self._answers):
                for key in [key for key in kept if key[0] == owner]:
                    del kept[key]
        return receipt

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
            child = SessionRecord(
                rows,
                turns=parent.turns,
                parent_id=session_id,
                fence=fence,
                expires_after=parent.expires_after,
            )
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
        rows = (jsonl.ExportedRow(row.turn_id, row.body, row.at) for row in record.rows)
        info = self._info(owner, session_id, record)
        return jsonl.dump(info, rows, metadata_of(record), record.expires_after)

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """See `LifecycleStore.import_`."""
        session = jsonl.parse(lines, self.max_message_bytes)
        new_id = session.session_id if session_id is None else session_id
        check_keys(new_id, owner)
        if session.turns > self._max_turns:
            raise SessionFull(self._max_turns)
        self._own_expiry(session.expires_after)
        await checkpoint()
        with self._lock:
            fence, now = self._unused(new_id, owner).fence, datetime.now(UTC)
            changed = now if session.updated_at is None else min(session.updated_at, now)
            self._sessions[owner, new_id] = SessionRecord(
                [Row(row.turn_id, row.body, row.created_at or now) for row in session.rows],
                turns=session.turns,
                title=session.title,
                metadata=session.metadata,
                labels=session.labels,
                created_at=session.created_at.timestamp(),
                updated_at=changed.timestamp(),
                fence=fence,
                expires_after=session.expires_after,
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

    def _info(
        self, owner: str, session_id: str, record: SessionRecord, *, first_words: bool = False
    ) -> SessionInfo:
        info = super()._info(owner, session_id, record, first_words=first_words)
        if self._expiry is None:
            return info
        return replace(info, expires_at=self._expiry.time_of(owner, record))

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


def _counts_of(record: SessionRecord) -> ErasureReceipt:
    """Return the counts of what a session's record has."""
    return ErasureReceipt(
        sessions=int(record.exists),
        messages=len(record.rows),
        archived=len(record.archive),
        message_ids=sum(row.message_id is not None for row in record.rows),
        checkpoints=0 if record.checkpoints is None else len(record.checkpoints.checkpoints),
        ids=int(not record.exists),
    )


def _searching(options: "bool | SearchOptions") -> "MemorySearch":
    from hermes_session_mw.stores.memory.search import MemorySearch  # noqa: PLC0415  # few search
    from hermes_session_mw.stores.search import options_of  # noqa: PLC0415

    return MemorySearch(options_of(options))
