"""A message as a row of Hermes' table ``messages``, and back. Pure functions.

``decode`` returns, key for key and in its order, what Hermes Agent returns by the rules of the
file's version. ``decode`` returns every message that ``encode`` accepts unchanged.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hermes_session_mw.exceptions import InvalidMessage, StoreCorrupt
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.hermes_state.rules import Rules
from hermes_session_mw.stores.hermes_state.text_cleanup import clean_text

_JSON = "\0json:"  # the prefix of a content that is not a text
_INCOMPLETE = "incomplete"
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_MAX_NAMES = 5  # of keys, in an error's text
_MAX_NAME_LENGTH = 40
_TOOL_MARKER = re.compile(r"\[[A-Za-z_][A-Za-z0-9_.-]*\]")


def _unchanged(value: Any) -> Any:
    if isinstance(value, bytes):
        raise StoreCorrupt("a message in Hermes' database has bytes in place of a text or a number")
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


def _object(value: Any) -> Any:
    """Return the object of a JSON text, which older versions encoded twice; None for others."""
    for _ in range(2):
        value = _parser(None)(value) if isinstance(value, str) else value
    return value if isinstance(value, dict) else None


def _is_object(value: Any) -> bool:
    return _object(value) is not None


def _true(_value: Any) -> bool:
    return True


def _flag(value: Any) -> Any:
    return 1 if value is True else 0


def _timestamp(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _is_not_none(value: Any) -> bool:
    return value is not None


@dataclass(frozen=True, slots=True)
class _Field:
    """One key of a message, and its column.

    ``read`` converts the column's value to the key's; ``write`` converts it back, and returns None
    for a value that the column cannot hold. Reading leaves out a value that is not ``is_present``,
    and one ``of_assistant`` from messages of other roles.
    """

    key: str
    column: str
    read: Callable[[Any], Any] = _unchanged
    write: Callable[[Any], Any] = _text
    of_assistant: bool = False
    is_present: Callable[[Any], bool] = bool


_FIELDS = (
    _Field("api_content", "api_content"),
    _Field("display_kind", "display_kind"),
    _Field("display_metadata", "display_metadata", _object, _json, is_present=_is_object),
    _Field("timestamp", "timestamp", _unchanged, _timestamp),
    _Field("tool_call_id", "tool_call_id"),
    _Field("tool_name", "tool_name"),
    _Field("effect_disposition", "effect_disposition"),
    _Field("tool_calls", "tool_calls", _parser(()), _json),
    _Field("message_id", "platform_message_id"),
    _Field("observed", "observed", _true, _flag),
    _Field("finish_reason", "finish_reason", of_assistant=True),
    _Field("reasoning", "reasoning", of_assistant=True),
    _Field("reasoning_content", "reasoning_content", of_assistant=True, is_present=_is_not_none),
    *(
        _Field(name, name, _parser(None), _json, of_assistant=True)
        for name in ("reasoning_details", "codex_reasoning_items", "codex_message_items")
    ),
)

COLUMNS = ("role", "content", *(field.column for field in _FIELDS))
"""The columns of a message."""


def decode(row: Mapping[str, Any], rules: Rules) -> Message:
    """Return the message of a row; columns that it lacks count as empty.

    Raises:
        StoreCorrupt: a value is bytes, which no JSON can have.
    """
    role, content = _unchanged(row["role"]), _decoded_content(row["content"])
    if role in ("user", "assistant") and isinstance(content, str):
        content = clean_text(content)
        if rules.blanks_markers and row.get("tool_calls") and _is_tool_marker(role, content):
            content = ""
    message = {"role": role, "content": content}
    for field in _FIELDS:
        value = row.get(field.column)
        if field.is_present(value) and (role == "assistant" or not field.of_assistant):
            message[field.key] = field.read(value)
    if not rules.has_times:
        message.pop("timestamp", None)
    return message


def _is_tool_marker(role: str, content: str) -> bool:
    return role == "assistant" and _TOOL_MARKER.fullmatch(content) is not None


def encode(
    number: int, message: Message, columns: Collection[str], rules: Rules, *, exact: bool
) -> dict[str, Any]:
    """Return the row for ``message``; its ``timestamp`` is None if the message has none.

    ``columns`` are those of the table, ``rules`` those of the file. A message that would come back
    changed is refused. Unless ``exact``, it may have values that Hermes leaves out or cleans on
    reading: empty values, and white space at the ends of a text. An answer that broke off is then
    marked in Hermes' own way.

    Raises:
        InvalidMessage: it cannot be stored.
    """
    row = {"role": message.get("role"), "content": _encoded_content(number, message)}
    for field in _FIELDS:
        of_role = row["role"] == "assistant" or not field.of_assistant
        if field.column in columns:
            row[field.column] = field.write(message.get(field.key)) if of_role else None
    if not exact and _is_broken_off(message) and "finish_reason" in columns:
        row["finish_reason"] = _INCOMPLETE
    changed = _changed(message, decode(row, rules))
    if not exact:
        changed = [key for key in changed if not _may_change(key, message)]
    if changed:
        names = ", ".join(repr(name[:_MAX_NAME_LENGTH]) for name in changed[:_MAX_NAMES])
        raise _invalid(number, f"would come back from Hermes' database changed, in {names}")
    return row


def _encoded_content(number: int, message: Message) -> str | None:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise _invalid(number, "has no role that is a text")
    if isinstance(content, list | dict):
        return _JSON + json.dumps(content)
    if content is not None and not isinstance(content, str):
        raise _invalid(number, f"has a {type(content).__name__} for its content")
    return content


def _decoded_content(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_JSON):
        return _unchanged(value)
    try:
        return json.loads(value.removeprefix(_JSON))
    except (ValueError, RecursionError):
        return value


def _changed(message: Message, back: Message) -> list[str]:
    """Return the keys whose JSON differs, as 1 and 1.0 do; the keys' order does not matter."""
    given = {"content": None, **message}
    return [key for key in {**given, **back} if _json_of(given, key) != _json_of(back, key)]


def _is_broken_off(message: Message) -> bool:
    """Tell whether ``session.record()`` marked it as an incomplete answer; no column holds that."""
    is_answer = message.get("role") == "assistant" and not message.get("finish_reason")
    return is_answer and message.get("status") == _INCOMPLETE


def _may_change(key: str, message: Message) -> bool:
    if key in ("status", "finish_reason"):
        return _is_broken_off(message)
    value = message.get(key)
    is_text = key == "content" and isinstance(value, str) and not value.startswith(_JSON)
    return is_text or value in _EMPTY


def _json_of(message: Message, key: str) -> str | None:
    return json.dumps(message[key]) if key in message else None


def _invalid(number: int, problem: str) -> InvalidMessage:
    return InvalidMessage(f"message {number} {problem}; nothing was stored")
