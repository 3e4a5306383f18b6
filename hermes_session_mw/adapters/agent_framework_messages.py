"""Agent Framework's messages as stored ones, and stored ones as Agent Framework's.

A ``Message`` has contents: texts, pictures, calls, results of calls. It is one chat message, or
more where it has results, each of which is a chat message of its own. The last of them has the
message as Agent Framework has it, and says how many before it belong to it::

    {"role": "tool", ..., "hermes_item": {"format": "agent_framework", "item": {"part": true}}}
    {"role": "tool", ..., "hermes_item": {..., "item": {"message": {...}, "parts": 1}}}

Where nothing more is in it than in its chat message, that is stored alone. Reasoning, approvals and
what a provider runs itself have no chat form: only Agent Framework reads them.
"""

import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

from agent_framework import Content
from agent_framework import Message as AgentMessage
from agent_framework.exceptions import ContentError

from hermes_session_mw.adapters.chat_messages import read_chat, store_item, stored_item
from hermes_session_mw.adapters.escaping import escape
from hermes_session_mw.adapters.plain_values import as_text, too_deep
from hermes_session_mw.messages import Message, text_of

__all__ = ["FORMAT", "item_of", "read_messages", "store_message"]

FORMAT = "agent_framework"
"""The name that the items have."""

_ROLES = ("user", "assistant", "system", "developer")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of an author, as models are given it
_AUDIO = {"mp3": "mp3", "mpeg": "mp3", "wav": "wav", "x-wav": "wav"}
_NO_DATA = object()


def store_message(message: AgentMessage) -> list[Message]:
    """Return the messages that keep one of Agent Framework's; the last one has all of it."""
    item = item_of(message)
    forms = _chat_forms(message)
    if len(forms) == 1 and _is_all(forms[0], item):
        return forms
    parts = [store_item(FORMAT, {"part": True}, form) for form in forms[:-1]]
    whole = {"message": item, "parts": len(parts)}
    return [*parts, store_item(FORMAT, whole, forms[-1] if forms else None)]


def read_messages(stored: Sequence[Message]) -> list[AgentMessage]:
    """Return what is stored, by whichever framework, as Agent Framework's messages."""
    return [*_read_backwards(stored)][::-1]


def item_of(message: AgentMessage) -> Message:
    """Return what ``Message.from_dict`` takes, with bytes and tuples as they are.

    As in Agent Framework's own form, objects that are no data, such as a client's own, are left
    out, and times are texts.
    """
    try:
        contents = [_data(each.to_dict()) for each in message.contents]
        names = ("author_name", "message_id", "additional_properties")
        beside = {name: _data(value) for name in names if (value := getattr(message, name))}
    except RecursionError:
        raise too_deep() from None
    return {"role": message.role, "contents": contents, **beside}


def _is_all(form: Message, item: Message) -> bool:
    read = _of_chat(form)
    return read is not None and item_of(read) == item and escape(form) is form


def _data(value: Any) -> Any:
    """Return the value without what is no data; ``_NO_DATA`` if it is none itself."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        pairs = ((_data(key), _data(child)) for key, child in value.items())
        return {key: child for key, child in pairs if _NO_DATA not in (key, child)}
    if isinstance(value, list | tuple):
        children = [child for child in map(_data, value) if child is not _NO_DATA]
        return tuple(children) if isinstance(value, tuple) else children
    if isinstance(value, date | time):
        return str(value)
    if isinstance(value, bytearray):
        return bytes(value)
    return value if isinstance(value, str | int | float | bytes | None) else _NO_DATA


# To chat messages


def _chat_forms(message: AgentMessage) -> list[Message]:
    return [form for form in _split(message) if form is not None]


def _split(message: AgentMessage) -> Iterator[Message | None]:
    hosted = {each.call_id for each in message.contents if each.hosted}
    said: list[Content] = []
    for content in message.contents:
        if content.type != "function_result":
            said.append(content)
        elif content.call_id and content.call_id not in hosted:
            yield _said(message, said)
            yield {"role": "tool", "tool_call_id": content.call_id, "content": _result(content)}
            said = []
    yield _said(message, said)


def _said(message: AgentMessage, contents: Sequence[Content]) -> Message | None:
    if message.role not in _ROLES:
        return None
    form: Message = {"role": message.role}
    if message.role != "assistant":
        parts = [part for each in contents if (part := _part(each)) is not None]
        if not parts:
            return None
        is_text = len(parts) == 1 and parts[0]["type"] == "text"
        form["content"] = parts[0]["text"] if is_text else parts
    else:
        texts = [each.text for each in contents if each.type == "text"]
        calls = [_call(each) for each in contents if _is_call(each)]
        if not texts and not calls:
            return None
        form["content"] = "".join(texts) if texts else None
        if calls:
            form["tool_calls"] = calls
    if message.author_name and _NAME.fullmatch(message.author_name):
        form["name"] = message.author_name
    return form


def _is_call(content: Content) -> bool:
    is_call = content.type == "function_call" and not content.hosted
    return is_call and bool(content.call_id and content.name)


def _call(content: Content) -> Message:
    arguments = content.arguments
    if not isinstance(arguments, str):
        arguments = as_text(arguments or {})
    function = {"name": content.name, "arguments": arguments}
    return {"id": content.call_id, "type": "function", "function": function}


def _result(content: Content) -> str:
    result = content.result
    return result if isinstance(result, str) else "" if result is None else as_text(result)


def _part(content: Content) -> Message | None:
    match content.type:
        case "text":
            return {"type": "text", "text": content.text}
        case "data" | "uri" if content.uri:
            return _file_part(content)
        case "hosted_file" if content.file_id:
            return {"type": "file", "file": {"file_id": content.file_id}}
    return None


def _file_part(content: Content) -> Message:
    uri, (kind, _, subtype) = content.uri, (content.media_type or "").partition("/")
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": uri}}
    if content.type == "uri":  # chat messages have no addresses of documents
        return {"type": "text", "text": uri}
    if kind == "audio" and subtype in _AUDIO:
        audio = {"data": uri.partition(",")[2], "format": _AUDIO[subtype]}
        return {"type": "input_audio", "input_audio": audio}
    return {"type": "file", "file": {"file_data": uri, "filename": content.name or "file"}}


# From stored messages


def _read_backwards(stored: Sequence[Message]) -> Iterator[AgentMessage]:
    parts = 0  # that belong to the message after this one
    for each in reversed(stored):
        item = stored_item(each, FORMAT)
        if not isinstance(item, dict):
            item = {}
        if parts and "part" in item:
            parts -= 1
            continue
        read = _of_item(item.get("message"))
        counted = item.get("parts")
        parts = counted if read is not None and isinstance(counted, int) else 0
        if read is None:
            chat = read_chat(each)
            read = None if chat is None else _of_chat(chat)
        if read is not None:
            yield read


def _of_item(item: Any) -> AgentMessage | None:
    if not isinstance(item, dict):
        return None
    try:
        return AgentMessage.from_dict(item)
    except (ContentError, AttributeError, ValueError, TypeError):  # another version's
        return None


def _of_chat(chat: Message) -> AgentMessage | None:
    role = chat.get("role")
    if role == "tool":
        contents = [
            Content.from_function_result(chat.get("tool_call_id") or "", result=text_of(chat))
        ]
        return AgentMessage("tool", contents)
    if role not in _ROLES:
        return None
    contents = _contents(chat.get("content"))
    if role == "assistant":
        if chat.get("content") == "":  # beside calls, as some frameworks and providers have it
            contents = []
        if not contents and isinstance(chat.get("refusal"), str):
            contents = [Content.from_text(chat["refusal"])]
        contents += _calls(chat.get("tool_calls"))
    name = chat.get("name")
    author = name if isinstance(name, str) else None
    return AgentMessage(role, contents, author_name=author) if contents else None


def _calls(calls: Any) -> Iterator[Content]:
    for call in calls if isinstance(calls, list) else []:
        match call:
            case {"id": str(call_id), "function": {"name": str(name), **function}}:
                arguments = function.get("arguments")
                yield Content.from_function_call(call_id, name, arguments=arguments)
            case {"id": str(call_id), "custom": {"name": str(name), **custom}}:
                yield Content.from_function_call(call_id, name, arguments=custom.get("input"))


def _contents(content: Any) -> list[Content]:
    if isinstance(content, str):
        return [Content.from_text(content)]
    parts = content if isinstance(content, list) else []
    return [found for part in parts if (found := _content(part)) is not None]


def _content(part: Any) -> Content | None:
    try:
        match part:
            case {"text": str(text)}:
                return Content.from_text(text)
            case {"image_url": {"url": str(url)}}:
                return Content.from_uri(url, media_type=_image_type(url))
            case {"input_audio": {"data": str(data), "format": str(kind)}}:
                return Content.from_uri(f"data:audio/{kind};base64,{data}")
            case {"file": {"file_data": str(uri), **file}}:
                return Content.from_uri(uri, name=file.get("filename"))
            case {"file": {"file_id": str(file_id)}}:
                return Content.from_hosted_file(file_id)
    except ContentError:  # no address
        pass
    return None


def _image_type(url: str) -> str | None:
    if url.startswith("data:"):
        return None
    guessed, _ = mimetypes.guess_type(url.partition("?")[0])
    return guessed if guessed and guessed.startswith("image/") else "image/*"
