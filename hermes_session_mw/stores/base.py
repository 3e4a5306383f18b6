"""What every store promises, and the values that go in and out of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from hermes_session_mw.exceptions import InvalidKey, SessionConflict, TurnConflict
from hermes_session_mw.messages import Message, decode_messages, encode_messages

MAX_TURNS = 100_000
"""Turns that one conversation may have, unless a store is told otherwise."""

MAX_KEY_LENGTH = {"owner": 255, "session_id": 256, "turn_id": 255, "key": 255}
"""Characters that each key may have: all of them together fit into one index of any engine."""


@dataclass(frozen=True, slots=True)
class History:
    """A stored conversation, or its newest part.

    Attributes:
        messages: oldest first, each exactly as it was appended.
        length: the number of messages stored, which ``limit`` may make more than are here.
        exists: whether anything is stored under the id.
        deleted: whether something was, and was deleted; nothing can be stored under the id again.
    """

    messages: list[Message]
    length: int
    exists: bool
    deleted: bool = False


@runtime_checkable
class Store(Protocol):
    """Keeps conversations by ``(owner, session_id)``; any class with these methods is one.

    Ids and owners compare byte for byte. A conversation of another owner is simply unknown.
    ``tests/contract/store_contract.py`` in the project's repository holds an implementation to all
    of this.

    A store may have a method ``check(messages: Sequence[Message]) -> None`` too, which raises
    ``InvalidMessage`` for what ``append`` would refuse for itself, and touches no database; and
    the attributes ``max_message_bytes``, the bytes of UTF-8 that one message may take as JSON, and
    ``max_turn_messages``, the messages that one append may have. So what cannot be stored is
    refused before a model is asked.
    """

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """Return the conversation, or its newest ``limit`` messages (0: none, but its length).

        Args:
            session_id: 1 to 256 characters.
            owner: up to 255 characters; ``""`` where sessions have no owners.
            limit: how many messages, from the newest back; None for all.

        Raises:
            InvalidKey: an id cannot be stored.
            ValueError: ``limit`` is negative.
            StoreError: the store failed.
        """
        ...

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        """Store ``messages`` at the end, all or none, and return the new length.

        Two appends never interleave. A ``turn_id`` that is stored already, with the same
        messages, stores nothing and returns the length as it was after the first time, whatever
        ``expected_length`` says.

        Args:
            session_id: 1 to 256 characters.
            messages: at least one JSON object, in order.
            owner: up to 255 characters.
            turn_id: 1 to 255 characters; None where the append is not to be repeated.
            expected_length: the number of messages that have to be there before; None for any.

        Raises:
            InvalidMessage: a message cannot be stored as it is.
            InvalidKey: an id cannot be stored.
            SessionConflict: the conversation has another length than ``expected_length``.
            TurnConflict: the turn id is stored with other messages.
            SessionDeleted: the conversation was deleted.
            SessionFull: the conversation has as many turns as the store allows.
            StoreError: the store failed.
        """
        ...

    async def aclose(self) -> None:
        """Give back what the store holds; a later call may take it up again."""
        ...


def check_keys(session_id: str, owner: str, turn_id: str | None = None) -> None:
    """Refuse keys that some database cannot hold, before any is asked.

    Raises:
        InvalidKey: one is not a str, is too long, or holds NUL or a lone surrogate; the session
            id or the turn id is empty.
    """
    _check_key("session_id", session_id, may_be_empty=False)
    _check_key("owner", owner, may_be_empty=True)
    if turn_id is not None:
        _check_key("turn_id", turn_id, may_be_empty=False)


def check_key(key: str, owner: str) -> None:
    """Refuse a name for a session that some database cannot hold.

    Raises:
        InvalidKey: as for `check_keys`.
    """
    _check_key("key", key, may_be_empty=False)
    _check_key("owner", owner, may_be_empty=True)


def check_count(name: str, number: object) -> None:
    """Refuse what is no whole number: databases round a fraction, each in its own way.

    Raises:
        TypeError: it is neither an int nor None.
    """
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise TypeError(f"{name} is a {type(number).__name__}, not an int")


def check_limit(limit: int | None) -> None:
    """Refuse a negative limit, which some engines would read as "all".

    Raises:
        TypeError: ``limit`` is no int.
        ValueError: ``limit`` is negative.
    """
    check_count("limit", limit)
    if limit is not None and limit < 0:
        raise ValueError(f"limit: {limit} is negative; give None for all messages")


def check_replace_from(replace_from: int | None) -> None:
    """Refuse what is no number of messages to keep.

    Raises:
        TypeError: it is neither None nor an int; a bool is none here.
        ValueError: it is negative.
    """
    if replace_from is None:
        return
    if isinstance(replace_from, bool) or not isinstance(replace_from, int):
        raise TypeError(
            f"replace_from is a {type(replace_from).__name__}, not an int: "
            "it is how many messages stay"
        )
    if replace_from < 0:
        raise ValueError(f"replace_from: {replace_from} is negative; it is how many messages stay")


def check_replaced(replace_from: int, length: int) -> None:
    """Refuse to keep more messages than there are: the caller has seen another history.

    Raises:
        SessionConflict: there are fewer.
    """
    if replace_from > length:
        raise SessionConflict(replace_from, length, at_least=True)


def check_age(older_than: timedelta) -> None:
    """Refuse an age that would make everything old.

    Raises:
        ValueError: ``older_than`` is negative.
    """
    if older_than < timedelta(0):
        raise ValueError(f"older_than: {older_than} is negative")


def encode_replaced(replaced: Sequence[Message], skipped: int, max_message_bytes: int) -> list[str]:
    """Return the JSON texts of what a compaction replaces.

    Raises:
        ValueError: it replaces nothing.
    """
    if not replaced and not skipped:
        raise ValueError("replaced: there is nothing to be replaced")
    if not replaced:
        return []
    return encode_messages(replaced, max_message_bytes, len(replaced))


def length_after_repeat(
    stored: Sequence[tuple[int, str]], bodies: Sequence[str], first: int, end: int
) -> int:
    """Return how many messages of the history come before a repeated turn's end.

    That is what the turn's first append returned, unless the history was compacted or rewound
    since. ``stored`` are the numbers and JSON texts of the turn that has the id, in order;
    ``bodies`` the JSON texts of the one that repeats it. The history's messages have the numbers
    from ``first`` to before ``end``.

    Raises:
        TurnConflict: the messages are not the same.
    """
    if not is_same([body for _, body in stored], bodies):
        raise TurnConflict
    return max(min(stored[-1][0] + 1, end) - first, 0)


def is_same(bodies: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether two sequences of JSON texts hold the same messages."""
    return _canonical(bodies) == _canonical(others)


def _canonical(bodies: Sequence[str]) -> str:
    # The order of keys may differ; but 1, 1.0 and true, which Python takes for equal, may not.
    return json.dumps(decode_messages(bodies), sort_keys=True)


def check_text(name: str, value: str, most: int, error: type[ValueError]) -> None:
    """Refuse what is not a text of up to ``most`` characters that every database can store.

    Raises:
        ValueError: it is not; as ``error``, which is a subclass or itself.
    """
    if not isinstance(value, str):
        raise error(f"{name} is a {type(value).__name__}, not a str")
    if len(value) > most:
        raise error(f"{name} has {len(value)} characters; it may have up to {most}")
    if "\0" in value:
        raise error(f"{name} holds a NUL character, which not every database can store")
    # Far more texts are ASCII than not, and for those this costs nothing.
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise error(f"{name} holds a lone surrogate, which is not Unicode text")


def _check_key(name: str, value: str, *, may_be_empty: bool) -> None:
    most = MAX_KEY_LENGTH[name]
    check_text(name, value, most, InvalidKey)
    if not (value or may_be_empty):
        raise InvalidKey(f"{name} has 0 characters; it may have 1 to {most}")
