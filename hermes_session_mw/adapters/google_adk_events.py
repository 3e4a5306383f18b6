"""ADK's events as stored messages, and stored ones as ADK's events.

An event's content has parts: texts, calls of functions, and their results. Its texts and calls are
one chat message, and each result is one of its own (``item_parts.py``). Thoughts, code that ran,
and events of actions alone have no chat form: only ADK reads them.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.adk.events import Event, EventActions
from google.adk.events.event import NodeInfo
from google.genai import types

from hermes_session_mw.adapters.chat_messages import calls_in, read_chat
from hermes_session_mw.adapters.item_parts import read_items, store_parts
from hermes_session_mw.adapters.plain_values import as_text, plain
from hermes_session_mw.messages import Message, has_chat_form, text_of
from hermes_session_mw.stores.message_store import StoredMessage

__all__ = ["FORMAT", "find_events", "own_events", "store_event"]

FORMAT = "google_adk"
"""The name that the items have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def store_event(event: Event) -> list[Message]:
    """Return the messages that keep an event; the last one has all of it."""
    dumped = event.model_dump(mode="python", exclude_none=True)
    dumped["actions"] = {name: value for name, value in dumped["actions"].items() if value != {}}
    if dumped["node_info"] == {"path": ""}:
        del dumped["node_info"]
    item = {"id": event.id, "event": plain(dumped, serialize_unknown=True)}
    return store_parts(FORMAT, item, _chat_forms(event))


def find_events(messages: Sequence[StoredMessage], agent: str) -> list[Event]:
    """Return the events of a part of a history; ``agent`` is the author of others' answers."""
    reader = _Reader(agent)
    found = (reader.read(*each) for each in read_items(messages, FORMAT, _event_of))
    return [event for event in found if event is not None]


def own_events(messages: Sequence[Message]) -> list[Event] | None:
    """Return the events of messages of which each is ADK's; None if one is another's."""
    placed = [StoredMessage(each, at, "", None, _EPOCH) for at, each in enumerate(messages)]
    events: list[Event] = []
    for stored, event in read_items(placed, FORMAT, _event_of):
        if event is not None:
            events.append(event)
        elif has_chat_form(stored.message):
            return None
    return events


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
        text = as_text(plain(value, serialize_unknown=True))
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
    text = as_text(arguments)
    function = {"name": call.name or "", "arguments": text}
    return {"id": call.id or call.name or "", "type": "function", "function": function}


# From items

_EVENT: Final = Event(id="none", timestamp=0.0).__getstate__()
_CONTENT: Final = types.Content().__getstate__()
_PART: Final = types.Part().__getstate__()


def _made(kind: Any, state: Message, fields: Message) -> Any:
    """Return a model that has the fields, and else what is in the state of another one.

    It is made as a copy or a pickle of it is: without a check, in a fifth of the time.
    """
    made = kind.__new__(kind)
    values = {**state["__dict__"], **fields}
    made.__setstate__({**state, "__dict__": values, "__pydantic_fields_set__": set(fields)})
    return made


def _content(dumped: Message) -> types.Content:
    if not dumped.keys() <= {"parts", "role"}:
        return types.Content.model_validate(dumped)
    fields = dict(dumped)
    if dumped.get("parts") is not None:
        fields["parts"] = [_part(part) for part in dumped["parts"]]
    return _made(types.Content, _CONTENT, fields)


def _part(dumped: Message) -> types.Part:
    if dumped.keys() <= {"text", "thought", "thought_signature"}:
        return _made(types.Part, _PART, dumped)
    return types.Part.model_validate(dumped)


_PLAIN = frozenset({"author", "branch", "id", "invocation_id", "timestamp"})
_CHECKED: Final[dict[str, Callable[[Any], Any]]] = {
    "actions": EventActions.model_validate,
    "content": _content,
    "finish_reason": types.FinishReason,
    "node_info": NodeInfo.model_validate,
    "usage_metadata": types.GenerateContentResponseUsageMetadata.model_validate,
}


def _event_of(item: Message) -> Event | None:
    """Return the event of an item; None for one of another version."""
    try:
        return _event(item["event"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _event(dumped: Message) -> Event:
    """Return the event that was dumped.

    What most events have is not checked again, which would take most of the time of a read: it was
    dumped from an event. One with any other field is checked as a whole.
    """
    fields = {"actions": {}, "node_info": {}, **dumped}  # each event has its own
    for name, value in fields.items():
        if name in _CHECKED:
            fields[name] = _CHECKED[name](value)
        elif name not in _PLAIN:
            return Event.model_validate(dumped)
    return _made(Event, _EVENT, fields)


# From chat messages


@dataclass(slots=True)
class _Reader:
    """Reads a part of a history, message by message."""

    agent: str
    names: dict[str, str]  # of functions, by the ids of their calls

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.names = {}

    def read(self, stored: StoredMessage, event: Event | None) -> Event | None:
        chat = read_chat(stored.message)
        if chat is not None:
            self.names |= {call.id: call.name for call in calls_in(chat)}
        if event is not None or chat is None:
            return event
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
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"result": text}


def _model_parts(chat: Message) -> Iterator[types.Part]:
    text = text_of(chat) or chat.get("refusal")
    if text:
        yield types.Part(text=text)
    for call in calls_in(chat):
        function = types.FunctionCall(id=call.id or None, name=call.name, args=call.given)
        yield types.Part(function_call=function)


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
    except ValueError:
        return types.Part(text=uri)
    kind = head.removeprefix("data:").partition(";")[0] or kind
    return types.Part(inline_data=types.Blob(data=decoded, mime_type=kind))
