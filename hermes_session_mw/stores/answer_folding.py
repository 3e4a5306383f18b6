"""What stores have in common for answers: checks, events as JSON texts, and what a fold stores."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hermes_session_mw.exceptions import InvalidMessage, MessageTooLarge, StoreCorrupt
from hermes_session_mw.messages import (
    Message,
    as_json,
    beginning_of,
    decode_messages,
    encode_messages,
    is_encrypted,
    needs_keys,
)
from hermes_session_mw.stores.answers import ENDS, AnswerState
from hermes_session_mw.stores.message_growth import GrowingMessage
from hermes_session_mw.stores.validation import check_int

_BEFORE, _AFTER = '{"":', "}"
_INCOMPLETE = {"status": "incomplete"}
# What ends a line for one reader or another, and JSON leaves unescaped.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one write, as JSON texts; they have the numbers from ``first``.

    ``growth`` is what the message grew by with them, if its writer told.
    """

    first: int
    bodies: Sequence[str]
    growth: str | None = None

    def after(self, stored: int) -> "Events":
        """Return those that are not among the ``stored`` ones.

        Raises:
            InvalidMessage: events between are missing, or some of those that the message has grown
                by are stored, and others are not.
        """
        if self.first > stored + 1:
            raise InvalidMessage(f"first: {self.first} leaves a gap; {stored} events are stored")
        rest = self.bodies[stored + 1 - self.first :]
        if self.growth is not None and 0 < len(rest) < len(self.bodies):
            raise InvalidMessage(f"growth is of {stored} stored events too; repeat their own write")
        return Events(stored + 1, rest, self.growth)

    @property
    def lines(self) -> str:
        """All of them, one on each line."""
        return "\n".join(self.bodies)


def check_end(state: AnswerState) -> None:
    """Raise ``ValueError`` unless the state is one of an answer that has ended."""
    if state not in ENDS:
        raise ValueError(f"state: {state!r} is not one of {', '.join(ENDS)}")


def check_sweep(retention: float, limit: int) -> None:
    """Raise ``ValueError`` for a negative time, or for nothing to do."""
    if not retention >= 0:
        raise ValueError(f"retention: {retention} is not 0 or more seconds")
    check_above_0("limit", limit)


def check_above_0(name: str, number: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``number`` is an int above 0."""
    check_int(name, number)
    if number < 1:
        raise ValueError(f"{name}: {number} is not above 0")


def encode_question(question: Sequence[Message], max_bytes: int, max_messages: int) -> list[str]:
    """Return the question's messages as JSON texts; one more message has to fit into the turn.

    Raises:
        InvalidMessage: see `encode_messages`; but a question may be empty.
    """
    if isinstance(question, list | tuple) and not question:
        return []
    return encode_messages(question, max_bytes, max_messages - 1)


def encode_event(payload: object, max_bytes: int) -> str:
    """Return an event as a JSON text of one line.

    Raises:
        InvalidMessage: it is no JSON value that comes back unchanged, or has more than
            ``max_bytes`` bytes.
    """
    body = as_json(payload) if type(payload) is str else ""
    if not body.isascii() or not 0 < len(body) <= max_bytes:
        # As the value in an object, so that a text, a number or a list is held to the same.
        (framed,) = encode_messages([{"": payload}], max_bytes + len(_BEFORE + _AFTER))
        body = framed[len(_BEFORE) : -len(_AFTER)]
    return body if body.isascii() else _LINE_ENDS.sub(_escaped, body)


def check_events(
    first: int, events: Sequence[str], max_bytes: int, growth: str | None = None
) -> Events:
    """Check JSON texts that `encode_event` has returned; whether they are JSON is not looked at.

    Raises:
        InvalidMessage: one cannot be stored as a line of text, or has more than ``max_bytes``
            bytes; or ``growth`` cannot be stored as a text.
        TypeError, ValueError: ``first`` is not an int above 0.
    """
    check_above_0("first", first)
    checked = Events(first, events, growth)
    lines = _checked_text("an event", checked.lines if _are_texts(events) else None)
    if lines.count(b"\n") > max(len(events) - 1, 0) or not all(events):
        raise InvalidMessage("an event is no JSON text of one line; nothing was stored")
    if len(lines) > max_bytes and any(len(event.encode()) > max_bytes for event in events):
        raise MessageTooLarge(
            f"an event takes more than {max_bytes} bytes (max_message_bytes); nothing was stored"
        )
    if growth is not None:
        _checked_text("growth", growth)
    return checked


def _are_texts(events: Sequence[object]) -> bool:
    return all(isinstance(event, str) for event in events)


def _checked_text(name: str, text: str | None) -> bytes:
    """Return the text's bytes, if a database can hold it."""
    try:
        encoded = text.encode() if isinstance(text, str) else b"\0"
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise InvalidMessage(f"{name} is no JSON text; nothing was stored")
    return encoded


def encode_begun(begun: Message | None, max_bytes: int) -> str | None:
    """Return the message as a JSON text; see `encode_messages`."""
    return None if begun is None else encode_messages([begun], max_bytes)[0]


def split_lines(lines: Iterable[str]) -> list[str]:
    """Return the events of rows, of which each has one on each line."""
    return [event for each in lines for event in each.split("\n")]


def decode_events(events: Sequence[str]) -> list[object]:
    """Return the values of JSON texts; ``StoreCorrupt`` for other texts."""
    try:
        decoded: list[object] = json.loads(f"[{','.join(events)}]")
    except (ValueError, TypeError, RecursionError):
        if any(map(is_encrypted, events)):
            raise needs_keys() from None
        raise StoreCorrupt("a stored event is not JSON: restore it from a backup") from None
    return decoded


def folded(
    question: Sequence[str],
    begun: str | None,
    writes: Iterable[tuple[str | None, Sequence[str]]],
    *,
    replaces: bool,
    max_bytes: int,
) -> list[str]:
    """Return the JSON texts of the turn that an answer without its writer becomes.

    ``begun`` is the message that the answer began with. Of each of the ``writes``, in order, there
    is what the message grew by, or else the events, of which those that are texts continue the
    message. If a turn was to be replaced and nothing new came, it is nothing: the old one stays.
    """
    answer = _incomplete(begun, writes, replaces=replaces, max_bytes=max_bytes)
    if answer is None:
        return [] if replaces else list(question)
    return [*question, answer]


def _incomplete(
    begun: str | None,
    writes: Iterable[tuple[str | None, Sequence[str]]],
    *,
    replaces: bool,
    max_bytes: int,
) -> str | None:
    """Return the answer's message, marked as incomplete, as a JSON text; None if nothing came."""
    before: Message = {} if begun is None else decode_messages([begun])[0]
    # Decoded again: what is compared in the end must not have grown too.
    growing = GrowingMessage((decode_messages([begun])[0] or None) if begun is not None else None)
    for growth, events in writes:
        if growth is not None:
            growing.apply(growth)
        else:
            for text in decode_events(events):
                if isinstance(text, str):
                    growing.add_text(text)
    message = growing.finish()
    if message is None or not _has_content(message, before if replaces else {}):
        return None
    message |= _INCOMPLETE
    content = message.get("content")
    if isinstance(content, str):
        (frame,) = encode_messages([{**message, "content": ""}], sys.maxsize)
        message["content"] = beginning_of(content, max(max_bytes - len(frame.encode()), 0))
    # The mark may make a message larger than the limit by a few bytes, which a database can hold.
    (body,) = encode_messages([message], max_bytes + len(json.dumps(_INCOMPLETE)))
    return body


def _has_content(message: Message, before: Message) -> bool:
    return any(
        value and value != before.get(name) for name, value in message.items() if name != "role"
    )


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
