"""A server that takes of a conversation what OpenAI's Chat Completions have, and nothing else."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hermes_session_mw.messages import Message
from tests.support.upstreams import Exchange

KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "audio", "tool_calls", "function_call"},
    "tool": {"role", "content", "tool_call_id"},
    "function": {"role", "content", "name"},
}


def refusal_of(messages: Sequence[Message]) -> str | None:
    """Return what is wrong with the messages of a request, None where nothing is."""
    problems = [f"messages[{at}].{problem}" for at, problem in _problems(messages)]
    return problems[0] if problems else None


def strict(exchange: Exchange) -> None:
    """Answer with the number of messages, or refuse them."""
    problem = refusal_of(exchange.body["messages"])
    if problem is not None:
        exchange.answer(400, {"error": {"message": problem, "type": "invalid_request_error"}})
    else:
        exchange.say(f"{len(exchange.body['messages'])} messages")


def _problems(messages: Sequence[Message]) -> list[tuple[int, str]]:
    found = []
    due: Counter[Any] = Counter()
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in KEYS:
            found.append((at, "role"))
            continue
        found += [(at, key) for key in message if key not in KEYS[role]]
        if role in ("tool", "function"):
            key = (role, message.get("tool_call_id" if role == "tool" else "name"))
            if not due[key]:
                found.append((at, "tool_call_id: nobody calls it"))
            due[key] -= 1
            continue
        if +due:
            found.append((at, f"role: {+due} have no result before it"))
        due = Counter()
        if role == "assistant":
            due = _calls(message)
            if "tool_calls" in message and not message["tool_calls"]:
                found.append((at, "tool_calls: []"))
            if not any(message.get(key) for key in KEYS[role] - {"role", "name"}):
                found.append((at, "content: there is none"))
    if +due:
        found.append((len(messages), f"role: {+due} have no result"))
    return found


def _calls(message: Message) -> Counter[Any]:
    calls: Counter[Any] = Counter(("tool", each["id"]) for each in message.get("tool_calls") or [])
    if message.get("function_call"):
        calls["function", message["function_call"]["name"]] += 1
    return calls
