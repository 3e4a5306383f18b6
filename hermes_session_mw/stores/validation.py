"""The checks of arguments that every store makes, before it asks a database.

Databases differ in which values they refuse, cut off or round. A value that one of them could not
store unchanged is refused by all stores, with the same error.
"""

import json
from collections.abc import Sequence
from datetime import timedelta

from hermes_session_mw.exceptions import InvalidKey, InvalidMessage, SessionConflict, TurnConflict
from hermes_session_mw.messages import Message, decode_messages, encode_messages
from hermes_session_mw.stores.models import (
    MAX_DIGEST,
    MAX_KEY_LENGTH,
    MAX_LEASE,
    MAX_PAGE,
    MAX_TITLE,
)


def check_keys(session_id: str, owner: str, turn_id: str | None = None) -> None:
    """Check that every database can store the session id, the owner and the turn id.

    Raises:
        InvalidKey: one is not a str, is too long, or holds NUL or a lone surrogate; the session
            id or the turn id is empty.
    """
    _check_key("session_id", session_id)
    _check_key("owner", owner, may_be_empty=True)
    if turn_id is not None:
        _check_key("turn_id", turn_id)


def check_key(key: str, owner: str) -> None:
    """Raise ``InvalidKey`` unless every database can store a client's own key for a session."""
    _check_key("key", key)
    _check_key("owner", owner, may_be_empty=True)


def check_answer(answer_id: str, owner: str) -> None:
    """Raise ``InvalidKey`` unless every database can store the answer's id and the owner."""
    _check_key("answer_id", answer_id)
    _check_key("owner", owner, may_be_empty=True)


def _check_key(name: str, value: str, *, may_be_empty: bool = False) -> None:
    most = MAX_KEY_LENGTH[name]
    check_text(name, value, most, InvalidKey)
    if not (value or may_be_empty):
        raise InvalidKey(f"{name} has 0 characters; it may have 1 to {most}")


def check_digest(digest: str | None) -> None:
    """Raise ``ValueError`` unless every database can store a request's digest, or None."""
    if digest is not None:
        check_text("digest", digest, MAX_DIGEST, ValueError)


def check_title(title: str | None) -> None:
    """Raise ``ValueError`` unless every database can store the title; None is no title."""
    if title is not None:
        check_text("title", title, MAX_TITLE, ValueError)


def check_text(name: str, value: str, most: int, error: type[ValueError]) -> None:
    """Raise ``error`` unless every database can store ``value``, of up to ``most`` characters."""
    if not isinstance(value, str):
        raise error(f"{name} is a {type(value).__name__}, not a str")
    if len(value) > most:
        raise error(f"{name} has {len(value)} characters; it may have up to {most}")
    if "\0" in value:
        raise error(f"{name} holds a NUL character, which not every database can store")
    # Most texts are ASCII, and for those this costs nothing.
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise error(f"{name} holds a lone surrogate, which is not Unicode text")


def check_int(name: str, number: object) -> None:
    """Raise ``TypeError`` unless ``number`` is an int, no bool, or None: databases round others."""
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise TypeError(f"{name} is a {type(number).__name__}, not an int")


def check_count(name: str, number: int | None) -> None:
    """Raise as `check_int`, and ``ValueError`` if negative: some engines take -1 for "all"."""
    check_int(name, number)
    if number is not None and number < 0:
        raise ValueError(f"{name}: {number} is negative")


def check_page(limit: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``limit`` is an int from 1 to ``MAX_PAGE``."""
    check_int("limit", limit)
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: {limit} is not between 1 and {MAX_PAGE}")


def check_lease(seconds: float, error: type[ValueError] = ValueError) -> None:
    """Raise ``error`` unless a lease's seconds are above 0 and at most ``MAX_LEASE``."""
    if not 0 < seconds <= MAX_LEASE:
        raise error(f"lease: {seconds} is not above 0 and at most {MAX_LEASE} seconds")


def check_age(older_than: timedelta) -> None:
    """Raise ``ValueError`` for a negative age: every session would be that old."""
    if older_than < timedelta(0):
        raise ValueError(f"older_than: {older_than} is negative")


def check_replaced(replace_from: int, length: int) -> None:
    """Raise ``SessionConflict`` if the history is shorter than what is to be kept."""
    if replace_from > length:
        raise SessionConflict(replace_from, length, at_least=True)


def encode_replaced(replaced: Sequence[Message], skipped: int, max_message_bytes: int) -> list[str]:
    """Return the JSON texts of the messages that a compaction replaces, or raise ``ValueError``."""
    if not replaced and not skipped:
        raise ValueError("replaced: there is nothing to replace")
    if not replaced:
        return []
    return encode_messages(replaced, max_message_bytes, len(replaced))


def encode_metadata(metadata: Message, max_message_bytes: int) -> str:
    """Return the JSON text of a session's metadata, or raise ``InvalidMessage``."""
    try:
        (body,) = encode_messages([metadata], max_message_bytes)
    except InvalidMessage as exc:
        raise type(exc)(str(exc).replace("message 0", "the metadata", 1)) from None
    return body


def length_after_repeat(
    stored: Sequence[tuple[int, str]], bodies: Sequence[str], first: int, end: int
) -> int:
    """Return the number of messages in the history before the end of a repeated turn.

    That is what the turn's first append returned, unless the history was compacted or rewound
    since. ``stored`` has the numbers and JSON texts of the stored turn, in order, and ``bodies``
    the JSON texts of its repetition. The history's messages are numbered from ``first`` to before
    ``end``. Raises ``TurnConflict`` if the messages differ.
    """
    if not is_same([body for _, body in stored], bodies):
        raise TurnConflict
    return max(min(stored[-1][0] + 1, end) - first, 0)


def is_same(bodies: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether two sequences of JSON texts hold the same messages."""
    return _canonical(bodies) == _canonical(others)


def _canonical(bodies: Sequence[str]) -> str:
    # The order of keys may differ. But Python takes 1, 1.0 and true for equal, and JSON does not.
    return json.dumps(decode_messages(bodies), sort_keys=True)
