"""What pydantic dumps, of values that adapters can escape."""

from typing import Any

from pydantic_core import to_jsonable_python

__all__ = ["plain"]

_ESCAPED_TOO = (str, int, float, bool, bytes, type(None))


def plain(value: Any, *, serialize_unknown: bool = False) -> Any:
    """Return the value with what has no place in JSON, such as a time, in its JSON form.

    What adapters escape stays as it is: bytes, tuples, numbers that are none, and keys. What
    pydantic does not know is an error, or its representation.
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

    return convert(value)
