"""A message as a row of Hermes' table, and back.

Rules of this file: pure functions; ``decode`` gives key for key what Hermes Agent 0.19 gives, in
its order; what ``encode`` lets through is what ``decode`` gives back.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hermes_session_mw.exceptions import InvalidMessage
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.hermes_state.text_cleanup import cleaned

_JSON = "\0json:"  # begins a content that is no text
_INCOMPLETE = "incomplete"
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_NAMED = 5  # keys in an error's text
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class _Field:
    """One key of a message, and the column that holds it.

    ``read`` and ``write`` turn the column's value into the key's and back; None from ``write`` is
    for a value that the column cannot hold. What ``is_there`` says no to is left out on reading.
    """

    key: str
    column: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    of_assistant: bool = False
    is_there: Callable[[Any], bool] = bool


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _json(value: Any) -> Any:
    return json.dumps(value) if value else None


def _parser(fallback: Any) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        try:
            return json.loads(value)
        except (ValueError, TypeError, RecursionError):
            return list(fallback) if fallback is not None else None

    return parse


def _true(_value: Any) -> bool:
    return True


def _one(value: Any) -> Any:
    return 1 if value is True else 0


def _moment(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _is_set(value: Any) -> bool:
    return value is not None


_FIELDS = (
    _Field("api_content", "api_content", _same, _text),
    _Field("timestamp", "timestamp", _same, _moment),
    _Field("tool_call_id", "tool_call_id", _same, _text),
    _Field("tool_name", "tool_name", _same, _text),
    _Field("effect_disposition", "effect_disposition", _same, _text),
    _Field("tool_calls", "tool_calls", _parser(()), _json),
    _Field("message_id", "platform_message_id", _same, _text),
    _Field("observed", "observed", _true, _one),
    _Field("finish_reason", "finish_reason", _same, _text, of_assistant=True),
    _Field("reasoning", "reasoning", _same, _text, of_assistant=True),
    _Field(
        "reasoning_content", "reasoning_content", _same, _text, of_assistant=True, is_there=_is_set
    ),
    *(
        _Field(name, name, _parser(None), _json, of_assistant=True)
        for name in ("reasoning_details", "codex_reasoning_items", "codex_message_items")
    ),
)

COLUMNS = ("role", "content", *(field.column for field in _FIELDS))
"""The columns that hold a message."""


def decode(row: Mapping[str, Any]) -> Message:
    """Return the message that ``row`` holds; columns that it does not have hold nothing."""
    role, content = row["role"], _content(row["content"])
    if role in ("user", "assistant") and isinstance(content, str):
        content = cleaned(content)
    message = {"role": role, "content": content}
    for field in _FIELDS:
        value = row.get(field.column)
        if field.is_there(value) and (role == "assistant" or not field.of_assistant):
            message[field.key] = field.read(value)
    return message


def encode(
    number: int, message: Message, columns: Collection[str], *, exact: bool
) -> dict[str, Any]:
    """Return the row for ``message``; its ``timestamp`` is None where the message has none.

    ``columns`` are the ones that the table has. A message that would come back changed is refused;
    but unless ``exact``, what Hermes leaves out or cleans on reading may be there: empty values,
    and white space at a text's ends. An answer that broke off is then marked in Hermes' own way.

    Raises:
        InvalidMessage: it cannot be stored.
    """
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise _invalid(number, "has no role that is a text")
    if isinstance(content, list | dict):
        content = _JSON + json.dumps(content)
    elif content is not None and not isinstance(content, str):
        raise _invalid(number, f"has a {type(content).__name__} for its content")
    row = {"role": role, "content": content}
    for field in _FIELDS:
        of_role = role == "assistant" or not field.of_assistant
        if field.column in columns:
            row[field.column] = field.write(message.get(field.key)) if of_role else None
    if not exact and _is_broken_off(message) and "finish_reason" in columns:
        row["finish_reason"] = _INCOMPLETE
    changed = _changed(message, decode(row))
    if not exact:
        changed = [key for key in changed if not _may_change(key, message)]
    if changed:
        names = ", ".join(repr(name[:_LONGEST_NAME]) for name in changed[:_NAMED])
        raise _invalid(number, f"would come back from Hermes' database changed, in {names}")
    return row


def _content(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_JSON):
        return value
    try:
        return json.loads(value.removeprefix(_JSON))
    except (ValueError, RecursionError):
        return value


def _changed(message: Message, back: Message) -> list[str]:
    """Return the keys that differ; 1, 1.0 and true do, and the order of keys does not."""
    given = {"content": None, **message}
    return [key for key in {**given, **back} if _form(given, key) != _form(back, key)]


def _is_broken_off(message: Message) -> bool:
    """Tell whether it is an answer that ``session.record()`` marked: no column is for that."""
    is_answer = message.get("role") == "assistant" and not message.get("finish_reason")
    return is_answer and message.get("status") == _INCOMPLETE


def _may_change(key: str, message: Message) -> bool:
    if key in ("status", "finish_reason"):
        return _is_broken_off(message)
    value = message.get(key)
    is_text = key == "content" and isinstance(value, str) and not value.startswith(_JSON)
    return is_text or value in _EMPTY


def _form(message: Message, key: str) -> str | None:
    return json.dumps(message[key]) if key in message else None


def _invalid(number: int, problem: str) -> InvalidMessage:
    return InvalidMessage(f"message {number} {problem}; nothing was stored")
