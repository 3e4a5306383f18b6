"""One reversible escape for values that JSON, or a database, cannot hold.

A framework's item may have a lone surrogate, which is no Unicode text, NaN, an infinity, bytes, a
tuple, a number of thousands of digits, or a dict with keys that are not strings. Each of them
becomes an object with one key: ``{"hermes_escaped": ["float", "nan"]}``. Everything else stays as
it is; an object that looks like an escape is escaped itself.

A NUL character needs no escape in a message, whose JSON text has none. Ids do: see `escape_id`.
"""

import base64
import math
import re
from collections.abc import Callable
from typing import Any

from hermes_session_mw.messages import MAX_DEPTH

ESCAPED = "hermes_escaped"
"""The only key of an object that stands for another value."""

_ID_MARK = "hermes-escaped:"
_MOST_BITS = 2048  # an application may limit Python to 640 digits

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_IN_TEXT = re.compile("[\\\\\ud800-\udfff]")
_NOT_IN_ID = re.compile("[\0\n\ud800-\udfff]")
_ESCAPED_IN_ID = re.compile("[\\\\\0\n\ud800-\udfff]")
_NUMBER = re.compile(r"\\u([0-9a-f]{4})")


def escape(value: Any) -> Any:
    """Return the value as one of JSON alone, which `unescape` returns to what it was.

    Where there is nothing to escape, that is the value itself, and else a copy. What is no data, a
    set or an object, stays as it is, and so does what nests deeper than a store takes: a store
    refuses both.
    """
    return _escape(value, 1)


def unescape(value: Any) -> Any:
    """Return what `escape` was given; where nothing is escaped, the value itself.

    An object that has the key of an escape, and is none, stays as it is.
    """
    if isinstance(value, dict):
        if len(value) == 1 and ESCAPED in value:
            return _unescape_object(value)
        changed = {}
        for key, old in value.items():
            # Only containers hold escapes: a call for each text takes most of the time of a read.
            if isinstance(old, (dict, list)) and (new := unescape(old)) is not old:
                changed[key] = new
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        return _changed_list(value, unescape)
    return value


def readable(value: Any) -> Any:
    """Return the value with U+FFFD in place of each lone surrogate in its texts, but for its keys.

    Where there is none, that is the value itself. It cannot be reversed.
    """
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value) if _SURROGATE.search(value) else value
    if isinstance(value, dict):
        return _changed_dict(value, readable)
    if isinstance(value, list):
        return _changed_list(value, readable)
    return value


def escape_id(text: str) -> str:
    """Return a text that every database can store as an id, if it is not too long for that.

    Where there is nothing to escape, that is the text itself. Ids have no lone surrogate, and other
    than in messages no NUL character. Ids with a line's end are the adapters' own: no program's id
    is one of them.
    """
    if text.startswith(_ID_MARK) or _NOT_IN_ID.search(text):
        return _ID_MARK + _ESCAPED_IN_ID.sub(_number_of, text)
    return text


def unescape_id(text: str) -> str:
    """Return what `escape_id` was given."""
    return _text_of(text.removeprefix(_ID_MARK)) if text.startswith(_ID_MARK) else text


def _escape(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _escape_text(value) if _SURROGATE.search(value) else value
    if isinstance(value, (dict, list, tuple)):
        return value if depth > MAX_DEPTH else _escape_container(value, depth + 1)
    if isinstance(value, bytes):
        return _object("bytes", base64.b64encode(value).decode("ascii"))
    if isinstance(value, float) and not math.isfinite(value):
        return _object("float", str(float(value)))
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return _object("int", hex(value))
    return value


def _escape_text(text: str) -> Any:
    return _object("text", _ESCAPED_IN_TEXT.sub(_number_of, text))


def _escape_container(value: Any, depth: int) -> Any:
    def escape_child(child: Any) -> Any:
        return _escape(child, depth)

    if isinstance(value, dict):
        if _has_plain_keys(value):
            return _changed_dict(value, escape_child)
        return _object("dict", [[escape_child(key), escape_child(value[key])] for key in value])
    if isinstance(value, list):
        return _changed_list(value, escape_child)
    return _object("tuple", [escape_child(child) for child in value])


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    """Tell whether a dict is a JSON object, and does not look like an escape."""
    if len(value) == 1 and ESCAPED in value:
        return False
    return all(isinstance(key, str) and not _SURROGATE.search(key) for key in value)


def _changed_dict(value: dict[Any, Any], change: Callable[[Any], Any]) -> dict[Any, Any]:
    """Return the dict with each of its values changed; itself if each stays as it is."""
    changed = {key: new for key, old in value.items() if (new := change(old)) is not old}
    return {**value, **changed} if changed else value


def _changed_list(value: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    new = [change(child) for child in value]
    return new if any(one is not other for one, other in zip(new, value, strict=True)) else value


def _object(kind: str, data: Any) -> dict[str, Any]:
    return {ESCAPED: [kind, data]}


def _unescape_object(value: dict[str, Any]) -> Any:
    try:
        kind, data = value[ESCAPED]
        return _VALUES[kind](data)
    except (ValueError, TypeError, KeyError, AttributeError):
        return value


def _dict_of(pairs: Any) -> dict[Any, Any]:
    return {unescape(key): unescape(value) for key, value in pairs}


def _tuple_of(values: Any) -> tuple[Any, ...]:
    return tuple(unescape(each) for each in values)


def _int_of(text: Any) -> int:
    return int(text, 16)


def _bytes_of(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def _number_of(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _text_of(escaped: str) -> str:
    return _NUMBER.sub(lambda found: chr(int(found[1], 16)), escaped)


_VALUES: dict[str, Callable[[Any], Any]] = {
    "text": _text_of,
    "bytes": _bytes_of,
    "float": float,
    "int": _int_of,
    "tuple": _tuple_of,
    "dict": _dict_of,
}
