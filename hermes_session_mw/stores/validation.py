"""The checks of arguments that every store makes, before it asks a database.

Databases differ in which values they refuse, cut off or round. A value that one of them could not
store unchanged is refused by all stores, with the same error.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from hermes_session_mw.exceptions import InvalidKey, InvalidMessage, SessionConflict, TurnConflict
from hermes_session_mw.messages import (
    ENCRYPTED,
    Message,
    decode_messages,
    encode_messages,
    is_encrypted,
)
from hermes_session_mw.stores.message_store import ANY, AnyMetadata, ExpectedMetadata
from hermes_session_mw.stores.models import (
    MAX_DIGEST,
    MAX_KEY_LENGTH,
    MAX_LEASE,
    MAX_PAGE,
    MAX_TITLE,
)

ExpectedBody: TypeAlias = str | Literal[AnyMetadata.ANY] | None
"""What the JSON text of a session's metadata has to say: None is none."""


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


def check_message_id(message_id: str, owner: str) -> None:
    """Raise ``InvalidKey`` unless every database can store the message's id and the owner."""
    _check_key("message_id", message_id)
    _check_key("owner", owner, may_be_empty=True)


def check_message_ids(message_ids: Sequence[str | None] | None, count: int) -> None:
    """Check the ids of ``count`` messages, of which each may have one.

    Raises:
        TypeError: they are one str.
        ValueError: they are not as many as the messages, or one is there twice.
        InvalidKey: not every database can store one.
    """
    if message_ids is None:
        return
    if isinstance(message_ids, str):
        raise TypeError("message_ids is a str, not a list")
    if len(message_ids) != count:
        raise ValueError(f"message_ids: there are {len(message_ids)} for {count} messages")
    given = [each for each in message_ids if each is not None]
    for each in given:
        _check_key("message_id", each)
    if len({*given}) < len(given):
        raise ValueError("message_ids: one is there twice")


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
        if is_encrypted(title):
            raise ValueError(f"title begins with {ENCRYPTED!r}, as encrypted texts do")


def check_text(name: str, value: str, most: int, error: type[ValueError]) -> None:
    """Raise ``error`` unless every database can store ``value``, of up to ``most`` characters."""
    if not isinstance(value, str):
        hint = ': give "" for sessions without an owner' if name == "owner" else ""
        raise error(f"{name} is a {type(value).__name__}, not a str{hint}")
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


def check_range(start: int, limit: int | None, since: datetime | None) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these say which messages to load."""
    check_int("start", start)
    check_count("limit", limit)
    if since is not None and since.utcoffset() is None:
        raise ValueError("since: it has no time zone")


def check_prefix(prefix: str) -> None:
    """Raise ``ValueError`` unless session ids can begin with ``prefix``."""
    check_text("prefix", prefix, MAX_KEY_LENGTH["session_id"], ValueError)


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


def encode_expected(expected: ExpectedMetadata, max_message_bytes: int) -> ExpectedBody:
    """Return what metadata is expected, as a JSON text, or raise ``InvalidMessage``."""
    if expected is None or expected is ANY:
        return expected
    return encode_metadata(expected, max_message_bytes)


def check_metadata(expected: ExpectedBody, stored: str | None, length: int = 0) -> None:
    """Raise ``SessionConflict``, with the history's length, if other metadata is expected."""
    if expected is ANY or expected == stored:
        return
    if expected is None or stored is None or not is_same([expected], [stored]):
        problem = "the session has other metadata than expected: load it again and decide anew"
        raise SessionConflict(length, length, problem=problem)


def length_after_repeat(
    stored: Sequence[tuple[int, str]], bodies: Sequence[str] | None, first: int, end: int
) -> int:
    """Return the number of messages in the history before the end of a repeated turn.

    That is what the turn's first append returned, unless the history was compacted or rewound
    since. ``stored`` has the numbers and JSON texts of the stored turn, in order, and ``bodies``
    the JSON texts of its repetition; None where messages have ids, because some of them may not
    have been stored. The history's messages are numbered from ``first`` to before ``end``. Raises
    ``TurnConflict`` if the messages differ.
    """
    if bodies is not None and not is_same([body for _, body in stored], bodies):
        raise TurnConflict
    return max(min(stored[-1][0] + 1, end) - first, 0)


def is_same(bodies: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether two sequences of JSON texts hold the same messages."""
    return _canonical(bodies) == _canonical(others)


def _canonical(bodies: Sequence[str]) -> str:
    # The order of keys may differ. But Python takes 1, 1.0 and true for equal, and JSON does not.
    return json.dumps(decode_messages(bodies), sort_keys=True)
