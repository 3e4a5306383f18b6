"""A conversation for strict servers: the keys of Chat Completions, and no others."""

from collections.abc import Sequence
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.session.prompts import prompt_of
from hermes_session_mw.session.tool_calls import is_result, unanswered_calls

_KEYS = ("role", "content", "name", "refusal", "tool_calls", "tool_call_id", "reasoning_content")


def answers_calls(messages: Sequence[Message]) -> bool:
    """Return whether the last tool results answer exactly the calls before them."""
    end = max(at for at, message in enumerate(messages) if is_result(message)) + 1
    start = end
    while start and is_result(messages[start - 1]):
        start -= 1
    calls = sorted(str(call.get("id")) for call in unanswered_calls(messages[:start]))
    results = sorted(str(each.get("tool_call_id")) for each in messages[start:end])
    return bool(calls) and calls == results


def for_upstream(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with only the keys that servers know.

    Consecutive user messages become one, because some servers require alternating roles.
    """
    joined: list[Message] = []
    for message in map(_plain, prompt_of(messages)):
        if joined and _may_join(joined[-1], message):
            joined[-1] = joined[-1] | {"content": _both(joined[-1]["content"], message["content"])}
        else:
            joined.append(message)
    return joined


def _plain(message: Message) -> Message:
    plain = {key: message[key] for key in _KEYS if message.get(key) not in (None, [])}
    return {"role": message["role"], "content": None} | plain


def _may_join(one: Message, other: Message) -> bool:
    return one["role"] == other["role"] == "user" and one.get("name") == other.get("name")


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: Any) -> list[Message]:
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
