"""What every store promises, and the values that go in and out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hermes_session_mw.messages import Message


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
    ``hermes_session_mw.testing`` holds an implementation to all of this.

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
