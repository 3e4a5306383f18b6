"""`Store`, the protocol of three methods that a store has to implement, and `History`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol, TypeVar, runtime_checkable

from hermes_session_mw.messages import Message

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class History:
    """A stored conversation, or its newest part.

    Attributes:
        messages: oldest first, each exactly as it was appended.
        length: how many messages are stored; with a ``limit`` this may be more than were loaded.
        exists: whether anything is stored under the id.
        deleted: whether the conversation was deleted; its id cannot be used again.
    """

    messages: list[Message]
    length: int
    exists: bool
    deleted: bool = False


@runtime_checkable
class Store(Protocol):
    """Stores conversations by ``(owner, session_id)``; any class with these methods is a store.

    Ids and owners compare byte for byte. A conversation is unknown to every other owner.
    ``hermes_session_mw.testing`` tests an implementation for all of this.

    A store may also have a method ``check(messages: Sequence[Message]) -> None``, which raises the
    ``InvalidMessage`` that ``append`` would raise for these messages, without a database; and the
    attributes ``max_message_bytes``, the bytes of UTF-8 that one message may take as JSON, and
    ``max_turn_messages``, the messages that one append may have. With them, invalid messages are
    refused before a model is called. ``unsent_keys``, a frozenset, names keys of its messages that
    ``session.prompt`` leaves out.
    """

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """Return the conversation, or its newest ``limit`` messages (0: none, but its length).

        Args:
            session_id: 1 to 256 characters.
            owner: up to 255 characters; ``""`` where sessions have no owners.
            limit: how many of the newest messages to load; None for all.

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

        Two appends never interleave. If the ``turn_id`` is stored already, with the same messages,
        nothing is stored, and the length after the first time is returned, whatever
        ``expected_length`` is.

        Args:
            session_id: 1 to 256 characters.
            messages: at least one JSON object, in order.
            owner: up to 255 characters.
            turn_id: 1 to 255 characters; None if the append will not be repeated.
            expected_length: the number of messages that have to be stored before; None for any.

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
        """Close the store's connections; a later call may open them again."""
        ...


# By identity: a method that overrides or wraps one of these may change the messages, and the texts
# would then be those of before.
_TAKE_ENCODED: set[FunctionType] = set()


def takes_encoded(append: F) -> F:
    """Mark a store's ``append`` as one that takes `EncodedMessages`, and stores their texts."""
    assert isinstance(append, FunctionType)
    _TAKE_ENCODED.add(append)
    return append


def may_give_encoded(append: Callable[..., Any]) -> bool:
    """Tell whether this ``append``, of a store, is one that was marked by `takes_encoded`."""
    function = getattr(append, "__func__", None)
    return isinstance(function, FunctionType) and function in _TAKE_ENCODED
