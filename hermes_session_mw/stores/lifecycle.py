"""What a store promises that knows a conversation's whole life, and not only its growth.

A `Store` of three methods serves a chat. These serve what comes after: edits, summaries, branches,
one turn at a time, lists of threads. All of it is optional: a session asks for what it needs, and a
store that does not have it is told so by name (`NotSupported`).

Words used throughout: the *history* is what ``load`` gives; *archived* messages were in it once,
are kept, and are given by ``archived`` alone. All times are UTC.
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
    """A `Store` that also edits, branches, locks and lists; `SQLAlchemyStore` is one.

    Wherever a method takes ``fence``, it is refused with ``TurnLost`` where another has taken the
    turn since (see ``acquire``). Every method raises ``InvalidKey`` for keys that cannot be stored,
    and ``StoreError`` where the store failed.
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

        ``replace_from`` is the number of messages to keep of the history: ``messages`` take the
        place of the rest, which is archived, in the same transaction. So an edited or regenerated
        turn stands until the new one does. ``expected_length`` is the length before it. Of a
        history that is full, one that is no longer may take the place.

        A ``turn_id`` stays taken after its messages were archived: repeated, it stores nothing and
        returns how many messages of the history come before the turn's end, as far as there are.
        With ``replace_from`` it archives nothing more either.

        Raises:
            TypeError, ValueError: ``replace_from`` is no int, or negative.
            SessionConflict: also where there are fewer messages than ``replace_from``.
        """
        ...

    async def rewind(
        self, session_id: str, length: int, owner: str = "", *, fence: int | None = None
    ) -> int:
        """Keep the history's first ``length`` messages, archive the rest, and return the length.

        That is the history's own length where it was shorter already.

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
        """Archive the history's oldest messages, put ``summary`` in their place, return the length.

        They are the first ``skipped`` ones, whatever they are, and then ``replaced``, which must
        be the very messages that stand there.

        Raises:
            ValueError: nothing is to be replaced.
            InvalidMessage: the summary cannot be stored.
            SessionConflict: the history does not begin so.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """Return the turn that was appended under ``turn_id``, None where there was none."""
        ...

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """Begin ``new_id`` with the first ``length`` messages of the history; return how many.

        None for all of it, which is also what a greater number gives. The two go their own ways
        from there: turn ids are not taken along.

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

        The old id is then as one that was deleted. Keys that led to it lead to the new one, or
        nowhere where the owner is another, also where nothing was stored yet. Whoever is in a turn
        is late from then on. Returns whether there was anything to move.

        Raises:
            SessionConflict: something is, or was, stored under the new id; also where there is
                nothing to move.
        """
        ...

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """Take the session's turn for ``seconds``, and return its fencing number.

        The turn is free when it was released, or when its time is up by the store's own clock.
        Numbers only grow, also where the session is deleted or pruned and its id used again.

        Raises:
            ValueError: ``seconds`` is not more than 0, or more than 2,592,000 (30 days).
            SessionBusy: another has it; ``retry_after`` says for how long at most.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """Keep the turn for ``seconds`` from now, bounded as for ``acquire``.

        Raises:
            TurnLost: another has taken it since, or the session was deleted, pruned or rotated.
        """
        ...

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """Give the turn back, if it is still that one."""
        ...

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> SessionPage:
        """Return the owner's sessions, the ones that were changed last first.

        Raises:
            ValueError: ``limit`` is not between 1 and 500, or ``cursor`` is not one that a page
                gave.
        """
        ...

    async def info(self, session_id: str, owner: str = "") -> SessionInfo | None:
        """Return what a list would tell of the session; None where nothing is stored under it."""
        ...

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """Give the session a title, or none; tell whether there is such a session.

        Raises:
            ValueError: the title is not a text that every database can store, has more than 500
                characters, or is one that the store cannot give twice.
        """
        ...

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """Remove the conversation, archived messages too, and tell whether there was one.

        Its id is not used again, and keys that led to it lead nowhere.
        """
        ...

    async def archived(self, session_id: str, owner: str = "") -> Sequence[ArchivedMessage]:
        """Return the messages that were in the history once, in the order of their archiving."""
        ...

    async def export(self, session_id: str, owner: str = "") -> str:
        """Return the session as JSON Lines, as it is at one moment; see ``docs/sessions.md``.

        Raises:
            SessionNotFound: nothing is stored under the id.
        """
        ...

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """Store what ``export`` gave, as a whole, and return its id: the exported one, or another.

        Raises:
            InvalidMessage: the lines are not such an export.
            SessionConflict: something is, or was, stored under the id.
        """
        ...

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """Return the session that ``key`` leads to, which is ``new_id`` from now on if none was."""
        ...

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """Let ``key`` lead to ``session_id`` from now on."""
        ...

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """Return the session that ``key`` leads to; None where it leads nowhere."""
        ...

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """Let ``key`` lead nowhere, and tell whether it led somewhere."""
        ...
