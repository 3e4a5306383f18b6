"""`OwnerStore`, the protocol for handing out and erasing all that an owner has."""

from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass
from operator import add
from typing import Protocol, runtime_checkable

from hermes_session_mw.exceptions import InvalidKey
from hermes_session_mw.stores.validation import check_keys


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """The counts of what was erased; no text, and no id.

    Attributes:
        sessions: conversations that had a turn.
        messages: the messages of their histories.
        archived: their archived messages.
        keys: the client's own names of conversations.
        answers: answers, running or ended.
        message_ids: ids that messages were appended with.
        checkpoints: checkpoints.
        ids: ids without a turn: of deleted sessions, and those that were made for a lease, a
            question, metadata or a checkpoint.
    """

    sessions: int = 0
    messages: int = 0
    archived: int = 0
    keys: int = 0
    answers: int = 0
    message_ids: int = 0
    checkpoints: int = 0
    ids: int = 0

    def __add__(self, other: "ErasureReceipt") -> "ErasureReceipt":
        """Return the sums."""
        return ErasureReceipt(*map(add, astuple(self), astuple(other)))


@runtime_checkable
class OwnerStore(Protocol):
    """What a store has for an owner's rights; `SQLAlchemyStore` and `MemoryStore` have it."""

    def export_owner(self, owner: str) -> AsyncIterator[str]:
        """Yield each of the owner's sessions as `LifecycleStore.export` returns it, by id.

        A page of ids is in memory, and one session. One that is deleted meanwhile is left out.
        """
        ...

    async def erase_owner(self, owner: str, *, ownerless: bool = False) -> ErasureReceipt:
        """Remove all that the store has of the owner, also what is in use; return the counts.

        As after a prune, the ids are free: who still holds a turn, or writes an answer, gets
        ``TurnLost``, and an append without a turn begins a new session. So keep the owner's
        requests out first. What begins meanwhile may stay; nothing that was there before does.

        After a failure, call it again; the counts are then of the last call.

        Raises:
            InvalidKey: ``owner`` is "", and ``ownerless`` is false.
        """
        ...


def check_erased(owner: str, *, ownerless: bool) -> None:
    """Check the owner to erase; "" has the sessions of everybody without an owner."""
    check_keys("-", owner)
    if not owner and not ownerless:
        raise InvalidKey(
            'owner is "", which all sessions without an owner have: pass ownerless=True'
        )
