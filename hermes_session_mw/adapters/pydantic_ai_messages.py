"""pydantic-ai's messages as stored ones, and stored ones as pydantic-ai's.

A ``ModelRequest`` has parts: an instruction, the user's words, and results of tools. Each is a chat
message of its own, so one request may be several stored messages (``item_parts.py``); a
``ModelResponse`` is one.

Thinking, files that a model makes, and calls of a provider's own tools have no chat form: only
pydantic-ai reads them.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
)

from hermes_session_mw.adapters.chat_messages import calls_in, read_chat
from hermes_session_mw.adapters.item_parts import read_items, store_parts
from hermes_session_mw.adapters.plain_values import plain
from hermes_session_mw.messages import Message, text_of
from hermes_session_mw.stores.message_store import StoredMessage

__all__ = ["FORMAT", "FoundEntry", "find_entries", "place_of", "store_entry"]

FORMAT = "pydantic_ai"
"""The name that the items have."""

_PLACE = "hermes"  # the beginning of the id of an entry that was stored without one


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry, and where it stands in a history.

    Attributes:
        entry: the entry.
        end: the number of messages of the history up to its last one.
        turn_id: the id of the turn that it belongs to.
    """

    entry: ConversationEntry
    end: int
    turn_id: str


def store_entry(entry: ConversationEntry) -> list[Message]:
    """Return the messages that keep an entry; the last one has all of it."""
    dumped = ModelMessagesTypeAdapter.dump_python([entry.message], mode="python")[0]
    item = {"id": entry.id, "parent_id": entry.parent_id, "message": plain(dumped)}
    return store_parts(FORMAT, item, _chat_forms(entry.message))


def find_entries(messages: Sequence[StoredMessage], session_id: str) -> list[FoundEntry]:
    """Return the entries of a part of a history, each with the one before it as its parent.

    The first one's parent is the one that it was stored with, or None.
    """
    is_whole = not messages or messages[0].index == 0
    return list(_Reader(session_id, is_whole=is_whole).read(messages))


def place_of(entry_id: str) -> tuple[str, int, str] | None:
    """Return the session, index and turn of an entry whose message was stored without an id."""
    mark, _, place = entry_id.partition(":")
    index, _, place = place.partition(":")
    turn_id, _, session_id = place.partition("\n")
    return (session_id, int(index), turn_id) if mark == _PLACE and index.isdecimal() else None


class _Reader:
    """Reads a part of a history, message by message."""

    def __init__(self, session_id: str, *, is_whole: bool) -> None:
        self._session_id = session_id
        self._is_whole = is_whole  # it is the beginning of a history
        self._names: dict[str, str] = {}  # of tools, by the ids of their calls
        self._parent_id: str | None = None

    def read(self, messages: Sequence[StoredMessage]) -> Iterator[FoundEntry]:
        for stored, kept in read_items(messages, FORMAT, _kept_entry):
            chat = read_chat(stored.message)
            if chat is not None:
                self._names |= {call.id: call.name for call in calls_in(chat)}
            entry = self._translated(stored, chat) if kept is None else self._exact(kept)
            if entry is not None:
                self._parent_id = entry.id
                yield FoundEntry(entry, stored.index + 1, stored.turn_id)

    def _exact(self, kept: ConversationEntry) -> ConversationEntry:
        parent_id = self._parent_id
        if parent_id is None and not self._is_whole:
            return kept
        return replace(kept, parent_id=parent_id)

    def _translated(self, stored: StoredMessage, chat: Message | None) -> ConversationEntry | None:
        message = None if chat is None else _model_message(chat, self._names, stored.created_at)
        if message is None:
            return None
        made_id = f"{_PLACE}:{stored.index}:{stored.turn_id}\n{self._session_id}"
        entry_id = stored.message_id or made_id
        return ConversationEntry(id=entry_id, parent_id=self._parent_id, message=message)


def _kept_entry(item: Message) -> ConversationEntry | None:
    """Return an item's entry, with the parent that it was stored with; None of another version."""
    try:
        message = ModelMessagesTypeAdapter.validate_python([item["message"]])[0]
        return ConversationEntry(id=item["id"], parent_id=item["parent_id"], message=message)
    except (KeyError, ValueError):
        return None


# As chat messages


def _chat_forms(message: ModelMessage) -> list[Message]:
    if isinstance(message, ModelResponse):
        return _answer(message)
    forms = [form for part in message.parts if (form := _part_form(part)) is not None]
    # A model wants the results of its calls before anything else.
    return sorted(forms, key=lambda form: form["role"] != "tool")


def _answer(response: ModelResponse) -> list[Message]:
    text = "".join(_text(part) for part in response.parts)
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool_name, "arguments": part.args_as_json_str()},
        }
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]
    if not text and not calls:
        return []
    answer = {"role": "assistant", "content": text or None}
    return [{**answer, "tool_calls": calls} if calls else answer]


def _text(part: Any) -> str:
    return part.content if isinstance(part, TextPart) else getattr(part, "transcript", None) or ""


def _part_form(part: Any) -> Message | None:
    match part.part_kind:
        case "system-prompt":
            return {"role": "system", "content": part.content}
        case "tool-return":
            return _result(part, part.model_response_str())
        case "retry-prompt" if part.tool_name is not None:
            return _result(part, part.model_response())
    content = _user_words(part)
    return {"role": "user", "content": content} if content else None


def _user_words(part: Any) -> Any:
    match part.part_kind:
        case "user-prompt":
            return _content(part.content)
        case "retry-prompt" | "retry-feedback":
            return part.model_response()
        case "speech":
            return part.transcript
    return None


def _result(part: Any, text: str) -> Message:
    return {"role": "tool", "tool_call_id": part.tool_call_id, "content": text}


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    parts = [form for each in content if (form := _content_part(each)) is not None]
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _content_part(each: Any) -> Message | None:
    if isinstance(each, str):
        return {"type": "text", "text": each}
    if isinstance(each, TextContent):
        return {"type": "text", "text": each.content}
    if isinstance(each, ImageUrl):
        return {"type": "image_url", "image_url": {"url": each.url}}
    if isinstance(each, BinaryContent):
        return _binary_part(each)
    if isinstance(each, UploadedFile):
        return {"type": "file", "file": {"file_id": each.file_id}}
    url = getattr(each, "url", None)  # of a document, a video: chat messages have no such part
    return None if url is None else {"type": "text", "text": url}


def _binary_part(each: BinaryContent) -> Message:
    data = base64.b64encode(each.data).decode("ascii")
    uri = f"data:{each.media_type};base64,{data}"
    if each.is_image:
        return {"type": "image_url", "image_url": {"url": uri}}
    if each.is_audio:
        return {"type": "input_audio", "input_audio": {"data": data, "format": each.format}}
    return {"type": "file", "file": {"file_data": uri, "filename": each.identifier}}


# From chat messages


def _model_message(chat: Message, names: dict[str, str], at: datetime) -> ModelMessage | None:
    match chat.get("role"):
        case "system" | "developer":
            return ModelRequest(parts=[SystemPromptPart(text_of(chat), timestamp=at)])
        case "user":
            content = _user_content(chat.get("content"))
            return ModelRequest(parts=[UserPromptPart(content, timestamp=at)])
        case "tool":
            called = chat.get("tool_call_id") or ""
            name = names.get(called) or chat.get("name") or "tool"
            result = ToolReturnPart(name, text_of(chat), called, timestamp=at)
            return ModelRequest(parts=[result])
        case "assistant":
            return _response(chat, at)
    return None


def _response(chat: Message, at: datetime) -> ModelResponse | None:
    text = text_of(chat) or chat.get("refusal")
    calls = [ToolCallPart(call.name, call.arguments, call.id) for call in calls_in(chat)]
    parts = [*([TextPart(text)] if text else []), *calls]
    if not parts:
        return None
    return ModelResponse(parts=parts, model_name=chat.get("model"), timestamp=at)


def _user_content(content: Any) -> Any:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [found for part in content if (found := _user_part(part)) is not None]
    return parts if any(not isinstance(part, str) for part in parts) else "".join(parts)


def _user_part(part: Any) -> Any:
    if not isinstance(part, dict):
        return None
    match part:
        case {"text": str(text)}:
            return text
        case {"image_url": {"url": str(url)}}:
            return _binary(url) if url.startswith("data:") else ImageUrl(url)
        case {"input_audio": {"data": str(data), "format": str(kind)}}:
            return _binary(f"data:audio/{kind};base64,{data}")
        case {"file": {"file_data": str(uri)}} if uri.startswith("data:"):
            return _binary(uri)
    return None


def _binary(uri: str) -> Any:
    try:
        return BinaryContent.from_data_uri(uri)
    except ValueError:
        return uri
