"""Assembles a message from the deltas of a stream, and says of each delta what is new.

Rules of this file: nothing is known of a message's fields but how they grow; all of them are kept,
except the role, ``hermes_item`` (see ``messages``), and what is null or empty. Where a value and a
piece of it meet:

    value          piece          becomes
    "a"            "b"            "ab"               in each field that streams: content, refusal,
                                                     reasoning_content, arguments, data, ...
    "a"            "b"            "b"                in fields that name something: id, type, ...
    "f"            "f"            "f"                a name that is repeated with each piece
    "get_"         "time"         "get_time"         a name in parts
    "get_"         "get_time"     "get_time"         a name that grows
    {"a": "1"}     {"a": "2"}     {"a": "12"}        objects, key by key
    [x with index 0], [y with index 0]               one entry, if their type and id are the same
    [x]            [y]            [x, y]             other lists
    "a"            ["b"], 1, ...  the piece          another type

A content is a text, or a list with parts of other types; its texts are joined in either case.

A piece of a tool call belongs to the call with its id, else to the newest one with its index, else
to the newest one. In these cases f and g are names, and 1 and 2 ids:

    pieces                                                  calls
    {0, 1, f, '{'}, {0, '}'}                                f('{}')
    {0, 1, f, '{'}, {1, 2, g, '{'}, {0, '}'}, {1, '}'}      f('{}'), g('{}')
    {0, 1, f, '{}'}, {0, 2, g, '{}'}                        f('{}'), g('{}')    all at index 0
    {0, f, '{}'}, {0, f, '{}'}                              f('{}'), f('{}')    and without an id
    {1, f, '{'}, {'}'}, {2, g, '{'}, {'}'}                  f('{}'), g('{}')    without an index
    {f, '{}'}, {g, '{}'}                                    f('{}'), g('{}')    without either
    {0, 1, f, '{'}, {0, 1, f, '}'}                          f('{}')             all in each piece
    {0, 1, f, '{}'}, {0, 1, f, '{}'}                        f('{}')             told once more

A call without an id gets one, since clients and providers match a call's result by it.

Half of a character at the end of a text waits for the other half. ``add`` returns pieces that a
client assembles to the same message by ``index`` alone, as OpenAI's SDKs do.
"""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from hermes_session_mw.messages import ITEM, Message, size_of_text
from hermes_session_mw.openai_api.characters import whole_text
from hermes_session_mw.openai_api.growing_object import GrowingObject
from hermes_session_mw.session.prompts import STORED_ONLY

_NAMING = frozenset(
    {"id", "type", "role", "index", "format", "object", "model", "status", "signature",
     "thought_signature", "mime_type", "tool_call_id"}
)  # fmt: skip
_PARTS = ("content", "thinking")  # lists whose neighbours of one type are pieces of one part
_NOT_SAID = ("role", ITEM)  # an item of a framework comes from that framework alone
_TEXT_PARTS = ("text", "output_text")
_SHARING = 16  # entries of one index in which a piece's own is looked for: the newest
_KEPT_EMPTY = "reasoning_content"  # DeepSeek wants it back as it was

_Path = tuple[str | tuple[str, Any], ...]
"""Keys of objects, and for entries of a list the key and the value by which one is found."""


def new_call_id() -> str:
    """Return an id for a tool call."""
    return f"call_{secrets.token_hex(12)}"


class MessageAssembly:
    """An assistant's message, as received so far.

    Attributes:
        size: about how many bytes its fields take as JSON, apart from the content's texts.
    """

    def __init__(self, make_id: Callable[[], str] = new_call_id) -> None:
        """Begin without a field; ``make_id`` is called for calls that have no id."""
        self.size: int = 0
        self._fields: dict[str, Any] = {}
        self._calls = _Calls(make_id)
        self._halves: dict[_Path, str] = {}

    @property
    def message(self) -> Message:
        """The message, without its role; ``content`` is None where there is no text but calls."""
        fields = {name: _value(node) for name, node in self._fields.items()}
        fields["content"] = _content(fields.get("content") or [])
        if calls := self._calls.calls():
            fields["tool_calls"] = calls
            fields["content"] = fields["content"] or None
        return {name: field for name, field in fields.items() if _is_kept(name, field)}

    def add(self, delta: Message) -> Message:
        """Add a delta, and return what is to be told of it.

        Tool calls in it are numbered by ``index``, and have what is new only.
        """
        told: Message = {}
        for key, value in delta.items():
            name = whole_text(key)
            if value is None or name in _NOT_SAID:
                continue
            if name == "tool_calls":
                pieces = [self._add_call(number, each) for number, each in self._calls.find(value)]
                told |= {name: pieces} if pieces else {}
            else:
                node = self._fields.get(name)
                given = _as_parts(value) if name == "content" else value
                piece = _news(node, self._whole_characters(given, (name,)), name)
                if piece is not None:
                    taken = _without_texts(piece) if name == "content" else piece
                    self.size += _room(self._fields, {name: taken})
                    self._fields[name] = _grown(node, piece, name)
                    told[name] = _content(piece) if name == "content" else piece
        return told

    def end(self) -> Message:
        """Return the last delta: halves of characters without another half, as U+FFFD."""
        halves, self._halves = self._halves, {}
        told: Message = {}
        for path in halves:
            delta = _at(path, "\ufffd")
            if "tool_calls" in delta:
                delta["tool_calls"] = [
                    self._add_call(call.pop("index"), call) for call in delta["tool_calls"]
                ]
            else:
                delta = self.add(delta)
            told = _grown(told, delta, "")
        told = _value(told)
        return told | ({"content": _content(told["content"])} if "content" in told else {})

    def _add_call(self, number: int, piece: Message) -> Message:
        whole = self._whole_characters(piece, ("tool_calls", ("index", number)))
        news, size = self._calls.add(number, whole)
        self.size += size
        return {"index": number} | news

    def _whole_characters(self, value: Any, path: _Path | None) -> Any:
        """Return the value without halves of characters; one at a text's end waits for the rest.

        ``path`` is where the value is in the message; None where no rest can be found.
        """
        if isinstance(value, str):
            return self._whole_text(value, path)
        if isinstance(value, list):
            return [self._whole_characters(each, _path_to(path, each)) for each in value]
        if isinstance(value, dict):
            keys = ((name, path and (*path, name)) for name in value)
            return {whole_text(name): self._whole_characters(value[name], at) for name, at in keys}
        return value

    def _whole_text(self, text: str, path: _Path | None) -> str:
        if path is not None and path[-1] not in _NAMING | {"name"}:
            text = self._halves.pop(path, "") + text
            if "\ud800" <= text[-1:] <= "\udbff":
                self._halves[path] = text[-1]
                text = text[:-1]
        return whole_text(text)


def as_delta(message: Message) -> Message:
    """Return a stored answer's fields as a delta, without those that are for the store alone."""
    left_out = STORED_ONLY | {"role"}
    told = {name: field for name, field in message.items() if name not in left_out}
    fields = {name: field for name, field in told.items() if field and _is_kept(name, field)}
    if "tool_calls" in fields:
        numbered = enumerate(fields["tool_calls"])
        fields["tool_calls"] = [{"index": index, **call} for index, call in numbered]
    return fields


def add_to_choice(choice: Message, piece: Message) -> None:
    """Add what a chunk has beside a choice's delta: its logprobs to those before, others anew."""
    logprobs = piece.get("logprobs")
    choice |= {name: field for name, field in piece.items() if name != "logprobs"}
    for name, entries in logprobs.items() if isinstance(logprobs, dict) else ():
        if isinstance(entries, list):
            choice.setdefault("logprobs", {}).setdefault(name, []).extend(entries)


def text_of(content: Any) -> str:
    """Return the text of a content: itself, or that of its text parts."""
    return "".join(part["text"] for part in _as_parts(content) if _is_text(part))


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts of a delta's field, which take room where the message is stored."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from texts_in(child)


class _Calls:
    """The tool calls of a message, and which piece belongs to which."""

    def __init__(self, make_id: Callable[[], str]) -> None:
        self._make_id = make_id
        self._calls: list[Any] = []
        self._has_id: list[bool] = []  # whether the upstream has given it
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}

    def calls(self) -> list[Message]:
        """Return the calls, in the shape of a message."""
        return [_value(call) for call in self._calls]

    def find(self, pieces: list[Message]) -> Iterator[tuple[int, Message]]:
        """Yield each piece with the number of its call, and without what is no part of a call."""
        met: set[int] = set()  # the calls whose names are in this delta
        for place, given in enumerate(pieces):
            piece = {name: each for name, each in given.items() if each not in (None, "")}
            index = piece.pop("index", place if len(pieces) > 1 else None)
            number = self._number(piece, index, met)
            piece = self._begin(piece, index) if number is None else self._rest(piece, number)
            number = len(self._calls) - 1 if number is None else number
            if _called(piece).get("name"):
                met.add(number)
            yield number, piece

    def add(self, number: int, piece: Message) -> tuple[Message, int]:
        """Add a piece to its call; return what is new in it, and its size in bytes of JSON."""
        call = self._calls[number]
        news: Message = _news(call, piece, "") or {}
        size = _room(call, news)
        self._calls[number] = _grown(call, news, "")
        return news, size

    def _number(self, piece: Message, index: int | None, met: set[int]) -> int | None:
        """Return the number of the call that a piece belongs to, or None for a new one."""
        given = piece.get("id")
        number = self._by_id.get(given) if given else None
        if number is not None:
            return None if self._begins_another(number, piece, is_known=True) else number
        number = len(self._calls) - 1 if index is None else self._by_index.get(index, -1)
        if number < 0 or (given and (index is None or self._has_id[number])):
            return None
        name, known = _called(piece).get("name"), _called(self._calls[number]).get("name")
        if name and (number in met or (index is None and known and name != known)):
            return None
        return None if self._begins_another(number, piece) else number

    def _begins_another(self, number: int, piece: Message, *, is_known: bool = False) -> bool:
        """Return whether the piece is the beginning of a call, and the call is complete."""
        called = _called(self._calls[number])
        earlier, name = called.get("arguments", called.get("input")), _called(piece).get("name")
        if not name or not earlier or not any(earlier):
            return False
        text = _arguments(piece)
        is_complete = bool(text.strip()) and _is_object(called.get("arguments"))
        if is_known:
            return is_complete and text != earlier.joined()
        return is_complete or name != called.get("name")

    def _begin(self, piece: Message, index: int | None) -> Message:
        """Begin a call, and return its first piece with all that a client needs."""
        number, given = len(self._calls), piece.get("id")
        own = given if given and given not in self._by_id else self._make_id()
        kind = "custom" if "custom" in piece else "function"
        if kind == "function" and piece.get("type", kind) == kind:
            piece = piece | {kind: {"name": "", "arguments": ""} | _called(piece)}
        self._calls.append({})
        self._has_id.append(bool(given))
        self._by_id[own] = number
        self._by_index[number if index is None else index] = number
        return {"id": own, "type": kind} | piece | {"id": own}

    def _rest(self, piece: Message, number: int) -> Message:
        """Return a later piece without its id, and without arguments that are told once more."""
        given = piece.pop("id", None)
        if given:
            self._by_id.setdefault(given, number)
            self._has_id[number] = True
        earlier = _called(self._calls[number]).get("arguments")
        if given and _called(piece).get("name") and _is_object(earlier):  # or it begins another
            return {name: each for name, each in piece.items() if name not in _KINDS}
        return piece


_KINDS = ("function", "custom")


def _called(call: Message) -> Message:
    """Return the object of a call that has the name and the arguments."""
    return next((call[kind] for kind in _KINDS if isinstance(call.get(kind), dict)), {})


def _arguments(piece: Message) -> str:
    called = _called(piece)
    text = called.get("arguments", called.get("input"))
    return text if isinstance(text, str) else ""


def _is_object(node: Any) -> bool:
    """Return whether a text is a whole JSON object, after which nothing of it can come."""
    return isinstance(node, _Text) and node.is_object


class _Text(list[str]):
    """A text that grows, in pieces: joined once, at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._object = GrowingObject()
        self._seen = 0  # pieces that it has

    @property
    def is_object(self) -> bool:
        for piece in self[self._seen :]:
            self._object.add(piece)
        self._seen = len(self)
        return self._object.is_whole

    def joined(self) -> str:
        """Return the text, whose pieces become one if it is an object, and so complete."""
        if len(self) > 1 and self.is_object:
            self[:] = ["".join(self)]
            self._seen = 1
        return "".join(self)


class _Entries(list[Any]):
    """A list that grows, and the places of its entries by their ``index``."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[int, list[int]] = {}

    def add(self, entry: Any) -> None:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, int):
            self._places.setdefault(index, []).append(len(self))
        self.append(entry)

    def place_of(self, entry: Any, name: str) -> int | None:
        """Return the place of the entry that this one is a piece of, or None for a new one."""
        if not isinstance(entry, dict):
            return None
        index = entry.get("index")
        if isinstance(index, int):
            places = self._places.get(index, [])[-_SHARING:]
            return next((at for at in places if _is_same_entry(self[at], entry)), None)
        last = self[-1] if name in _PARTS and self else None
        is_piece = isinstance(last, dict) and last.get("type") == entry.get("type") is not None
        is_streamed = is_piece and entry["type"] in (*_TEXT_PARTS, "thinking")
        return len(self) - 1 if is_streamed else None


def _entries(node: Any) -> _Entries:
    return node if isinstance(node, _Entries) else _Entries()


def _grown(node: Any, piece: Any, name: str) -> Any:
    """Return the node with a piece added, which is changed in place where that can be."""
    if isinstance(piece, str):
        return _grown_text(node, piece, name)
    if isinstance(piece, dict):
        fields = node if isinstance(node, dict) else {}
        for key, child in piece.items():
            fields[key] = _grown(fields.get(key), child, key)
        return fields
    if isinstance(piece, list):
        entries = _entries(node)
        for entry in piece:
            at = entries.place_of(entry, name)
            if at is None:
                entries.add(_grown(None, entry, ""))
            else:
                entries[at] = _grown(entries[at], entry, "")
        return entries
    return piece


def _grown_text(node: Any, piece: str, name: str) -> Any:
    if name in _NAMING:
        return piece
    if name == "name":
        return f"{node}{piece}" if isinstance(node, str) else piece
    text = node if isinstance(node, _Text) else _Text()
    text.append(piece)
    return text


def _is_same_entry(one: Any, other: Message) -> bool:
    if not isinstance(one, dict) or one.get("index") != other["index"]:
        return False
    pairs = ((one.get(name), other.get(name)) for name in ("type", "id"))
    return all(known == given or not known or not given for known, given in pairs)


def _news(node: Any, value: Any, name: str) -> Any:
    """Return what a value adds to the node; None for nothing."""
    if isinstance(value, str):
        return _new_text(node, value, name)
    if isinstance(value, dict):
        known = node if isinstance(node, dict) else {}
        news = {key: _news(known.get(key), child, key) for key, child in value.items()}
        news = {key: child for key, child in news.items() if child is not None}
        return news if news or node is None else None
    if isinstance(value, list):
        entries = _entries(node)
        news_of = [_new_entry(entries, entry, name) for entry in value if entry is not None]
        return news_of if news_of or node is None else None
    return value if value != node else None


def _new_text(node: Any, value: str, name: str) -> str | None:
    if name in _NAMING:
        return value if value and value != node else None
    if name == "name" and isinstance(node, str):
        return value.removeprefix(node) or None
    return value if value or node is None else None


def _new_entry(entries: _Entries, entry: Any, name: str) -> Any:
    at = entries.place_of(entry, name)
    if at is None:
        return _news(None, entry, "")
    found = {key: entry[key] for key in ("type", "index") if key in entry}
    return found | (_news(entries[at], entry, "") or {})


def _room(node: Any, piece: Any, name: str = "") -> int:
    """Return about how many bytes of JSON a piece adds to the node."""
    ends = 2 if node is None else 0  # quotation marks or brackets
    if isinstance(piece, str):
        return 0 if name in _NAMING and piece == node else ends + size_of_text(piece)
    if isinstance(piece, dict):
        fields = node if isinstance(node, dict) else {}
        keys = sum(size_of_text(key) + 4 for key in piece if key not in fields)
        return ends + keys + sum(_room(fields.get(key), each, key) for key, each in piece.items())
    if isinstance(piece, list):
        entries = _entries(node)
        places = ((entries.place_of(entry, name), entry) for entry in piece)
        return ends + sum(
            _room(entries[at], entry) if at is not None else _room(None, entry) + 1
            for at, entry in places
        )
    return 0 if piece == node else len(str(piece))


def _value(node: Any) -> Any:
    """Return the JSON value of a node."""
    if isinstance(node, _Text):
        return "".join(node)
    if isinstance(node, dict):
        return {key: _value(child) for key, child in node.items()}
    if isinstance(node, list):
        return [_value(child) for child in node]
    return node


def _is_kept(name: str, field: Any) -> bool:
    if name == "content":
        return True
    return field not in (None, "", [], {}) or (name == _KEPT_EMPTY and field == "")


def _as_parts(content: Any) -> list[Any]:
    """Return a content as parts, in which texts have one shape."""
    parts = content if isinstance(content, list) else [content] if content else []
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


def _is_text(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return False
    return part.get("type", "text") in _TEXT_PARTS


def _content(parts: list[Any]) -> Any:
    """Return a message's content: a text, if all parts are."""
    return text_of(parts) if all(map(_is_text, parts)) else parts


def _without_texts(parts: list[Any]) -> list[Any]:
    """Return a content's parts without their texts."""
    return [
        {name: each for name, each in part.items() if name != "text"} if _is_text(part) else part
        for part in parts
    ]


def _path_to(path: _Path | None, entry: Any) -> _Path | None:
    """Return the path of a list's entry, or None if later pieces of it cannot be told from it."""
    if path is None or not isinstance(entry, dict):
        return None
    if isinstance(entry.get("index"), int):
        return (*path, ("index", entry["index"]))
    if path[-1] in _PARTS and isinstance(entry.get("type"), str):
        return (*path, ("type", entry["type"]))
    return None


def _at(path: _Path, value: Any) -> Any:
    """Return an object that has the value at the path, and nothing else."""
    for step in reversed(path):
        value = {step: value} if isinstance(step, str) else [{step[0]: step[1]} | value]
    return value
