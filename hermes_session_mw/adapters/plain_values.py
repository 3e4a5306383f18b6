"""What pydantic dumps, of values that adapters can escape."""

import json
from typing import Any

from pydantic_core import to_jsonable_python

from hermes_session_mw.adapters.escaping import escape
from hermes_session_mw.exceptions import InvalidMessage
from hermes_session_mw.messages import MAX_DEPTH

__all__ = ["as_text", "plain", "too_deep"]

_ESCAPED_TOO = (str, int, float, bool, bytes, type(None))


def plain(value: Any, *, serialize_unknown: bool = False) -> Any:
    """Return the value with what has no place in JSON, such as a time, in its JSON form.

    What adapters escape stays as it is: bytes, tuples, numbers that are none, and keys. What
    pydantic does not know is an error, or its representation.

    Raises:
        InvalidMessage: it nests so deep that Python cannot follow.
    """

    def convert(value: Any) -> Any:
        kind = type(value)
        if kind in _ESCAPED_TOO:
            return value
        if kind is dict:
            return {key: convert(child) for key, child in value.items()}
        if kind is list:
            return [convert(child) for child in value]
        if kind is tuple:
            return tuple(convert(child) for child in value)
        return to_jsonable_python(value, serialize_unknown=serialize_unknown)

    try:
        return convert(value)
    except RecursionError:
        raise too_deep() from None


def too_deep() -> InvalidMessage:
    """Return the error for a value that nests deeper than any store takes."""
    return InvalidMessage(f"an item nests deeper than {MAX_DEPTH} levels; nothing was stored")


def as_text(value: Any) -> str:
    """Return a value as the JSON that a chat message has for it; see ``escape`` for the rest."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # a key that is a tuple, a number of thousands of digits
        return json.dumps(escape(value), ensure_ascii=False, default=str)
