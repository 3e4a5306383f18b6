"""A stored conversation as a strict server takes it: what is kept beside the messages is not."""

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any

from hermes_session_mw.messages import Message

_KEYS = ("role", "content", "name", "refusal", "tool_calls", "tool_call_id")


def call_ids(message: Message) -> list[str]:
    """Return the ids of the tools that a message calls."""
    calls = message.get("tool_calls")
    given = calls if isinstance(calls, list) else []
    ids = [call.get("id") for call in given if isinstance(call, dict)]
    return [each for each in ids if isinstance(each, str)]


def answers_calls(results: Sequence[Message], before: Sequence[Message]) -> bool:
    """Tell whether the results are those of all the tools that the last message before calls."""
    calls = call_ids(before[-1]) if before else []
    return bool(calls) and sorted(calls) == sorted(
        str(each.get("tool_call_id")) for each in results
    )


def for_upstream(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the keys of Chat Completions, in an order that servers take.

    Calls of tools without their results, and results without their calls, are left out, as
    answers of which nothing came are: what broke off would have each later request refused. For
    the same reason, messages of the user that follow each other become one.
    """
    joined: list[Message] = []
    for message in _whole([_plain(each) for each in messages]):
        if joined and _may_join(joined[-1], message):
            joined[-1] = joined[-1] | {"content": _both(joined[-1]["content"], message["content"])}
        else:
            joined.append(message)
    return joined


def _plain(message: Message) -> Message:
    plain = {key: message[key] for key in _KEYS if message.get(key) not in (None, [])}
    return {"role": message["role"], "content": None} | plain


def _whole(messages: Sequence[Message]) -> Iterator[Message]:
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            continue
        following = islice(messages, at + 1, None)
        results = list(takewhile(lambda each: each["role"] == "tool", following))
        if answers_calls(results, [message]):
            yield message
            yield from results
        elif message["role"] != "assistant" or message["content"] or message.get("refusal"):
            message.pop("tool_calls", None)
            yield message


def _may_join(one: Message, other: Message) -> bool:
    return one["role"] == other["role"] == "user" and one.get("name") == other.get("name")


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: Any) -> list[Message]:
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
