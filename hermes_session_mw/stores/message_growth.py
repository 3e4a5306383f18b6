"""What a message grew by while it is written, so that each part of it is stored once.

A *change* is a JSON array of three: an operation, a path of keys and positions from the message,
and a value. ``["+", ["content"], " more"]`` continues the text, or the list, at the path, and
``["=", ["usage"], {}]`` sets it. The changes of all writes, in order, make the message.
"""

import json
from typing import Any

from hermes_session_mw.exceptions import StoreCorrupt
from hermes_session_mw.messages import Message, as_json

Change = tuple[str, list[Any], Any]

ADD, SET = "+", "="


def changes_between(old: Message, new: Message) -> list[Change]:
    """Return the changes that make the old message the new one; both are JSON."""
    changes: list[Change] = []
    _compare(old, new, [], changes)
    return changes


def encode_changes(changes: list[Change]) -> str:
    """Return the changes as a JSON text."""
    return as_json(changes)


class GrowingMessage:
    """A message that is put together of changes, in a time that grows with their size alone."""

    def __init__(self, begun: Message | None = None) -> None:
        """Begin with a message."""
        self._message: Any = begun

    def add_text(self, text: str) -> None:
        """Continue the content, or begin it; an answer without a message is an assistant's."""
        if self._message is None:
            self._message = {"role": "assistant"}
        content = self._message.get("content")
        if content is None:
            self._message["content"] = ""
        more: Any = [{"type": "text", "text": text}] if type(content) is list else text
        self._apply(ADD, ["content"], more)

    def apply(self, changes: str) -> None:
        """Apply the changes of a JSON text; raise ``StoreCorrupt`` if they are none."""
        if self._message is None:
            self._message = {}
        try:
            for operation, path, value in json.loads(changes):
                self._apply(operation, path, value)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise StoreCorrupt(
                "a stored answer's growth does not fit: restore it from a backup"
            ) from None

    def finish(self) -> Message | None:
        """Return the message; None if there is none."""
        message: Message | None = _joined(self._message)
        return message

    def _apply(self, operation: str, path: list[Any], value: Any) -> None:
        if not path:
            self._message = value
            return
        *above, last = path
        parent = self._message
        for step in above:
            parent = parent[step]
        if operation == SET:
            parent[last] = value
            return
        there = parent[last]
        if isinstance(there, str):
            parent[last] = there = _Texts([there])
        is_text = isinstance(there, _Texts)
        if not isinstance(value, str if is_text else list):
            raise TypeError
        there.extend([value] if is_text else value)


class _Texts(list[str]):
    """A text in pieces."""


def _joined(value: Any) -> Any:
    if isinstance(value, _Texts):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _joined(each) for name, each in value.items()}
    return [_joined(each) for each in value] if isinstance(value, list) else value


def _compare(old: Any, new: Any, path: list[Any], changes: list[Change]) -> None:
    if type(old) is not type(new):  # 1, 1.0 and True are equal, and not the same
        changes.append((SET, path, new))
    elif isinstance(new, str) and new.startswith(old):
        _add(new[len(old) :], path, changes)
    elif isinstance(new, list) and len(new) >= len(old):
        for place, before in enumerate(old):
            _compare(before, new[place], [*path, place], changes)
        _add(new[len(old) :], path, changes)
    elif isinstance(new, dict) and old.keys() <= new.keys():
        _compare_keys(old, new, path, changes)
    elif old != new:
        changes.append((SET, path, new))


def _compare_keys(old: Message, new: Message, path: list[Any], changes: list[Change]) -> None:
    for name, value in new.items():
        if name in old:
            _compare(old[name], value, [*path, name], changes)
        else:
            changes.append((SET, [*path, name], value))


def _add(more: Any, path: list[Any], changes: list[Change]) -> None:
    if more:
        changes.append((ADD, path, more))
