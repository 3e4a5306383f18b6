"""`StoredChatStore`, LlamaIndex's chat store over any store, for its ``Memory``.

A key is a session's id. Active messages are the session's history. ``archive_oldest_messages``
compacts it without a summary, so that every other reader's history is the shorter one too; what was
archived so, by whomever, is LlamaIndex's archived messages. In this table m is an active message, a
an archived one, and x one that was deleted, which stays in the store's archive and is not read:

    operation                            history     archive
    add_messages(m m)                    m m
    add_messages(a, ARCHIVED)            m m (a)     kept in the history, for LlamaIndex alone
    archive_oldest_messages(1)           m           a          reason "compact"
    delete_oldest_messages(1)            m           x          reason "replace" or "rewind"
    set_messages(m)                      m           x x        all before it is marked as deleted
    delete_messages(ARCHIVED)            m m         x x        marked as deleted
    delete_messages()                                           cleared: nothing is left

The mark is in the session's metadata, below ``llama_index``: where in the archive the messages
begin that are not deleted.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from hermes_session_mw.adapters.framework_import import needing

with needing("llama-index-core", "llama_index"):
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from hermes_session_mw.adapters.escaping import escape_id, unescape_id
from hermes_session_mw.adapters.llama_index_messages import (
    FORMAT,
    is_archived,
    read_message,
    store_message,
)
from hermes_session_mw.adapters.sessions import Sessions
from hermes_session_mw.adapters.target import StoreOrSession, Target, retry_conflicts
from hermes_session_mw.exceptions import NotSupported, SessionConflict
from hermes_session_mw.messages import Message
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.stores.message_store import HistoryRange, MessageStore
from hermes_session_mw.stores.models import ArchivedMessage, SessionInfo
from hermes_session_mw.stores.validation import check_keys

__all__ = ["StoredChatStore"]

T = TypeVar("T")

_ACTIVE = MessageStatus.ACTIVE
_ARCHIVED = MessageStatus.ARCHIVED


class StoredChatStore(AsyncDBChatStore):
    """LlamaIndex's ``AsyncDBChatStore``: ``Memory.from_defaults(session_id, chat_store=...)``.

    Each operation happens as a whole or not at all, whoever else writes; only the archived messages
    are deleted in two steps, if some were added as such.
    """

    _place: Any = PrivateAttr()
    _owner: str = PrivateAttr()
    _only: Any = PrivateAttr()

    def __init__(self, store_or_session: StoreOrSession, owner: str = "") -> None:
        """Check the owner; nothing is read.

        Args:
            store_or_session: a `MessageStore`, for every key; or, inside a request,
                ``request.state.hermes_session``: then there is this conversation alone, whichever
                key is asked for, and its owner, lease and ``Idempotency-Key`` count.
            owner: whose the conversations are, with a store.

        Raises:
            TypeError: a session comes with an owner.
            InvalidKey: the owner cannot be stored.
            NotSupported: the store has no single messages.
        """
        super().__init__()
        Sessions(store_or_session)
        self._place = store_or_session
        self._owner = owner
        self._only = None
        if isinstance(store_or_session, HermesSession):
            self._only = Target(store_or_session, owner=owner)
        else:
            check_keys("any", owner)

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = _ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return the oldest ``limit`` messages after the first ``offset``; None is every status.

        Raises:
            ValueError: a number is negative.
        """
        start = offset or 0
        if start < 0 or (limit is not None and limit < 0):
            raise ValueError("limit and offset cannot be negative")
        if status == _ACTIVE:
            target = self._target(key)
            if limit is None:
                loaded = (await target.conversation()).messages
            else:
                loaded = _messages(await _load(target, start + limit))
            found = [placed.message for placed in _placed(loaded)]
        else:
            state = await self._retrying(key, _load_all)
            found = [*state.archived]
            found += [
                placed.message
                for placed in _placed(_messages(state.history), archived=None)
                if status is None or placed.archived
            ]
        return found[start:][:limit]

    async def count_messages(self, key: str, status: MessageStatus | None = _ACTIVE) -> int:
        """Return how many messages there are; None is every status."""
        return len(await self.get_messages(key, status))

    async def add_message(
        self, key: str, message: ChatMessage, status: MessageStatus = _ACTIVE
    ) -> None:
        """Append a message."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = _ACTIVE
    ) -> None:
        """Append the messages as one turn, all or none.

        Raises:
            InvalidMessage: a message cannot be stored.
            TurnTooLong: a kind of it: there are more than the store's ``max_turn_messages``.
            SessionDeleted: the conversation was deleted.
        """
        if messages:
            await self._target(key).append(_stored(messages, status))

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = _ACTIVE
    ) -> None:
        """Put the messages in the place of all that there are, of every status, in one step.

        Raises what ``add_messages`` raises.
        """
        new = _stored(messages, status)

        async def replace(target: Target) -> None:
            if not new:
                await target.write(MessageStore.clear)
                return
            history = await target.read(MessageStore.load_range, limit=0)
            archive = await target.read(MessageStore.archived)
            await target.write(
                MessageStore.append,
                new,
                replace_from=0,
                expected_length=history.length,
                **_forgetting(archive, history.metadata),
            )

        await self._retrying(key, replace)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the message with this number, and return it; None without one.

        Messages have no ids here: the key's are counted from 1, from the oldest, whatever their
        status is.

        Raises:
            NotSupported: the message was archived: what is in the archive goes as a whole.
        """

        async def delete(target: Target) -> ChatMessage | None:
            state = await _load_all(target)
            number = idx - 1 - len(state.archived)
            placed = _placed(_messages(state.history), archived=None)
            if idx < 1 or number >= len(placed):
                return None
            if number < 0:
                why = ": an archived message goes with all of them"
                raise NotSupported(self, "delete_message", why)
            await _remove(target, state.history, [placed[number].at])
            return placed[number].message

        return await self._retrying(key, delete)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Delete all messages; without a status for good, with all that is stored for the key."""

        async def delete(target: Target) -> None:
            history = await target.read(MessageStore.load_range)
            if status == _ARCHIVED:
                options = _forgetting(await target.read(MessageStore.archived), history.metadata)
                if options:
                    metadata, expected = options["metadata"], options["expected_metadata"]
                    await target.write(MessageStore.set_metadata, metadata, expected=expected)
            found = _placed(_messages(history), archived=status == _ARCHIVED)
            if found:
                await _remove(target, history, [placed.at for placed in found])

        if status is None:
            await self._target(key).write(MessageStore.clear)
        else:
            await self._retrying(key, delete)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest ``n`` active messages, and return them."""

        async def delete(target: Target) -> list[ChatMessage]:
            history = await target.read(MessageStore.load_range)
            oldest = _placed(_messages(history))[: max(n, 0)]
            if oldest:
                await _remove(target, history, [placed.at for placed in oldest])
            return [placed.message for placed in oldest]

        return await self._retrying(key, delete)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest ``n`` active messages, and return them."""

        async def archive(target: Target) -> list[ChatMessage]:
            history = await _load(target, max(n, 0))
            oldest = _placed(_messages(history))[: max(n, 0)]
            if oldest:
                replaced = _messages(history)[: oldest[-1].at + 1]
                await target.write(MessageStore.compact, replaced, [])
            return [placed.message for placed in oldest]

        return await self._retrying(key, archive)

    async def get_keys(self) -> list[str]:
        """Return the ids of the owner's conversations, by whichever framework they were begun.

        In a request that is its own.
        """
        if self._only is not None:
            history = await self._only.read(MessageStore.load_range, limit=0)
            return [self._only.session_id] if history.length else []
        found: list[SessionInfo] = []
        cursor: str | None = None
        while True:
            page = await Sessions(self._place).call(MessageStore.list, self._owner, cursor=cursor)
            found += page.sessions
            cursor = page.cursor
            if cursor is None:
                break
        keys = {unescape_id(info.id): info.length for info in found}
        return [
            key for key, length in keys.items() if length or await self.count_messages(key, None)
        ]

    @classmethod
    def class_name(cls) -> str:
        """Return the class's name."""
        return "StoredChatStore"

    def _target(self, key: str) -> Target:
        if self._only is not None:
            only: Target = self._only
            return only
        return Target(self._place, escape_id(key), self._owner)

    async def _retrying(self, key: str, change: Callable[[Target], Awaitable[T]]) -> T:
        return await retry_conflicts(partial(change, self._target(key)))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A message, and the place of what it is stored as among those that were loaded."""

    message: ChatMessage
    at: int
    archived: bool


@dataclass(frozen=True, slots=True)
class _State:
    """A history, and the archived messages before it that are not deleted."""

    history: HistoryRange
    archived: list[ChatMessage]


def _stored(messages: Sequence[ChatMessage], status: MessageStatus) -> list[Message]:
    return [store_message(message, archived=status == _ARCHIVED) for message in messages]


def _messages(history: HistoryRange) -> list[Message]:
    return [stored.message for stored in history.messages]


def _placed(messages: Sequence[Message], *, archived: bool | None = False) -> list[_Placed]:
    """Return LlamaIndex's of the messages; None is those that were added as archived ones too."""
    found = []
    for at, stored in enumerate(messages):
        is_one = is_archived(stored)
        message = read_message(stored) if archived in (None, is_one) else None
        if message is not None:
            found.append(_Placed(message, at, is_one))
    return found


async def _load(target: Target, count: int) -> HistoryRange:
    """Return the beginning of a history that has so many active messages, or else all of it."""
    limit = count
    while True:
        history = await target.read(MessageStore.load_range, limit=limit)
        is_all = len(history.messages) >= history.length
        if is_all or len(_placed(_messages(history))) >= count:
            return history
        limit *= 2


async def _load_all(target: Target) -> _State:
    """Return the history, and the archive of the same moment, or raise ``SessionConflict``."""
    history = await target.read(MessageStore.load_range)
    archive = await target.read(MessageStore.archived)
    now = await target.read(MessageStore.load_range, limit=1)
    if (now.length, now.messages) != (history.length, history.messages[:1]):
        raise SessionConflict(history.length, now.length)
    return _State(history, _undeleted(archive, history.metadata))


async def _remove(target: Target, history: HistoryRange, places: Collection[int]) -> None:
    """Remove the messages at these places; what follows the first one is stored anew."""
    keep = min(places)
    rest = [each for at, each in enumerate(history.messages) if at > keep and at not in places]
    if not rest:
        await target.write(MessageStore.rewind, keep, expected_length=history.length)
        return
    ids = [each.message_id for each in rest]
    await target.write(
        MessageStore.append,
        [each.message for each in rest],
        replace_from=keep,
        expected_length=history.length,
        message_ids=ids if any(ids) else None,
    )


def _undeleted(archive: Sequence[ArchivedMessage], metadata: Message | None) -> list[ChatMessage]:
    """Return the archived messages from the mark on."""
    mark = (metadata or {}).get(FORMAT)
    begin = 0
    if isinstance(mark, dict):
        same = [at for at, each in enumerate(archive) if _time(each) == mark.get("archived_at")]
        begin = same[: mark.get("count", 0)][-1] + 1 if same else 0
    kept = [each.message for each in archive[begin:] if each.reason == "compact"]
    return [message for each in kept if (message := read_message(each)) is not None]


def _forgetting(archive: Sequence[ArchivedMessage], metadata: Message | None) -> dict[str, Any]:
    """Return the options of an append that marks all that is archived as deleted."""
    if not _undeleted(archive, metadata):
        return {}
    newest = _time(archive[-1])
    mark = {"archived_at": newest, "count": sum(_time(each) == newest for each in archive)}
    return {"metadata": {**(metadata or {}), FORMAT: mark}, "expected_metadata": metadata}


def _time(archived: ArchivedMessage) -> str:
    return archived.archived_at.isoformat()
