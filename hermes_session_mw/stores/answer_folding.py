"""What stores have in common for answers: checks, events as JSON texts, and what a fold stores."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hermes_session_mw.exceptions import InvalidMessage, StoreCorrupt
from hermes_session_mw.messages import (
    Message,
    beginning_of,
    decode_messages,
    encode_messages,
)
from hermes_session_mw.stores.answers import ENDS, AnswerState
from hermes_session_mw.stores.validation import check_int

_BEFORE, _AFTER = '{"":', "}"
_INCOMPLETE = {"status": "incomplete"}


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one write, as JSON texts; they have the numbers from ``first``."""

    first: int
    bodies: Sequence[str]

    def after(self, stored: int) -> "Events":
        """Return those that are not among the ``stored`` ones.

        Raises:
            InvalidMessage: events between are missing.
        """
        if self.first > stored + 1:
            raise InvalidMessage(f"first: {self.first} leaves a gap; {stored} events are stored")
        return Events(stored + 1, self.bodies[stored + 1 - self.first :])

    @property
    def array(self) -> str:
        """All of them as one JSON array."""
        return f"[{','.join(self.bodies)}]"


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


def encode_events(first: int, events: Sequence[object], max_bytes: int) -> Events:
    """Return the events as JSON texts.

    Raises:
        InvalidMessage: one is no JSON value that comes back unchanged, or has more than
            ``max_bytes`` bytes.
        TypeError, ValueError: ``first`` is not an int above 0.
    """
    check_above_0("first", first)
    if not events:
        return Events(first, [])
    # As the value in an object, so that a text, a number or a list is held to the same.
    framed: list[Message] = [{"": event} for event in events]
    bodies = encode_messages(framed, max_bytes + len(_BEFORE + _AFTER), len(framed))
    return Events(first, [body[len(_BEFORE) : -len(_AFTER)] for body in bodies])


def encode_partial(partial: Message | None, max_bytes: int) -> str | None:
    """Return the message as a JSON text; see `encode_messages`."""
    return None if partial is None else encode_messages([partial], max_bytes)[0]


def decode_events(arrays: Iterable[str]) -> list[object]:
    """Return the events of JSON arrays; ``StoreCorrupt`` for other texts."""
    events: list[object] = []
    try:
        for array in arrays:
            events += json.loads(array)
    except (ValueError, TypeError, RecursionError):
        raise StoreCorrupt("a stored event is not JSON: restore it from a backup") from None
    return events


def folded(
    question: Sequence[str],
    partial: str | None,
    events: Iterable[object],
    *,
    replaces: bool,
    max_bytes: int,
) -> list[str]:
    """Return the JSON texts of the turn that an answer without its writer becomes.

    ``partial`` is the message that its writer stored last; without one its ``events`` that are
    texts are joined. Nothing if a turn was to be replaced, and no answer came: the old one stays.
    """
    answer = _incomplete(partial, events, max_bytes)
    if answer is None:
        return [] if replaces else list(question)
    return [*question, answer]


def _incomplete(partial: str | None, events: Iterable[object], max_bytes: int) -> str | None:
    """Return the answer's message, marked as incomplete, as a JSON text; None if nothing came."""
    if partial is not None:
        (message,) = decode_messages([partial])
    else:
        text = "".join(event for event in events if isinstance(event, str))
        if not text:
            return None
        message = {"role": "assistant", "content": text}
    message |= _INCOMPLETE
    content = message.get("content")
    if isinstance(content, str):
        (frame,) = encode_messages([{**message, "content": ""}], sys.maxsize)
        message["content"] = beginning_of(content, max(max_bytes - len(frame.encode()), 0))
    # The mark may make a message larger than the limit by a few bytes, which a database can hold.
    (body,) = encode_messages([message], max_bytes + len(json.dumps(_INCOMPLETE)))
    return body
