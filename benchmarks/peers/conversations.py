"""Conversations to store: questions and answers of a usual size, and now and then a tool call."""

from typing import Any

_TEXT = (
    "the a of and to in that it is was for on with as be at by this had not are but from or have "
    "an they which one you were her all she there would their we him been has when who will more "
    "no if out so said what up its about into than them can only other new some could time these"
)
_WORDS = _TEXT.split()
_SHORTEST = 200
_SPAN = 200
_TOOL_CALL_EVERY = 10


def conversation(length: int) -> list[dict[str, Any]]:
    """Return ``length`` messages, the user's and the assistant's in turn."""
    return [_message(number) for number in range(length)]


def _message(number: int) -> dict[str, Any]:
    role = "assistant" if number % 2 else "user"
    message: dict[str, Any] = {"role": role, "content": _content(number)}
    if number % _TOOL_CALL_EVERY == _TOOL_CALL_EVERY - 1:
        function = {"name": "look_up", "arguments": f'{{"page": {number}, "language": "en"}}'}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
    return message


def _content(number: int) -> str:
    length = _SHORTEST + number * 37 % _SPAN
    words = [_WORDS[(number * 7 + place * 3) % len(_WORDS)] for place in range(length // 4)]
    return f"{number}: {' '.join(words)}".ljust(_SHORTEST, ".")[:length]
