"""The fields of a message, assembled from the pieces of a stream."""

from collections.abc import Iterator
from typing import Any

from hermes_session_mw.messages import Message

_STORED = ("refusal", "tool_calls", "reasoning", "reasoning_content")


class Fields:
    """The fields of an answer's message other than its role and its text, as received so far."""

    def __init__(self) -> None:
        self._fields: Message = {}
        self._calls: dict[int, Message] = {}

    def add(self, pieces: Message) -> None:
        """Add the pieces of a delta: texts are concatenated, tool calls too, each by its index."""
        for name, value in pieces.items():
            if name == "tool_calls":
                for place, piece in enumerate(value):
                    self._add_call(piece, piece.get("index", place))
            elif isinstance(value, str) and isinstance(self._fields.get(name, ""), str):
                self._fields[name] = self._fields.get(name, "") + value
            else:
                self._fields[name] = value

    def __call__(self) -> Message:
        """Return the message's fields."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        return self._fields | ({"tool_calls": calls} if calls else {})

    def stored(self) -> Message:
        """Return the fields that are stored with the conversation, if they have valid types."""
        fields = self()
        return {
            name: fields[name]
            for name in _STORED
            if name in fields and (name == "tool_calls" or isinstance(fields[name], str))
        }

    def _add_call(self, piece: Message, index: int) -> None:
        empty: Message = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call, function = self._calls.setdefault(index, empty), piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""


def texts_in(pieces: Message) -> Iterator[str]:
    """Yield the texts of a delta's fields that are stored beside the answer's own text."""
    for name in _STORED:
        value = pieces.get(name)
        if isinstance(value, str):
            yield value
        elif name == "tool_calls" and value:
            for piece in value:
                yield (piece.get("function") or {}).get("arguments") or ""


def as_pieces(message: Message) -> Message:
    """Return a stored message's fields in the shape of a delta."""
    fields: dict[str, Any] = {name: message[name] for name in _STORED if message.get(name)}
    if "tool_calls" in fields:
        numbered = enumerate(fields["tool_calls"])
        fields["tool_calls"] = [{"index": index, **call} for index, call in numbered]
    return fields
