"""`LifecycleStore`, the protocol for editing, forking, leasing, listing and naming conversations.

A chat needs only a `Store`. Every method here is optional: a session that needs a method which the
store lacks raises `NotSupported` with the method's name.

The *history* is what ``load`` returns. *Archived* messages were once part of it; they are kept, and
returned by ``archived`` alone. All times are UTC.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.base import Store
from hermes_session_mw.stores.models import (
    PAGE,
    ArchivedMessage,
    SessionInfo,
    SessionPage,
    StoredTurn,
)


@runtime_checkable
class LifecycleStore(Store, Protocol):
    """A `Store` that also edits, forks, leases and lists; `SQLAlchemyStore` is one.

    A method with a ``fence`` raises ``TurnLost`` if the session's lease was acquired again since
    (see ``acquire``). Every method raises ``InvalidKey`` for keys that cannot be stored, and
    ``StoreError`` if the store failed.
    """

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
        *,
        fence: int | None = None,
        replace_from: int | None = None,
    ) -> int:
        """See `Store.append`.

        ``replace_from`` is the number of messages to keep: ``messages`` replace the rest, which is
        archived in the same transaction. So the old turn stays until the edited or regenerated one
        is stored. ``expected_length`` is the length before the replacement. A full history may
        still be replaced by one that is not longer.

        A ``turn_id`` stays taken after its messages were archived. Repeated, it stores and archives
        nothing, and returns how many messages of the history come before the turn's end.

        Raises:
            TypeError, ValueError: ``replace_from`` is not an int, or negative.
            SessionConflict: also if there are fewer messages than ``replace_from``.
        """
        ...

    async def rewind(
        self, session_id: str, length: int, owner: str = "", *, fence: int | None = None
    ) -> int:
        """Keep the history's first ``length`` messages, archive the rest, and return the length.

        A history that is shorter already stays as it is.

        Raises:
            ValueError: ``length`` is negative.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def compact(
        self,
        session_id: str,
        replaced: Sequence[Message],
        summary: Sequence[Message],
        owner: str = "",
        *,
        skipped: int = 0,
        fence: int | None = None,
    ) -> int:
        """Archive the history's oldest messages, put ``summary`` in their place; return the length.

        They are the first ``skipped`` messages, which are not compared, and the ones after them,
        which have to be equal to ``replaced``.

        Raises:
            ValueError: there is nothing to replace.
            InvalidMessage: the summary cannot be stored.
            SessionConflict: the history does not begin with them.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """Return the turn that was appended with ``turn_id``; None where there is none."""
        ...

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """Copy the first ``length`` messages of the history to ``new_id``; return how many.

        None, or more than there are, copies all of them. The copies get a new turn id, and the two
        conversations are independent from then on.

        Raises:
            ValueError: ``length`` is negative.
            SessionNotFound: nothing is stored under ``session_id``.
            SessionConflict: something is, or was, stored under ``new_id``.
        """
        ...

    async def rotate(
        self, session_id: str, new_id: str, owner: str = "", new_owner: str | None = None
    ) -> bool:
        """Move everything to ``new_id``, and to another owner where one is given.

        The old id is then like that of a deleted session. Keys that were bound to it are bound to
        the new one, or dropped if the owner is another, also if nothing was stored yet. The fence
        of a lease that is held becomes invalid. Returns whether there was anything to move.

        Raises:
            SessionConflict: something is, or was, stored under the new id; also if there is nothing
                to move.
        """
        ...

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """Acquire the session's lease for ``seconds``, and return its fence.

        The lease is free when it was released, or when it has expired by the store's own clock. A
        fence is a number that only grows, also if the session is pruned and its id used again. The
        head of ``session/turn_lock.py`` explains both.

        Raises:
            ValueError: ``seconds`` is not more than 0, or more than 2,592,000 (30 days).
            SessionBusy: the lease is held; ``retry_after`` says for how long at most.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """Extend the lease to ``seconds`` from now, bounded as for ``acquire``.

        Raises:
            TurnLost: it was acquired again since, or the session was deleted, pruned or rotated.
        """
        ...

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """Release the lease, if it still has this fence."""
        ...

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> SessionPage:
        """Return the owner's sessions, the most recently changed ones first.

        An answer whose writer has died is not folded for it: see the head of ``stores/answers.py``.

        Raises:
            ValueError: ``limit`` is not between 1 and 500, or ``cursor`` does not come from a
                page.
        """
        ...

    async def info(self, session_id: str, owner: str = "") -> SessionInfo | None:
        """Return the session's description; None if nothing is stored under the id."""
        ...

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """Set the session's title, or remove it; return whether there is such a session.

        Raises:
            ValueError: not every database can store the title, it has more than 500 characters, or
                the store needs it to be unique and it is not.
        """
        ...

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """Delete the conversation with its archived messages and metadata; return if there was one.

        Its id cannot be used again, and the keys that were bound to it are dropped.
        """
        ...

    async def archived(self, session_id: str, owner: str = "") -> Sequence[ArchivedMessage]:
        """Return the archived messages, in the order in which they were archived."""
        ...

    async def export(self, session_id: str, owner: str = "") -> str:
        """Return the session as JSON Lines, from one snapshot; see ``docs/sessions.md``.

        Raises:
            SessionNotFound: nothing is stored under the id.
        """
        ...

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """Store what ``export`` returned, as a whole; return its id, the exported or another one.

        The session keeps when it was created, and when it was last changed: now, where the lines do
        not tell, or tell a time that is still to come by the store's own clock. Every message is
        of now.

        Raises:
            InvalidMessage: the lines are not an export.
            SessionConflict: something is, or was, stored under the id.
        """
        ...

    async def set_metadata(self, session_id: str, metadata: Message, owner: str = "") -> None:
        """Set the session's metadata, any JSON object, in place of what it was.

        It may be set before the first message. Then the id is in use, and the session is not listed
        until it has a turn. A rotation moves the metadata, a deletion and a prune remove it with
        the session, a fork does not copy it, and an export has it.

        Raises:
            InvalidMessage: it cannot be stored as it is, or takes more bytes than a message may.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def find_metadata(self, session_id: str, owner: str = "") -> Message | None:
        """Return the session's metadata; None where none was set."""
        ...

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """Return the session id that ``key`` is bound to; an unbound key is bound to ``new_id``."""
        ...

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """Bind ``key`` to ``session_id``, also if it was bound to another id."""
        ...

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """Return the session id that ``key`` is bound to; None where it is not bound."""
        ...

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """Remove the binding of ``key``; return whether it was bound."""
        ...
