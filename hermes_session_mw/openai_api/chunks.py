r"""Reads what a chunk of an upstream's stream says, and a completion that was not streamed.

Rules of this file: pure. What real servers send is taken as it is meant, and what a provider adds
is kept. In these cases c(...) is a chunk whose only choice is given:

    data                                                says
    c({"delta": {"content": "a"}})                      the text "a"
    c({"delta": {"content": "a", "x": 1}}) with "y": 1  the same; x belongs to the message, y to the
                                                        chunk
    c({"message": {"content": "a"}})                    the whole message
    c({"delta": null}), c({})                           nothing, of an answer that has begun
    {"choices": []}                                     the same; it may tell the usage
    {"choices": [null, {"index": 1, ...}]}              the same: the answer is choice 0
    {}, {"choices": null}, {"type": "ping"}             passed over
    null, [], 1, "text"                                 passed over
    {"error": {...}}, [{"error": {...}}]                an error
    {"object": "error", ...}, or the event "error"      an error
    a call's "arguments": {"a": 1}                      the text '{"a": 1}'
    a call's "id": 7, "index": "0"                      "7" and 0
    half of a character, "\ud83d"                       as it is: the rest is in the next chunk
    1e999, NaN                                          null: JSON has no such number
    what is no JSON, c({"delta": 1}), c(1)              refused
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from hermes_session_mw.messages import MAX_DEPTH, Message
from hermes_session_mw.openai_api.characters import whole
from hermes_session_mw.openai_api.usage import Usage, read_usage

_OF_CHUNK = ("id", "object", "created", "model", "choices", "usage", "error", "type",
             "obfuscation")  # fmt: skip
_OF_CHOICE = ("index", "delta", "message", "finish_reason")
_OF_WIRE = ("role",)  # the same for each message of an answer


class InvalidChunk(ValueError):
    """The data is no part of a chat completion."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a chunk says.

    Attributes:
        delta: the pieces of the message's fields, without null.
        is_whole: whether it is the whole message, and not a piece.
        finish_reason: why the answer ends; None before its end.
        usage: the tokens used, with all details; None if it does not tell them.
        model: the model that answers, if it says so.
        choice: what the provider adds to the choice, such as ``logprobs``.
        beside: what it adds to the chunk, such as ``citations``.
        error: the error, in place of all others; its shape is the provider's.
    """

    delta: Message = field(default_factory=dict)
    is_whole: bool = False
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    choice: Message = field(default_factory=dict)
    beside: Message = field(default_factory=dict)
    error: Any = None


def split_delta(delta: Message) -> list[Message]:
    """Return the same as deltas of which each has one tool call alone, or no call.

    LlamaIndex 0.14 runs the first call of a chunk alone, and AutoGen 0.7 none that has text beside.
    """
    calls = delta.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return [delta]
    rest = {name: value for name, value in delta.items() if name != "tool_calls"}
    return [*([rest] if rest else []), *({"tool_calls": [call]} for call in calls)]


def read_chunk(data: str | bytes, event: str = "") -> Chunk | None:
    """Return what the data of an event says, or None if it is passed over.

    Args:
        data: the event's data, or a body that was not streamed.
        event: the event's name.

    Raises:
        InvalidChunk: it is no part of a chat completion.
    """
    value = parse_json(data)
    if isinstance(value, list) and len(value) == 1:
        (value,) = value  # Google's servers put errors into a list
    if not isinstance(value, dict):
        return None
    error = _error(value, event)
    if error:
        return Chunk(error=whole(error))
    choices = value.get("choices")
    if choices is None:
        return None
    if not isinstance(choices, list):
        raise InvalidChunk("its choices are no list")
    return _chunk(value, _first_choice(choices))


def parse_json(data: str | bytes) -> Any:
    """Return a JSON value that others wrote; a number that JSON does not have becomes None.

    Lone surrogates stay as they are.

    Raises:
        InvalidChunk: it is not JSON, or nests deeper than a message may.
    """
    try:
        value = json.loads(data, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        raise InvalidChunk("it is not JSON") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each)]
        if not level:
            return value
    raise InvalidChunk(f"it nests deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [child for child in value.values() if isinstance(child, dict | list)]
    if isinstance(value, list):
        return [child for child in value if isinstance(child, dict | list)]
    return []


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _error(value: dict[str, Any], event: str) -> Any:
    """Return the error that the value tells, in any of the ways of real servers."""
    if value.get("error"):
        return value["error"]
    is_error = "error" in (event, value.get("object"), value.get("type"))
    return value if is_error and not value.get("choices") else None


def _first_choice(choices: list[Any]) -> dict[str, Any]:
    given = [choice for choice in choices if choice is not None]
    if not all(isinstance(choice, dict) for choice in given):
        raise InvalidChunk("a choice is no object")
    return next((each for each in given if each.get("index", 0) in (0, None)), {})


def _chunk(value: dict[str, Any], choice: dict[str, Any]) -> Chunk:
    is_whole = not choice.get("delta") and bool(choice.get("message"))
    reason, model = choice.get("finish_reason"), value.get("model")
    return Chunk(
        delta=_delta(choice.get("message" if is_whole else "delta") or {}),
        is_whole=is_whole,
        finish_reason=whole(reason) if isinstance(reason, str) and reason else None,
        usage=read_usage(whole(value.get("usage"))),
        model=whole(model) if isinstance(model, str) and model else None,
        choice=whole(_others(choice, _OF_CHOICE)),
        beside=whole(_others(value, _OF_CHUNK)),
    )


def _others(value: dict[str, Any], known: tuple[str, ...]) -> Message:
    return {name: each for name, each in value.items() if name not in known and each is not None}


def _delta(message: Any) -> Message:
    if not isinstance(message, dict):
        raise InvalidChunk("a message is no object")
    fields = _others(message, _OF_WIRE)
    if not isinstance(fields.get("content", ""), str | list):
        raise InvalidChunk("a content is neither text nor a list")
    if "tool_calls" in fields:
        fields["tool_calls"] = _calls(fields["tool_calls"])
    return fields


def _calls(calls: Any) -> list[Message]:
    if not isinstance(calls, list):
        raise InvalidChunk("the tool calls are no list")
    given = [call for call in calls if call is not None]
    if not all(isinstance(call, dict) for call in given):
        raise InvalidChunk("a tool call is no object")
    return [_call(call) for call in given]


def _call(call: Message) -> Message:
    told = _others(call, ("id", "index"))
    if call.get("id") not in (None, ""):
        told["id"] = str(call["id"])
    index = _index(call.get("index"))
    if index is not None:
        told["index"] = index
    for kind, texts in (("function", ("name", "arguments")), ("custom", ("name", "input"))):
        if kind in told:
            told[kind] = _called(told[kind], texts)
    return told


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _called(called: Any, texts: tuple[str, ...]) -> Message:
    """Return what is called, whose ``texts`` are texts: some servers send objects."""
    if not isinstance(called, dict):
        raise InvalidChunk("what a tool call calls is no object")
    told = _others(called, ())
    for name in texts:
        if not isinstance(told.get(name, ""), str):
            told[name] = json.dumps(told[name], ensure_ascii=False)
    return told
