"""A conversation as an upstream takes it.

Rules of this file: pure functions; messages are never changed. A message goes back with all that it
came with, since some providers refuse it otherwise, or answer worse:

    key                             who wants it back
    reasoning_content               DeepSeek, with tool calls, also if it is empty
    reasoning_details, reasoning    OpenRouter, and servers such as vLLM and Ollama
    a call's extra_content          Google: it has the thought_signature
    audio                           OpenAI: only its id, and until expires_at only

Other servers refuse keys that are not OpenAI's, also if an answer of another one has them: Groq,
Mistral, Cerebras. What they say is told by `refused_parts`, and `in_plain_form` is what they take.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from hermes_session_mw.messages import Message, chat_messages
from hermes_session_mw.session.prompts import prompt_of
from hermes_session_mw.session.tool_calls import is_result, unanswered_calls

RefusedPart = Literal["stream_options", "extras"]

_PLAIN = {
    "assistant": ("content", "name", "refusal", "audio", "tool_calls", "function_call"),
    "tool": ("content", "tool_call_id"),
}
"""The keys of a message that OpenAI's API has, beside its role."""

_PLAIN_OF_OTHERS = ("content", "name")
_PLAIN_CALL = ("id", "type", "function", "custom")
_PLAIN_CALLED = ("name", "arguments", "input")
_PLAIN_PARTS = ("text", "refusal")
_EMPTY: tuple[Any, ...] = (None, [], {})
_REFUSALS = (400, 422)
_SAYS_EXTRA = (
    "extra inputs",
    "extra_forbidden",
    "additional properties",
    "unrecognized",
    "unknown",
)


def for_upstream(messages: Sequence[Message], now: float | None = None) -> list[Message]:
    """Return the messages in the form in which an upstream takes them back.

    Consecutive user messages become one, because some servers require alternating roles. ``now`` is
    the time in seconds since the epoch; None for the clock's.
    """
    now = time.time() if now is None else now
    return _joined(_told(each, now) for each in prompt_of(messages))


def in_plain_form(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the keys of OpenAI's API, and no others.

    Answers in which nothing remains are left out.
    """
    return _joined(
        plain
        for plain in map(_plain, messages)
        if plain["role"] != "assistant" or any(plain.get(name) for name in _PLAIN["assistant"])
    )


def refused_parts(status: int, body: str, messages: Sequence[Message]) -> list[RefusedPart]:
    """Return what of a request an upstream refuses that it can do without.

    Args:
        status: the response's status.
        body: its body, in whichever shape.
        messages: the messages that were sent.
    """
    if status not in _REFUSALS:
        return []
    said = body.lower()
    refused: list[RefusedPart] = []
    if "stream_options" in said or "include_usage" in said:
        refused.append("stream_options")
    extras = _extras(messages)
    names_one = any(name.lower() in said for name in extras)
    if extras and (names_one or ("messages" in said and any(map(said.__contains__, _SAYS_EXTRA)))):
        refused.append("extras")
    return refused


def answers_calls(messages: Sequence[Message]) -> bool:
    """Return whether the last tool results answer exactly the calls before them."""
    messages = chat_messages(messages)
    end = max(at for at, message in enumerate(messages) if is_result(message)) + 1
    start = end
    while start and is_result(messages[start - 1]):
        start -= 1
    calls = sorted(str(call.get("id")) for call in unanswered_calls(messages[:start]))
    results = sorted(str(each.get("tool_call_id")) for each in messages[start:end])
    return bool(calls) and calls == results


def _told(message: Message, now: float) -> Message:
    told = {key: value for key, value in message.items() if value not in _EMPTY}
    told = {"role": message.get("role"), "content": None} | told
    audio = told.get("audio")
    if told["role"] == "assistant" and isinstance(audio, dict):
        told |= _spoken(told, audio, now)
    return {key: value for key, value in told.items() if key == "content" or value not in _EMPTY}


def _spoken(message: Message, audio: Message, now: float) -> Message:
    """Return an answer's audio by its id, or its transcript once the id is not known any more."""
    expires = audio.get("expires_at")
    if audio.get("id") and not (isinstance(expires, int | float) and expires <= now):
        return {"audio": {"id": audio["id"]}}
    return {"audio": None, "content": message["content"] or audio.get("transcript")}


def _plain(message: Message) -> Message:
    keys = _PLAIN.get(message["role"], _PLAIN_OF_OTHERS)
    plain = {"role": message["role"], "content": message.get("content")}
    plain |= {key: message[key] for key in keys if key in message}
    if message["role"] != "assistant":
        return plain
    if isinstance(plain["content"], list):
        parts = (part for part in plain["content"] if isinstance(part, dict))
        plain["content"] = [part for part in parts if part.get("type") in _PLAIN_PARTS] or None
    if "tool_calls" in plain:
        plain["tool_calls"] = [_plain_call(call) for call in plain["tool_calls"]]
    return plain


def _plain_call(call: Message) -> Message:
    plain = {key: call[key] for key in _PLAIN_CALL if key in call}
    for kind in ("function", "custom"):
        if isinstance(plain.get(kind), dict):
            called = plain[kind].items()
            plain[kind] = {key: value for key, value in called if key in _PLAIN_CALLED}
    return plain


def _extras(messages: Sequence[Message]) -> set[str]:
    """Return the names of the keys that are not OpenAI's."""
    found: set[str] = set()
    for message, plain in zip(messages, map(_plain, messages), strict=True):
        found |= message.keys() - plain.keys()
        if message["role"] != "assistant":
            continue
        calls, plain_calls = message.get("tool_calls") or [], plain.get("tool_calls") or []
        for call, plain_call in zip(calls, plain_calls, strict=True):
            found |= call.keys() - plain_call.keys()
        if message.get("content") != plain.get("content"):
            found.add("content")
    return found


def _joined(messages: Iterable[Message]) -> list[Message]:
    joined: list[Message] = []
    contents: list[list[Any]] = []  # of each, those that become one
    for message in messages:
        if joined and _may_join(joined[-1], message):
            contents[-1].append(message["content"])
        else:
            joined.append(message)
            contents.append([message.get("content")])
    return [
        message if len(several) == 1 else message | {"content": _together(several)}
        for message, several in zip(joined, contents, strict=True)
    ]


def _may_join(one: Message, other: Message) -> bool:
    if not one["role"] == other["role"] == "user":
        return False
    return one | {"content": None} == other | {"content": None}


def _together(contents: Sequence[Any]) -> Any:
    """Return a text, if all are texts, else a list of parts."""
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    return [part for content in contents for part in _parts(content)]


def _parts(content: Any) -> list[Message]:
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
