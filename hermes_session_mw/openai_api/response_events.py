"""The events of a streamed response, in the order that OpenAI's SDKs rely on.

Rules of this file: no input or output. `ResponseEvents` is given the pieces of an answer as Chat
Completions stream them, and returns the events that they cause:

    response.created, response.in_progress
    for each item: response.output_item.added
        for each part of a message, and for reasoning: response.content_part.added,
            response.output_text.delta, .done (or .refusal, or .reasoning_text),
            response.content_part.done
        for a call: response.function_call_arguments.delta, .done (or .custom_tool_call_input)
        response.output_item.done
    response.completed or response.incomplete; after a failure error, then response.failed

An item ends when the next one begins; a call, only if its arguments are whole, since the pieces of
several may be mixed. Text that comes after a call is an item of its own. Events are numbered, from
0.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.growing_object import GrowingObject
from hermes_session_mw.openai_api.item_ids import ResponseNames
from hermes_session_mw.openai_api.response_items import (
    Item,
    call_item,
    flat_annotation,
    is_custom_call,
    output_text,
    reasoning_text,
)

Event = dict[str, Any]

# The name of a part's events, its field for text, and how it begins, by the kind of its pieces.
_PARTS: dict[str, tuple[str, str, Message]] = {
    "text": ("output_text", "text", output_text("")),
    "refusal": ("refusal", "refusal", {"type": "refusal", "refusal": ""}),
    "reasoning": ("reasoning_text", "text", reasoning_text("")),
}


class ResponseEvents:
    """The events of one response, and its items as they grow.

    Attributes:
        items: the items; a text is in its part once that has ended.
    """

    def __init__(self, response_id: str) -> None:
        """Take the response's id, which its items' ids are made of."""
        self.items: list[Item] = []
        self._numbers = itertools.count()
        self._name = ResponseNames(response_id)
        self._open: _Parts | None = None
        self._calls: dict[int, _Call] = {}
        self._whole: dict[int, _Call] = {}  # those that are to be ended, by their numbers

    def event(self, kind: str, **fields: Any) -> Event:
        """Return the next event."""
        return {"type": kind, "sequence_number": next(self._numbers), **fields}

    def add(self, text: str, fields: Message, logprobs: Sequence[Message] = ()) -> Iterator[Event]:
        """Return the events for a piece.

        Args:
            text: its text.
            fields: other fields of a ``delta`` of Chat Completions.
            logprobs: the text's log probabilities; see `logprobs_of`.
        """
        thought = fields.get("reasoning_content") or fields.get("reasoning")
        for kind, piece in (
            ("reasoning", thought),
            ("text", text),
            ("refusal", fields.get("refusal")),
        ):
            if isinstance(piece, str) and piece:
                yield from self._add_part(kind, piece, logprobs if kind == "text" else ())
        yield from self._add_annotations(fields.get("annotations"))
        for place, piece in enumerate(fields.get("tool_calls") or []):
            yield from self._add_call(piece.get("index", place), piece)

    def end(self, status: str, calls: Sequence[Message] = ()) -> Iterator[Event]:
        """Return the events that end all items; ``calls`` are the answer's, as they are stored."""
        if not self.items and not self._calls:
            yield from self._begin("message")
            assert self._open is not None
            yield from self._numbered(self._open.next_part("text"))
        yield from self._close(status)
        for number, index in enumerate(sorted(self._calls)):
            stored = calls[number] if number < len(calls) else None
            if not self._calls[index].has_ended:
                yield from self._numbered(self._calls[index].end(status, stored))

    def _add_part(self, kind: str, piece: str, logprobs: Sequence[Message]) -> Iterator[Event]:
        item_type = "reasoning" if kind == "reasoning" else "message"
        if self._open is None or self._open.item["type"] != item_type:
            yield from self._close("completed")
            yield from self._close_calls()
            yield from self._begin(item_type)
        assert self._open is not None
        yield from self._numbered(self._open.add(kind, piece, logprobs))

    def _add_annotations(self, notes: Any) -> Iterator[Event]:
        if self._open is not None and isinstance(notes, list):
            yield from self._numbered(self._open.annotate(notes))

    def _add_call(self, index: int, piece: Message) -> Iterator[Event]:
        yield from self._close("completed")
        if index not in self._calls:
            yield from self._close_calls()
            self._calls[index] = _Call(self, len(self._calls))
        call = self._calls[index]
        yield from self._numbered(call.add(piece))
        if call.is_whole:
            self._whole[call.number] = call
        else:
            self._whole.pop(call.number, None)

    def _begin(self, item_type: str) -> Iterator[Event]:
        begun: Item = {"type": item_type, "status": "in_progress", "content": []}
        more: Item = {"summary": []} if item_type == "reasoning" else {"role": "assistant"}
        at = self.place(begun | more)
        self._open = _Parts(self.items[at], at)
        yield self._added(at)

    def _close(self, status: str) -> Iterator[Event]:
        if self._open is not None:
            yield from self._numbered(self._open.end(status))
        self._open = None

    def _close_calls(self) -> Iterator[Event]:
        whole, self._whole = self._whole, {}
        for number in sorted(whole):
            yield from self._numbered(whole[number].end("completed", None))

    def place(self, item: Item) -> int:
        """Give a new item its id and its place, and return the place."""
        self.items.append({"id": self._name(item)} | item)
        return len(self.items) - 1

    def _added(self, at: int) -> Event:
        item = self.items[at]
        shown = item | {"content": list(item["content"])} if "content" in item else dict(item)
        return self.event("response.output_item.added", output_index=at, item=shown)

    def _numbered(self, events: Iterator[tuple[str, Message]]) -> Iterator[Event]:
        for kind, fields in events:
            yield self.event(f"response.{kind}", **fields)


_Told = Iterator[tuple[str, Message]]
"""Events without their numbers: each one's name after ``response.``, and its fields."""


class _Parts:
    """A message or a reasoning item, whose parts are told one after the other."""

    def __init__(self, item: Item, at: int) -> None:
        self.item = item
        self._at = {"output_index": at}
        self._kind: str | None = None
        self._text: list[str] = []

    @property
    def _where(self) -> Message:
        place = len(self.item["content"]) - 1
        return {"item_id": self.item["id"], **self._at, "content_index": place}

    @property
    def _part(self) -> Message:
        part: Message = self.item["content"][-1]
        return part

    def next_part(self, kind: str) -> _Told:
        """Begin a part, and end the one before it."""
        yield from self._end_part()
        self._kind, self._text = kind, []
        begun = _PARTS[kind][2]
        self.item["content"].append({name: _copied(value) for name, value in begun.items()})
        yield "content_part.added", self._where | {"part": dict(begun)}

    def add(self, kind: str, piece: str, logprobs: Sequence[Message]) -> _Told:
        """Add a piece of text."""
        if kind != self._kind:
            yield from self.next_part(kind)
        name = _PARTS[kind][0]
        self._text.append(piece)
        more = {"logprobs": list(logprobs)} if kind == "text" else {}
        if logprobs:
            self._part["logprobs"].extend(logprobs)
        yield f"{name}.delta", self._where | {"delta": piece} | more

    def annotate(self, notes: Sequence[Any]) -> _Told:
        """Add annotations to the part, if it is text."""
        if self._kind != "text":
            return
        for note in map(flat_annotation, notes):
            place = len(self._part["annotations"])
            self._part["annotations"].append(note)
            told = {"annotation": note, "annotation_index": place}
            yield "output_text.annotation.added", self._where | told

    def end(self, status: str) -> _Told:
        """End the part, and the item."""
        yield from self._end_part()
        self.item["status"] = status
        yield "output_item.done", self._at | {"item": self.item}

    def _end_part(self) -> _Told:
        if self._kind is None:
            return
        name, field, _ = _PARTS[self._kind]
        self._part[field] = "".join(self._text)
        more = {"logprobs": self._part["logprobs"]} if self._kind == "text" else {}
        yield f"{name}.done", self._where | {field: self._part[field]} | more
        yield "content_part.done", self._where | {"part": self._part}


class _Call:
    """A call of a function or of a custom tool; it is told once its id and its name are known."""

    def __init__(self, events: ResponseEvents, number: int) -> None:
        self.number = number
        self.has_ended = False
        self._events = events
        self._call: Message = {}
        self._item: Item | None = None
        self._at: Message = {}
        self._given: list[str] = []
        self._object = GrowingObject()
        self._names = ("function_call_arguments", "arguments")

    @property
    def is_whole(self) -> bool:
        """Whether it has been told, and nothing more can come: its arguments are an object."""
        is_told = self._item is not None and not self.has_ended
        return is_told and self._names[1] == "arguments" and self._object.is_whole

    def add(self, piece: Message) -> _Told:
        """Add a piece of the call."""
        if self.has_ended:
            return
        key = "custom" if is_custom_call(piece) or is_custom_call(self._call) else "function"
        called = piece.get(key) or {}
        known = self._call.setdefault(key, {})
        known["name"] = known.get("name") or called.get("name")
        rest = {
            name: value for name, value in piece.items() if name not in ("index", key) and value
        }
        self._call |= rest
        if key == "custom":
            self._names = ("custom_tool_call_input", "input")
        given = called.get(self._names[1]) or ""
        self._given.append(given)
        self._object.add(given)
        if self._item is None and self._call.get("id") and known["name"]:
            yield from self._begin()
            given = "".join(self._given)
        if given and self._item is not None:
            yield f"{self._names[0]}.delta", self._where | {"delta": given}

    def end(self, status: str, stored: Message | None) -> _Told:
        """End the call, which is then as it is stored, or as far as is known."""
        self.has_ended = True
        self._call = stored or self._call
        given = "".join(self._given)
        if self._item is None:
            yield from self._begin()
            if given:
                yield f"{self._names[0]}.delta", self._where | {"delta": given}
        assert self._item is not None
        done = call_item(self._call, status, self._item["id"])
        if stored is None:
            done[self._names[1]] = given
        self._item.update(done)
        yield f"{self._names[0]}.done", self._where | self._done()
        yield "output_item.done", {**self._at, "item": self._item}

    @property
    def _where(self) -> Message:
        assert self._item is not None
        return {"item_id": self._item["id"], **self._at}

    def _done(self) -> Message:
        assert self._item is not None
        name = {"name": self._item["name"]} if self._names[1] == "arguments" else {}
        return {self._names[1]: self._item[self._names[1]]} | name

    def _begin(self) -> _Told:
        begun = call_item(self._call, "in_progress", "")
        begun[self._names[1]] = ""
        at = self._events.place({name: begun[name] for name in begun if name != "id"})
        self._item, self._at = self._events.items[at], {"output_index": at}
        yield "output_item.added", {**self._at, "item": dict(self._item)}


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
