"""Converts items of the Responses API to messages of Chat Completions, and back.

Rules of this file: pure functions over JSON values. What is read is read leniently: keys that are
not known here are kept. Items that are written have all that the types of OpenAI's SDKs require.

In these cases u is a user's message, a an answer's text, r reasoning, f a call of a function or of
a custom tool, o the output of one, and s a system message. Everything in brackets is one message:

    items       messages
    u           [u]
    uau         [u] [a] [u]
    suau        [s] [u] [a] [u]
    uffoo       [u] [ff] [o] [o]        the calls of one answer are one message
    uafofoa     [u] [af] [o] [f] [o] [a]
    uraf        [u] [raf]               reasoning belongs to what follows it
    urfoa       [u] [rf] [o] [a]
    urarfo      [u] [ra] [rf] [o]
    uru         [u] [r] [u]             an answer that broke off while it reasoned
    uaa         [u] [a] [a]             two answers stay two
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hermes_session_mw.messages import ITEM, Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest, unsupported
from hermes_session_mw.session.recording import is_incomplete

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
REASONING_ITEMS = "codex_reasoning_items"
"""The key of a message that keeps reasoning items as they came; Hermes Agent's own name for it."""

_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = ("input_text", "output_text", "text")
_BESIDE_CALL = ("type", "id", "call_id", "name", "status", "created_by")
_CALLING = ("tool_calls", "function_call")
_SAID = ("content", "refusal", "annotations")
_ENDED_EARLY = ("length", "content_filter")


# Items to messages


def messages_of(items: Sequence[Any], param: str = "input") -> list[Message]:
    """Return the messages that the items are; the table above has the cases.

    References to other items have to be resolved before: see `with_references`.

    Raises:
        InvalidRequest: an item is of a wrong shape, or of a type that is not supported; ``param``
            is the field that has the items.
    """
    messages: list[Message] = []
    thoughts: list[Item] = []
    for number, item in enumerate(items):
        where = f"{param}[{number}]"
        kind = type_of(item, where)
        if kind == "reasoning":
            thoughts.append(_checked_reasoning(item, where))
            continue
        if kind in _CALLS:
            _add_call(messages, thoughts, _call_of(item, kind, where))
        else:
            message = _output_of(item, where) if kind in _OUTPUTS else _message_of(item, where)
            _add_message(messages, thoughts, message)
        thoughts = []
    if thoughts:
        messages.append(_with_thoughts({"role": "assistant", "content": None}, thoughts))
    return messages


def input_items(value: Any, param: str = "input") -> list[Item]:
    """Return the items of a request's ``input``: a text is a user's message.

    Raises:
        InvalidRequest: it is neither a text nor a list of objects.
    """
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if not isinstance(value, list):
        raise InvalidRequest(f"'{param}' is neither text nor a list", param)
    for number, item in enumerate(value):
        type_of(item, f"{param}[{number}]")
    return value


def with_references(
    items: Sequence[Item], found: Mapping[str, Item], param: str = "input"
) -> list[Item]:
    """Return the items with those in place that are referred to by ids, out of ``found``.

    Raises:
        InvalidRequest: there is no such item (404).
    """
    for number, item in enumerate(items):
        if is_reference(item) and item["id"] not in found:
            problem = f"'{param}[{number}]' refers to an item that is not stored"
            raise InvalidRequest(problem, param, status=404)
    return [found[item["id"]] if is_reference(item) else item for item in items]


def is_reference(item: Item) -> bool:
    """Return whether the item only refers to another one."""
    return type_of(item, "input") == "item_reference"


def type_of(item: Any, where: str) -> str:
    """Return an item's type, which messages and references may leave out.

    Raises:
        InvalidRequest: it is no object, or of a type that is not supported.
    """
    if not isinstance(item, dict):
        raise InvalidRequest(f"'{where}' is not an object", where)
    kind = item.get("type")
    if kind is None:
        kind = "item_reference" if "role" not in item and "id" in item else "message"
    if kind == "item_reference" and not isinstance(item.get("id"), str):
        raise InvalidRequest(f"'{where}.id' is not a string", f"{where}.id")
    if kind not in ("message", "item_reference", "reasoning", *_CALLS, *_OUTPUTS):
        raise unsupported(f"{where}.type", repr(kind) if isinstance(kind, str) else "its value")
    return str(kind)


def _add_message(messages: list[Message], thoughts: list[Item], message: Message) -> None:
    if message["role"] == "assistant":
        message = _with_thoughts(message, thoughts)
    elif thoughts:
        messages.append(_with_thoughts({"role": "assistant", "content": None}, thoughts))
    messages.append(message)


def _add_call(messages: list[Message], thoughts: list[Item], call: Message) -> None:
    """Add a call to the answer before it, unless new reasoning or another message comes between."""
    if thoughts or not messages or messages[-1]["role"] != "assistant":
        messages.append(_with_thoughts({"role": "assistant", "content": None}, thoughts))
    messages[-1].setdefault("tool_calls", []).append(call)


def _with_thoughts(message: Message, thoughts: Sequence[Item]) -> Message:
    """Return an answer with its reasoning: the text where there is one, and the rest as it came."""
    texts = [part["text"] for item in thoughts for part in item.get("content") or []]
    fields: Message = {"reasoning_content": "\n\n".join(texts)} if texts else {}
    if any(item.get("encrypted_content") or item.get("summary") for item in thoughts):
        fields[REASONING_ITEMS] = list(thoughts)
    return message | fields


def _checked_reasoning(item: Item, where: str) -> Item:
    for name in ("content", "summary"):
        parts = item.get(name) or []
        if not isinstance(parts, list) or not all(map(_has_text, parts)):
            raise InvalidRequest(f"'{where}.{name}' is not a list of texts", f"{where}.{name}")
    return item


def _has_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _call_of(item: Item, kind: str, where: str) -> Message:
    name, given = _CALLS[kind]
    texts = {each: _text(item, each, where) for each in ("call_id", "name", given)}
    called = {"name": texts["name"], given: texts[given]}
    rest = _rest(item, (*_BESIDE_CALL, given))
    return {"id": texts["call_id"], "type": name, name: called} | rest


def _output_of(item: Item, where: str) -> Message:
    call_id, output = _text(item, "call_id", where), item.get("output")
    if not isinstance(output, str):
        output = _plain(_parts(output, f"{where}.output"))
    return {"role": "tool", "tool_call_id": call_id, "content": output}


def _message_of(item: Item, where: str) -> Message:
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise InvalidRequest(f"'{where}.role' is none of {', '.join(ROLES)}", f"{where}.role")
    if isinstance(content, str):
        return {"role": role, "content": content}
    noted = content if isinstance(content, list) and role == "assistant" else []
    notes = [
        nested_annotation(note)
        for part in noted
        if isinstance(part, dict) and isinstance(part.get("annotations"), list)
        for note in part["annotations"]
    ]
    message = {"role": role, "content": _plain(_parts(content, f"{where}.content"))}
    return message | ({"annotations": notes} if notes else {})


def _plain(parts: list[Message]) -> list[Message] | str:
    """Return a single text as a text: SDKs send parts always, and some servers do not read them."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def _parts(content: Any, where: str) -> list[Message]:
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' is neither text nor a list", where)
    return [_part(part, f"{where}[{number}]") for number, part in enumerate(content)]


def _part(part: Any, where: str) -> Message:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise InvalidRequest(f"'{where}' has no type", where)
    if kind in _TEXTS:
        rest = _rest(part, ("type", "text", "annotations", "logprobs"))
        return {"type": "text", "text": _text(part, "text", where)} | rest
    if kind == "refusal":
        return {"type": "refusal", "refusal": _text(part, "refusal", where)}
    if kind == "input_audio":
        return dict(part)
    if kind == "input_image":
        return _image(part, where)
    if kind == "input_file":
        return _file(part, where)
    raise unsupported(f"{where}.type", repr(kind))


def _image(part: Message, where: str) -> Message:
    if part.get("file_id") is not None:
        raise unsupported(f"{where}.file_id")
    image = {"url": _text(part, "image_url", where)}
    if part.get("detail") is not None:
        image["detail"] = _text(part, "detail", where)
    rest = _rest(part, ("type", "image_url", "detail"))
    return {"type": "image_url", "image_url": image} | rest


def _file(part: Message, where: str) -> Message:
    if part.get("file_url") is not None:
        raise unsupported(f"{where}.file_url")
    file = _rest(part, ("type",))
    if not {"file_data", "file_id"} & file.keys():
        raise InvalidRequest(f"'{where}.file_data' is missing", f"{where}.file_data")
    return {"type": "file", "file": file}


def _text(item: Item, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"'{where}.{name}' is not a string", f"{where}.{name}")
    return value


def _rest(item: Item, known: Sequence[str]) -> Message:
    return {name: value for name, value in item.items() if name not in known and value is not None}


# Messages to items


def items_of(
    message: Message, name: Callable[[Item], str], *, is_custom: bool = False
) -> list[Item]:
    """Return the items that a stored message is, in order: reasoning, text, calls.

    Args:
        message: a message in the shape of Chat Completions, or of any other shape.
        name: returns an item's id; it is called for each item in order, before that has one.
        is_custom: whether the message is the output of a custom tool.
    """
    early = is_incomplete(message) or message.get("finish_reason") in _ENDED_EARLY
    status = "incomplete" if early else "completed"
    role = message.get("role")
    if role in ("tool", "function"):
        items = [_output_item(message, is_custom=is_custom)]
    elif role == "assistant":
        items = _answer_items(message)
    else:
        parts = [_input_part(part) for part in _content(message)]
        shown = role if role in ROLES else "unknown"
        items = [{"type": "message", "role": shown, "content": parts}]
    return [{"id": name(item), "status": status} | item for item in items]


def without_last_item(message: Message) -> Message | None:
    """Return a stored message without the last of its items; None if nothing remains."""
    if message.get("role") != "assistant":
        return None
    # Another framework's form of it would be the whole message still.
    message = {name: value for name, value in message.items() if name != ITEM}
    calls = calls_of(message)
    left_out = _CALLING if calls else _SAID
    kept = {name: value for name, value in message.items() if name not in left_out}
    if calls[:-1]:
        return kept | {"tool_calls": calls[:-1]}
    kept = {"content": None} | kept
    remains = _reasoning_items(kept) or _answer_parts(kept)
    return kept if remains and kept != message else None


def _answer_items(message: Message) -> list[Item]:
    parts = _answer_parts(message)
    said = [{"type": "message", "role": "assistant", "content": parts}] if parts else []
    items = [*_reasoning_items(message), *said, *map(_call_item, calls_of(message))]
    return items or [{"type": "message", "role": "assistant", "content": [output_text("")]}]


def calls_of(message: Message) -> list[Message]:
    """Return the calls of an answer, also that of the older API, which has no id."""
    calls, older = message.get("tool_calls"), message.get("function_call")
    several = _listed(calls)
    if isinstance(older, dict):
        several = [*several, {"id": older.get("name"), "type": "function", "function": older}]
    return [call for call in several if isinstance(call, dict)]


def is_custom_call(call: Message) -> bool:
    """Return whether a call is one of a custom tool, whose input is text and not JSON."""
    return call.get("type") == "custom" or isinstance(call.get("custom"), dict)


def call_item(call: Message, status: str, item_id: str) -> Item:
    """Return a call of Chat Completions as an item."""
    return {"id": item_id, "status": status} | _call_item(call)


def _call_item(call: Message) -> Item:
    kind = "custom_tool_call" if is_custom_call(call) else "function_call"
    key, given = _CALLS[kind]
    value = call.get(key)
    called: Message = value if isinstance(value, dict) else {}
    rest = {name: value for name, value in call.items() if name not in ("id", "type", "index", key)}
    return rest | {
        "type": kind,
        "call_id": str(call.get("id") or ""),
        "name": str(called.get("name") or ""),
        given: _as_text(called.get(given)),
    }


def _output_item(message: Message, *, is_custom: bool) -> Item:
    content = message.get("content")
    parts = [_input_part(part) for part in _content(message)]
    return {
        "type": "custom_tool_call_output" if is_custom else "function_call_output",
        "call_id": str(message.get("tool_call_id") or message.get("name") or ""),
        "output": content if isinstance(content, str) else parts,
    }


def _reasoning_items(message: Message) -> list[Item]:
    items = [each for each in _listed(message.get(REASONING_ITEMS)) if isinstance(each, dict)]
    if items:
        return [
            {"summary": []} | _rest(item, ("id", "status")) | {"type": "reasoning"}
            for item in items
        ]
    text = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(text, str) or not text:
        return []
    return [{"type": "reasoning", "summary": [], "content": [reasoning_text(text)]}]


def _answer_parts(message: Message) -> list[Message]:
    parts: list[Message] = [
        {"type": "refusal", "refusal": _as_text(part.get("refusal"))}
        if part.get("type") == "refusal"
        else output_text(_as_text(part.get("text"))) | _rest(part, ("type", "text"))
        for part in _content(message)
        if part.get("type") in ("refusal", *_TEXTS)
    ]
    notes = message.get("annotations")
    if isinstance(notes, list) and parts:
        parts[0]["annotations"] = [flat_annotation(note) for note in notes]
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    return parts


def _content(message: Message) -> list[Message]:
    content = message.get("content")
    if isinstance(content, list):
        return [part for part in content if isinstance(part, dict)]
    return [{"type": "text", "text": content}] if isinstance(content, str) and content else []


def _input_part(part: Message) -> Message:
    kind = part.get("type")
    if kind in _TEXTS:
        return {**part, "type": "input_text"}
    if kind == "image_url":
        image = part.get("image_url")
        given: Message = image if isinstance(image, dict) else {"url": image}
        detail = given.get("detail") or "auto"
        rest = _rest(part, ("type", "image_url"))
        return {"type": "input_image", "image_url": given.get("url"), "detail": detail} | rest
    if kind == "file" and isinstance(part.get("file"), dict):
        return {"type": "input_file", **part["file"]}
    return part


def output_text(text: str) -> Message:
    """Return the part of an answer that is text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def logprobs_of(choice: Message) -> list[Message]:
    """Return the log probabilities of a choice of Chat Completions as a text's part has them."""
    found = choice.get("logprobs")
    entries = found.get("content") if isinstance(found, dict) else None
    return [_logprob(entry) for entry in _listed(entries) if isinstance(entry, dict)]


def _logprob(entry: Message) -> Message:
    top = [each for each in _listed(entry.get("top_logprobs")) if isinstance(each, dict)]
    told = [each | {"bytes": _listed(each.get("bytes"))} for each in (entry, *top)]
    return told[0] | {"top_logprobs": told[1:]}


def reasoning_text(text: str) -> Message:
    """Return the part of a reasoning item that is text."""
    return {"type": "reasoning_text", "text": text}


def flat_annotation(note: Any) -> Any:
    """Return an annotation of Chat Completions as Responses has it: without a level of its own."""
    kind = note.get("type") if isinstance(note, dict) else None
    inner = note.get(kind) if isinstance(kind, str) else None
    return {"type": kind} | inner if isinstance(inner, dict) else note


def nested_annotation(note: Any) -> Any:
    """Return an annotation of Responses as Chat Completions has it."""
    kind = note.get("type") if isinstance(note, dict) else None
    if not isinstance(kind, str) or isinstance(note.get(kind), dict):
        return note
    return {"type": kind, kind: _rest(note, ("type",))}


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
