"""`StoredSession`, a session of the OpenAI Agents SDK in a store, or in the session of a request.

Each item is one stored message, so that limits count both alike. Most items have a chat form, which
every endpoint and every other adapter reads, and keep their own form beside it; where the chat form
has everything, it is stored alone. In these cases u is a user's item, a an answer's text, r
reasoning, h a call that the provider makes itself, f a call of a function or of a custom tool, and
o the output of one. Each bracket is a message with its chat form; [-] has none, and only this SDK
reads it:

    items       messages
    u a         [u] [a]
    u f f o o   [u] [ff] [-] [o] [o]    the calls of one answer are one chat message
    u a f o a   [u] [af] [-] [o] [a]
    u r f a o   [u] [-] [fa] [-] [o]
    u h a       [u] [-] [a]
    u a a       [u] [a] [a]             two answers stay two

What others have stored becomes items when it is read, an answer one for its text and one for each
call; their reasoning is left out. When one of several such items is popped, the others are stored
in place of the message.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hermes_session_mw.adapters.framework_import import needing

with needing("openai-agents", "agents"):
    from agents import RunContextWrapper, SessionSettings, TResponseInputItem
    from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from hermes_session_mw.adapters.chat_messages import read_chat, store_item, stored_item
from hermes_session_mw.adapters.escaping import escape
from hermes_session_mw.adapters.target import StoreOrSession, Target, retry_conflicts
from hermes_session_mw.exceptions import SessionConflict
from hermes_session_mw.messages import ITEM, Message
from hermes_session_mw.openai_api import InvalidRequest, items_of, messages_of
from hermes_session_mw.openai_api.response_items import calls_of, is_custom_call
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.message_store import MessageStore

__all__ = ["StoredSession"]

FORMAT = "openai_agents"

_CALLS = ("function_call", "custom_tool_call")
_CHAT_TYPES = ("message", *_CALLS, "function_call_output", "custom_tool_call_output")
_ASKING = ("user", "system", "developer")
_SAYING = (*_ASKING, "assistant")
_CHAT_ROLES = (*_SAYING, "tool", "function")
_PLAIN_KEYS = {"role", "content"}
_INPUT_PARTS = ("input_text", "input_image", "input_file", "input_audio")
_ITEM_KEYS = {
    "function_call": ("type", "call_id", "name", "arguments"),
    "custom_tool_call": ("type", "call_id", "name", "input"),
    "function_call_output": ("type", "call_id", "output"),
    "custom_tool_call_output": ("type", "call_id", "output"),
}


class StoredSession:
    """A ``Session`` of the OpenAI Agents SDK whose items are a stored conversation.

    Every method takes the run's context as ``wrapper``, for classes that derive from this one. What
    is written is written to its end also if the run is cancelled.

    Attributes:
        session_settings: the SDK's; its ``limit`` is the default of ``get_items``.
    """

    def __init__(
        self,
        store_or_session: StoreOrSession,
        session_id: str | None = None,
        owner: str = "",
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        """Check the ids; nothing is read.

        Args:
            store_or_session: a `MessageStore`; or, inside a request,
                ``request.state.hermes_session``, whose owner, lease and ``Idempotency-Key`` count:
                the first items that are added are the turn of that key.
            session_id: the conversation, with a store.
            owner: whose it is, with a store.
            session_settings: the SDK's settings.

        Raises:
            TypeError: a store comes without an id, or a session with an id or an owner.
            InvalidKey: the id or the owner cannot be stored.
        """
        self._target = Target(store_or_session, session_id, owner)
        self.session_settings: SessionSettings | None = (
            SessionSettings()
            if session_settings is None
            else coerce_session_settings(session_settings)
        )

    @property
    def session_id(self) -> str:
        """The conversation's id."""
        return self._target.session_id

    async def get_items(
        self,
        limit: int | None = None,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002  # for derived classes
    ) -> list[TResponseInputItem]:
        """Return the newest ``limit`` items, oldest first.

        None is the limit of the ``session_settings``, and all without one; so is a negative one.
        """
        most = resolve_session_limit(limit, self.session_settings)
        if most is None or most < 0:
            return _items_of((await self._target.conversation()).messages)
        if not most:
            return []
        _, items = await self._load_items(most, self._target.conversation)
        return items[-most:]

    async def add_items(
        self,
        items: list[TResponseInputItem],
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002  # for derived classes
    ) -> None:
        """Store the items at the end, all or none.

        Raises:
            InvalidMessage: an item cannot be stored.
            TurnTooLong: a kind of it: there are more than the store's ``max_turn_messages``.
            SessionDeleted: the conversation was deleted.
        """
        if items:
            await self._target.append(_messages_of(items))

    async def pop_item(
        self,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002  # for derived classes
    ) -> TResponseInputItem | None:
        """Remove the newest item, and return it; None without one.

        Two calls never return the same. It is archived, as by ``rewind``.
        """
        return await retry_conflicts(self._pop)

    async def clear_session(
        self,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002  # for derived classes
    ) -> None:
        """Remove everything that is stored under the id, for good; the id can be used again."""
        await self._target.write(MessageStore.clear)

    # What the SDK looks for by name, to compact a conversation in one step.

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[TResponseInputItem], bool] | None = None,
    ) -> "_Snapshot | None":
        """Return the newest ``limit`` items, and how the end of them is replaced at once.

        What is replaced is archived. With ``prune_prefix`` the items at the conversation's
        beginning of which it is true are removed too, if there is a replacement.
        """
        if not self._stores_plainly():
            return None
        history, items = await self._load_items(limit)
        found = _placed(history.messages)

        async def replace_suffix(start: int, output: list[TResponseInputItem]) -> bool:
            if start >= len(found):
                return False
            new = [*_rest_before(found, start), *output]
            try:
                await self._replace(history, found[start].at, _messages_of(new))
            except SessionConflict:
                return False
            if prune_prefix is not None:
                await self._prune(prune_prefix)
            return True

        return _Snapshot(items, history.length == len(history.messages), replace_suffix)

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        """Replace all items in one step, and archive them; return whether that was done."""
        if not self._stores_plainly():
            return False
        if items:
            await self._target.write(MessageStore.append, _messages_of(items), replace_from=0)
        else:
            await self._target.write(MessageStore.rewind, 0)
        return True

    def _stores_plainly(self) -> bool:
        """Return whether no derived class changes items on their way to the store, or back."""
        return all(
            getattr(type(self), name) is getattr(StoredSession, name)
            for name in ("get_items", "add_items", "pop_item", "clear_session")
        )

    async def _load_items(
        self, count: int, load: Callable[[int], Awaitable[History]] | None = None
    ) -> tuple[History, list[TResponseInputItem]]:
        """Return the newest messages that have so many items, or else all; and their items."""
        limit = max(count, 1)
        while True:
            history = await (load or self._target.load)(limit)
            items = _items_of(history.messages)
            if len(items) >= count or history.length <= len(history.messages):
                return history, items
            limit *= 2

    async def _pop(self) -> TResponseInputItem | None:
        history, items = await self._load_items(1)
        if not items:
            return None
        found = _placed(history.messages)
        newest = found[-1]
        after = history.messages[newest.at + 1 :]  # nothing that this SDK reads
        rest = _messages_of(_rest_before(found, len(found) - 1))
        if rest or after:
            await self._replace(history, newest.at, [*rest, *after])
            return newest.item
        popped = await self._target.write(MessageStore.pop)
        items = _items_of(popped)
        if len(items) == 1:
            return items[0]
        if popped:  # another framework has appended meanwhile
            await self._target.write(MessageStore.append, popped)
        raise SessionConflict(history.length, history.length)

    async def _replace(self, history: History, at: int, new: Sequence[Message]) -> None:
        """Replace the loaded messages from ``at`` on; ``SessionConflict`` if they have changed."""
        old = history.messages[at:]
        now = await self._target.load(len(old))
        if (now.length, now.messages) != (history.length, old):
            raise SessionConflict(history.length, now.length)
        keep = history.length - len(old)
        if new:
            await self._target.write(
                MessageStore.append, new, expected_length=history.length, replace_from=keep
            )
        else:
            await self._target.write(MessageStore.rewind, keep, expected_length=history.length)

    async def _prune(self, is_expired: Callable[[TResponseInputItem], bool]) -> None:
        history = await self._target.load()
        expired = 0
        for placed in _placed(history.messages):
            if not is_expired(placed.item):
                break
            expired = placed.at + 1
        if expired:
            with suppress(SessionConflict):  # then another one has pruned
                await self._target.write(MessageStore.compact, history.messages[:expired], [])


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the SDK's compaction reads, by these names."""

    items: list[TResponseInputItem]
    complete: bool
    replace_suffix: Callable[[int, list[TResponseInputItem]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class _Placed:
    """An item, and the place of its message among those that were loaded."""

    item: TResponseInputItem
    at: int


# Items to messages


def _messages_of(items: Sequence[TResponseInputItem]) -> list[Message]:
    """Return the message of each item; the table at the head of this file has the cases."""
    chats: list[Message | None] = []
    answer: Message | None = None  # the chat form that what follows may belong to
    for item in items:
        chat = _chat_of(item)
        if answer is not None and chat is not None and _join(answer, chat):
            chat = None
        elif chat is not None:
            answer = chat if chat["role"] == "assistant" else None
        chats.append(chat)
    return [_stored(item, chat) for item, chat in zip(items, chats, strict=True)]


def _join(answer: Message, chat: Message) -> bool:
    """Add what belongs to the same answer to it; return whether it does."""
    if chat["role"] != "assistant":
        return False
    if "tool_calls" in chat:
        answer.setdefault("tool_calls", []).extend(chat["tool_calls"])
        return True
    if answer["content"] is None:
        answer.update(chat)
        return True
    return False


def _stored(item: Any, chat: Message | None) -> Message:
    if chat is None:
        return store_item(FORMAT, item)
    # Most answers have an id: that is quicker to see than that the items are not equal.
    is_all = "id" not in item and _items_of([chat]) == [item]
    return chat if is_all and escape(chat) is chat else store_item(FORMAT, item, chat)


def _chat_of(item: Any) -> Message | None:
    """Return an item in the shape of Chat Completions; None where it has no such form."""
    if not isinstance(item, dict) or item.get("type", "message") not in _CHAT_TYPES:
        return None
    if _is_plain(item):
        return dict(item)
    chat = _converted(item)
    content = item.get("content")
    if chat is not None or not isinstance(content, list):
        return chat
    # A file by its address, and a picture by its id, have no chat form; what is said with them has.
    kept = [part for part in content if _converted({**item, "content": [part]}) is not None]
    return _converted({**item, "content": kept}) if kept else None


def _converted(item: Message) -> Message | None:
    try:
        return messages_of([item])[0]
    except InvalidRequest:
        return None


# Messages to items


def _items_of(messages: Sequence[Message]) -> list[TResponseInputItem]:
    """Return the items of stored messages, of whichever framework, in order."""
    customs: set[str] = set()
    return [item for message in messages for item in _items_in(message, customs)]


def _placed(messages: Sequence[Message]) -> list[_Placed]:
    """Return the same as ``_items_of``, each with its place."""
    customs: set[str] = set()
    return [
        _Placed(item, at)
        for at, message in enumerate(messages)
        for item in _items_in(message, customs)
    ]


def _items_in(message: Message, customs: set[str]) -> Sequence[TResponseInputItem]:
    """Return the items of a message; ``customs`` are the ids of the calls of custom tools."""
    if ITEM not in message and _is_plain(message):
        return (message,)
    item = stored_item(message, FORMAT)
    if item is not None:
        return (item,)
    chat = read_chat(message)
    return () if chat is None else _items_of_chat(chat, customs)


def _is_plain(value: Message) -> bool:
    """Tell whether an item and its chat form are the same."""
    text = value.get("content")
    return (
        value.keys() == _PLAIN_KEYS
        and value["role"] in _SAYING
        and bool(text)
        and type(text) is str
    )


def _items_of_chat(chat: Message, customs: set[str]) -> list[TResponseInputItem]:
    """Return the items of a chat message, and note the ids of its calls of custom tools."""
    role, content = chat.get("role"), chat.get("content")
    if role not in _CHAT_ROLES:
        return []
    if role in _ASKING and isinstance(content, str):
        return [{"role": role, "content": content}]
    customs |= {str(call.get("id")) for call in calls_of(chat) if is_custom_call(call)}
    is_custom = chat.get("tool_call_id") in customs
    items = items_of(chat, lambda _: "", is_custom=is_custom)
    return [kept for item in items if (kept := _as_input(item)) is not None]


def _as_input(item: dict[str, Any]) -> TResponseInputItem | None:
    """Return an item as a model is given it; None for one that it is not given."""
    if item["type"] in _ITEM_KEYS:
        return {name: item[name] for name in _ITEM_KEYS[item["type"]]}
    if item["type"] != "message":
        return None
    parts: list[Message] = item["content"]
    if item["role"] != "assistant":
        kept = [part for part in parts if part.get("type") in _INPUT_PARTS]
        return {"role": item["role"], "content": kept} if kept else None
    text = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    return {"role": "assistant", "content": text} if text else None


def _rest_before(found: Sequence[_Placed], index: int) -> list[TResponseInputItem]:
    """Return the items of the same message that come before one."""
    return [placed.item for placed in found[:index] if placed.at == found[index].at]
