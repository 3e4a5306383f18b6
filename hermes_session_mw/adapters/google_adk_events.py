"""ADK's events as stored messages, and stored ones as ADK's events.

An event's content has parts: texts, calls of functions, and their results. Its texts and calls are
one chat message, and each result is one of its own (``item_parts.py``). Thoughts, code that ran,
and events of actions alone have no chat form: only ADK reads them.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.adk.events import Event
from google.genai import types

from hermes_session_mw.adapters.chat_messages import chat_message
from hermes_session_mw.adapters.item_parts import read_items, store_parts
from hermes_session_mw.adapters.plain_values import plain
from hermes_session_mw.messages import Message, text_of
from hermes_session_mw.stores.message_store import StoredMessage

__all__ = ["FORMAT", "find_events", "store_event"]

FORMAT = "google_adk"
"""The name that the items have."""


def store_event(event: Event) -> list[Message]:
    """Return the messages that keep an event; the last one has all of it."""
    dumped = event.model_dump(mode="python", exclude_none=True)
    item = {"id": event.id, "event": plain(dumped, serialize_unknown=True)}
    return store_parts(FORMAT, item, _chat_forms(event))


def find_events(messages: Sequence[StoredMessage], agent: str) -> list[Event]:
    """Return the events of a part of a history; ``agent`` is the author of others' answers."""
    reader = _Reader(agent)
    found = (reader.read(stored, item) for stored, item in read_items(messages, FORMAT))
    return [event for event in found if event is not None]


# As chat messages


def _chat_forms(event: Event) -> list[Message]:
    content = event.content
    parts = [part for part in (content.parts if content else None) or [] if not part.thought]
    results = [_result(part.function_response) for part in parts if part.function_response]
    is_users = content is not None and (content.role or event.author) == "user"
    said = _question(parts) if is_users else _answer(parts)
    return [*results, *([] if said is None else [said])]


def _result(response: types.FunctionResponse) -> Message:
    value = response.response
    if isinstance(value, dict) and value.keys() == {"result"} and isinstance(value["result"], str):
        text = value["result"]
    else:
        text = json.dumps(plain(value, serialize_unknown=True), ensure_ascii=False, default=str)
    return {"role": "tool", "tool_call_id": response.id or response.name or "", "content": text}


def _question(parts: Sequence[types.Part]) -> Message | None:
    content = [form for part in parts if (form := _content_part(part)) is not None]
    if not content:
        return None
    if all(form["type"] == "text" for form in content):
        return {"role": "user", "content": "".join(form["text"] for form in content)}
    return {"role": "user", "content": content}


def _content_part(part: types.Part) -> Message | None:
    if part.text:
        return {"type": "text", "text": part.text}
    if part.inline_data is not None and part.inline_data.data is not None:
        return _media_part(part.inline_data)
    if part.file_data is not None and part.file_data.file_uri:
        uri = part.file_data.file_uri
        if (part.file_data.mime_type or "").startswith("image/"):
            return {"type": "image_url", "image_url": {"url": uri}}
        return {"type": "text", "text": uri}
    return None


def _media_part(blob: types.Blob) -> Message:
    kind = blob.mime_type or "application/octet-stream"
    data = base64.b64encode(blob.data or b"").decode("ascii")
    uri = f"data:{kind};base64,{data}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": uri}}
    if kind.startswith("audio/"):
        return {
            "type": "input_audio",
            "input_audio": {"data": data, "format": kind.removeprefix("audio/")},
        }
    return {"type": "file", "file": {"file_data": uri, "filename": blob.display_name or "file"}}


def _answer(parts: Sequence[types.Part]) -> Message | None:
    text = "".join(part.text or "" for part in parts)
    calls = [_call(part.function_call) for part in parts if part.function_call]
    if not text and not calls:
        return None
    answer = {"role": "assistant", "content": text or None}
    return {**answer, "tool_calls": calls} if calls else answer


def _call(call: types.FunctionCall) -> Message:
    arguments = plain(call.args or {}, serialize_unknown=True)
    text = json.dumps(arguments, ensure_ascii=False, default=str)
    function = {"name": call.name or "", "arguments": text}
    return {"id": call.id or call.name or "", "type": "function", "function": function}


# From chat messages


@dataclass(slots=True)
class _Reader:
    """Reads a part of a history, message by message."""

    agent: str
    names: dict[str, str]  # of functions, by the ids of their calls

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.names = {}

    def read(self, stored: StoredMessage, item: Any) -> Event | None:
        if item is not None:
            self._note_names(stored.message)
            return Event.model_validate(item["event"])
        chat = chat_message(stored.message)
        if chat is None:
            return None
        self._note_names(chat)
        author, role, parts = self._content(chat)
        if not parts:
            return None
        return Event(
            id=f"hermes:{stored.turn_id}:{stored.index}",
            invocation_id=stored.turn_id,
            author=author,
            timestamp=stored.created_at.timestamp(),
            content=types.Content(role=role, parts=parts),
        )

    def _note_names(self, message: Message) -> None:
        for call in message.get("tool_calls") or []:
            name = (call.get("function") or {}).get("name")
            if isinstance(call.get("id"), str) and isinstance(name, str):
                self.names[call["id"]] = name

    def _content(self, chat: Message) -> tuple[str, str, list[types.Part]]:
        match chat.get("role"):
            case "user":
                return "user", "user", list(_user_parts(chat.get("content")))
            case "tool":
                called = chat.get("tool_call_id") or ""
                response = types.FunctionResponse(
                    id=called,
                    name=self.names.get(called) or chat.get("name") or "tool",
                    response=_response(text_of(chat)),
                )
                return self.agent, "user", [types.Part(function_response=response)]
            case "assistant":
                return self.agent, "model", list(_model_parts(chat))
        return "", "", []  # an agent has instructions of its own


def _response(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"result": text}


def _model_parts(chat: Message) -> Iterator[types.Part]:
    text = text_of(chat) or chat.get("refusal")
    if text:
        yield types.Part(text=text)
    for call in chat.get("tool_calls") or []:
        function = call.get("function") or {}
        if isinstance(function.get("name"), str):
            arguments = _response(function.get("arguments") or "{}")
            yield types.Part(
                function_call=types.FunctionCall(
                    id=call.get("id"), name=function["name"], args=arguments
                )
            )


def _user_parts(content: Any) -> Iterator[types.Part]:
    if isinstance(content, str):
        yield types.Part(text=content)
    for part in content if isinstance(content, list) else []:
        found = _user_part(part) if isinstance(part, dict) else None
        if found is not None:
            yield found


def _user_part(part: Message) -> types.Part | None:
    match part:
        case {"text": str(text)}:
            return types.Part(text=text)
        case {"image_url": {"url": str(url)}}:
            return _file(url, "image/*")
        case {"input_audio": {"data": str(data), "format": str(kind)}}:
            return _file(f"data:audio/{kind};base64,{data}", "audio/*")
        case {"file": {"file_data": str(uri)}}:
            return _file(uri, "application/octet-stream")
    return None


def _file(uri: str, kind: str) -> types.Part:
    head, _, data = uri.partition(";base64,")
    if not head.startswith("data:"):
        return types.Part(file_data=types.FileData(file_uri=uri, mime_type=kind))
    try:
        decoded = base64.b64decode(data)
    except binascii.Error:
        return types.Part(text=uri)
    kind = head.removeprefix("data:").partition(";")[0] or kind
    return types.Part(inline_data=types.Blob(data=decoded, mime_type=kind))
