"""Entries of a Claude transcript as chat messages, and chat messages as entries.

Rules of this file: pure functions. An entry is a line of the transcript: u a user's message, o the
output of a tool in one, a an answer's text, t thinking, f a call of a tool, and s anything else.
Claude writes each part of an answer as an entry of its own. Each bracket is a stored message with
its chat form; [-] has none:

    entries     messages
    u a s       [u] [a] [-]
    u t a f o   [u] [-] [af] [-] [o]    the parts of one answer are one chat message
    u f f o o   [u] [ff] [-] [o] [o]
    oo          [o] [o]                 two outputs in one entry

An entry that has several chat messages stands in the last of them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from hermes_session_mw.adapters.chat_messages import (
    Call,
    calls_in,
    read_chat,
    store_item,
    stored_item,
)
from hermes_session_mw.adapters.escaping import escape_id
from hermes_session_mw.messages import Message
from hermes_session_mw.session.prompts import prompt_of
from hermes_session_mw.stores.message_store import StoredMessage

__all__ = ["entries_of", "messages_of"]

Entry = dict[str, Any]

_FORMAT = "claude_agent"
_PART = "part"  # the only key of what stands beside a chat message that its entry is not in
_LONGEST_ID = 255
_HIDDEN = ("isMeta", "isSidechain", "isCompactSummary", "isApiErrorMessage")
_NOT_IN_TOOL_ID = re.compile("[^a-zA-Z0-9_-]")
_DATA_URL = re.compile("data:([^;,]+);base64,(.*)", re.DOTALL)
_SYNTHETIC = "<synthetic>"  # Claude's own name for the model of what no model has said


@dataclass(slots=True)
class _Answer:
    """The chat form of an answer, to which its later parts are added."""

    name: Any
    chat: Message


# Entries to messages


def messages_of(entries: Sequence[Entry]) -> list[tuple[str | None, Message]]:
    """Return the messages of entries, each with its id; of those with one id, the first alone."""
    found: list[tuple[str | None, Entry, list[Message]]] = []
    seen: set[str] = set()
    answer: _Answer | None = None
    for entry in entries:
        name = _id_of(entry)
        if name in seen:
            continue
        seen |= {name} if name else set()
        chats = _chats_of(entry)
        if chats and chats[0]["role"] == "assistant":
            part = entry["message"].get("id")
            if answer is not None and part and answer.name == part:
                _join(answer.chat, chats[0])
                chats = []
            else:
                answer = _Answer(part, chats[0])
        elif chats:
            answer = None
        found.append((name, entry, chats))
    return [each for name, entry, chats in found for each in _stored(name, entry, chats)]


def _stored(
    name: str | None, entry: Entry, chats: Sequence[Message]
) -> Iterator[tuple[str | None, Message]]:
    for number, chat in enumerate(chats[:-1]):
        part = name and f"{name[: _LONGEST_ID - 10]}#{number}"
        yield part, store_item(_FORMAT, {_PART: number}, chat)
    yield name, store_item(_FORMAT, entry, chats[-1] if chats else None)


def _id_of(entry: Entry) -> str | None:
    name = entry.get("uuid")
    if not isinstance(name, str) or not name:
        return None
    name = escape_id(name)
    digest = sha256(name.encode()).hexdigest()
    return name if len(name) <= _LONGEST_ID else f"sha256:{digest}"


def _chats_of(entry: Entry) -> list[Message]:
    message = entry.get("message")
    if not isinstance(message, dict) or any(entry.get(name) for name in _HIDDEN):
        return []
    blocks = _blocks(message.get("content"))
    if entry.get("type") == "assistant":
        chat = _answer_of(blocks)
        return [chat] if chat["content"] or "tool_calls" in chat else []
    if entry.get("type") != "user":
        return []
    results = [_result_of(block) for block in blocks if block.get("type") == "tool_result"]
    parts = [part for block in blocks if (part := _part_of(block)) is not None]
    return [*results, *([{"role": "user", "content": _simple(parts)}] if parts else [])]


def _blocks(content: Any) -> list[Message]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, dict)]


def _answer_of(blocks: Sequence[Message]) -> Message:
    text = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
    calls = [_call_of(block) for block in blocks if block.get("type") == "tool_use"]
    chat: Message = {"role": "assistant", "content": text or None}
    return {**chat, "tool_calls": calls} if calls else chat


def _join(chat: Message, part: Message) -> None:
    if part["content"]:
        chat["content"] = (chat["content"] or "") + part["content"]
    if "tool_calls" in part:
        chat["tool_calls"] = [*chat.get("tool_calls", []), *part["tool_calls"]]


def _call_of(block: Message) -> Message:
    given = json.dumps(block.get("input") or {}, ensure_ascii=False)
    function = {"name": str(block.get("name", "")), "arguments": given}
    return {"id": str(block.get("id", "")), "type": "function", "function": function}


def _result_of(block: Message) -> Message:
    parts = [part for each in _blocks(block.get("content")) if (part := _part_of(each)) is not None]
    name = str(block.get("tool_use_id", ""))
    return {"role": "tool", "tool_call_id": name, "content": _simple(parts)}


def _simple(parts: list[Message]) -> list[Message] | str:
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part_of(block: Message) -> Message | None:
    """Return a block as the part of a chat message; None if it has no such form."""
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    source = block.get("source")
    if block.get("type") != "image" or not isinstance(source, dict):
        return None
    url = source.get("url")
    if source.get("type") == "base64":
        url = f"data:{source.get('media_type')};base64,{source.get('data')}"
    return {"type": "image_url", "image_url": {"url": url}} if isinstance(url, str) else None


# Messages to entries


def entries_of(session_id: str, messages: Sequence[StoredMessage]) -> list[Entry]:
    """Return the entries of stored messages; what others have stored becomes new ones.

    Those have the same ids whenever they are read, as long as their messages keep their places.
    """
    entries: list[Entry] = []
    others: list[StoredMessage] = []
    for stored in messages:
        item = stored_item(stored.message, _FORMAT)
        if not isinstance(item, dict):
            others.append(stored)
            continue
        entries += _made(session_id, others, _newest_id(entries))
        others = []
        if _PART not in item or "type" in item:
            entries.append(item)
    return [*entries, *_made(session_id, others, _newest_id(entries))]


def _newest_id(entries: Sequence[Entry]) -> str | None:
    found = (entry.get("uuid") for entry in reversed(entries) if not entry.get("isSidechain"))
    return next((name for name in found if name), None)


def _made(session_id: str, others: Sequence[StoredMessage], parent: str | None) -> Iterator[Entry]:
    """Yield the entries of others' messages, which follow the entry ``parent``."""
    chats = [chat for stored in others if (chat := read_chat(stored.message)) is not None]
    for number, message in enumerate(_said(chats)):
        name = str(uuid5(NAMESPACE_OID, f"{session_id}/{others[0].index}/{number}"))
        is_answer = message["role"] == "assistant"
        yield {
            "type": message["role"],
            "uuid": name,
            "parentUuid": parent,
            "sessionId": session_id,
            "timestamp": _time_of(others[0].created_at),
            "isSidechain": False,
            "userType": "external",
            "cwd": "",
            "version": "",
            "message": _as_answer(message, name) if is_answer else message,
        }
        parent = name


def _said(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages of Anthropic's API: the outputs of tools are one of the user's."""
    outputs: list[Message] = []
    for message in prompt_of(messages):
        if message.get("role") == "tool":
            outputs.append(_output_block(message))
            continue
        if outputs:
            yield {"role": "user", "content": outputs}
            outputs = []
        blocks = _content_blocks(message)
        if message.get("role") in ("user", "assistant") and blocks:
            yield {"role": message["role"], "content": blocks}
    if outputs:
        yield {"role": "user", "content": outputs}


def _content_blocks(message: Message) -> list[Message]:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    found = map(_block_of, parts if isinstance(parts, list) else [])
    blocks = [block for block in found if block is not None]
    if message.get("refusal"):
        blocks.append({"type": "text", "text": str(message["refusal"])})
    return [*blocks, *map(_use_block, calls_in(message))]


def _block_of(part: Any) -> Message | None:
    if not isinstance(part, dict):
        return None
    text = part.get("text") or part.get("refusal")
    if isinstance(text, str):
        return {"type": "text", "text": text}
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        return None
    data = _DATA_URL.match(url)
    source = {"type": "url", "url": url}
    if data is not None:
        source = {"type": "base64", "media_type": data[1], "data": data[2]}
    return {"type": "image", "source": source}


def _use_block(call: Call) -> Message:
    return {"type": "tool_use", "id": _tool_id(call.id), "name": call.name, "input": call.given}


def _output_block(message: Message) -> Message:
    name = _tool_id(message.get("tool_call_id"))
    blocks = _content_blocks({"content": message.get("content")})
    return {"type": "tool_result", "tool_use_id": name, "content": blocks}


def _tool_id(name: Any) -> str:
    return _NOT_IN_TOOL_ID.sub("_", str(name or "")) or "_"


def _as_answer(message: Message, name: str) -> Message:
    calls = any(block["type"] == "tool_use" for block in message["content"])
    return {
        "id": f"msg_{name.replace('-', '')}",
        "type": "message",
        "model": _SYNTHETIC,
        **message,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _time_of(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
