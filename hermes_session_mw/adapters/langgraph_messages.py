"""LangChain's messages as a session's, and back."""

import hashlib
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    convert_to_messages,
    convert_to_openai_messages,
    messages_from_dict,
)

from hermes_session_mw.adapters.chat_messages import (
    ITEM,
    calls_in,
    read_chat,
    store_item,
    stored_item,
)
from hermes_session_mw.adapters.escaping import escape_id
from hermes_session_mw.exceptions import InvalidMessage
from hermes_session_mw.messages import (
    EncodedMessages,
    Message,
    copy_and_encode,
    copy_messages,
)
from hermes_session_mw.session.prompts import prompt_of
from hermes_session_mw.stores.message_store import StoredMessage
from hermes_session_mw.stores.models import MAX_KEY_LENGTH

FORMAT = "langgraph"

LOADED = "hermes-stored:"
"""How the ids of loaded messages begin that were stored without one."""

_AT = "hermes_at"  # a key that marks messages while they are chosen


def answered(messages: Sequence[BaseMessage]) -> int:
    """Return how many messages there are up to the last whole answer, which calls no tool."""
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if isinstance(message, AIMessage) and not message.tool_calls:
            return at + 1
    return 0


def id_of(message: BaseMessage, otherwise: str) -> str:
    """Return the id that a message is stored with; ``otherwise`` if it has none."""
    found = escape_id(message.id) if message.id else otherwise
    if len(found) <= MAX_KEY_LENGTH["message_id"]:
        return found
    return hashlib.sha256(found.encode()).hexdigest()


def store_messages(messages: Sequence[BaseMessage]) -> EncodedMessages:
    """Return a session's messages: the chat form, and the exact one if it is data alone."""
    stored = [store_item(FORMAT, _item_of(each), _chat_of(each)) for each in messages]
    try:
        return copy_and_encode(stored)
    except InvalidMessage:  # for an artifact, say, which the checkpoint has
        return copy_and_encode([each if _is_data(each) else _plain(each) for each in stored])


def load_messages(stored: Sequence[StoredMessage]) -> list[BaseMessage]:
    """Return the messages as a model takes them: no call without its result, nor a result alone."""
    chats = [read_chat(each.message) for each in stored]
    marked = [{**chat, _AT: at} for at, chat in enumerate(chats) if chat is not None]
    loaded = (_load(stored[chat[_AT]], chat) for chat in prompt_of(marked))
    return [each for each in loaded if each is not None]


def _item_of(message: BaseMessage) -> dict[str, Any]:
    """Return what ``messages_from_dict`` takes, without what is as by default."""
    return {"type": message.type, "data": message.model_dump(exclude_defaults=True)}


def _is_data(message: Message) -> bool:
    try:
        copy_messages([message])
    except InvalidMessage:
        return False
    return True


def _plain(message: Message) -> Message:
    return {name: value for name, value in message.items() if name != ITEM}


def _chat_of(message: BaseMessage) -> Message:
    try:
        chat: Message = convert_to_openai_messages(message)
    except (TypeError, ValueError):  # of a shape that Chat Completions have not
        return {"role": _ROLES.get(message.type, "assistant"), "content": message.text}
    return chat


_ROLES = {"human": "user", "system": "system", "tool": "tool"}


def _load(stored: StoredMessage, chat: Message) -> BaseMessage | None:
    """Return the exact message, or one of the chat form; None for a role that LangChain lacks."""
    item = stored_item(stored.message, FORMAT)
    is_whole = item is not None and chat.get("tool_calls") == stored.message.get("tool_calls")
    message = (_of_item(item) if is_whole else None) or _of_chat(chat)
    if message is not None and message.id is None:
        message.id = stored.message_id or f"{LOADED}{stored.turn_id}:{stored.index}"
    return message


def _of_item(item: Any) -> BaseMessage | None:
    try:
        (message,) = messages_from_dict([item])
    except (AttributeError, KeyError, TypeError, ValueError):  # another version's
        return None
    return message


def _of_chat(chat: Message) -> BaseMessage | None:
    plain = {name: value for name, value in chat.items() if name not in (_AT, "tool_calls")}
    if chat.get("tool_calls"):
        plain["tool_calls"] = [
            {"type": "tool_call", "id": call.id, "name": call.name, "args": call.given}
            for call in calls_in(chat)
        ]
    try:
        (message,) = convert_to_messages([plain])
    except (KeyError, TypeError, ValueError, NotImplementedError):
        return None
    return message
