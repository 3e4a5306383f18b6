"""`AnswerStore`, the protocol for answers that outlive the request that they were asked in.

An *answer* is a turn that is being answered, with a log of its *events*: JSON values, as clients
get them, numbered from 1. They are written and read as JSON texts of one line each, as
``answer_folding.encode_event`` makes them, so that each is encoded once. An answer is *open* until
it ends, and holds the session's lease meanwhile; its writer is checked by the lease's fence as
every turn is (the head of ``session/turn_lock.py``).

A writer that dies lets the lease expire. Its answer is then *folded* (``answer_folding.folded``):
its question, and as much of the answer as came, are stored as one turn, marked as incomplete. Every
method that reads or edits the history of one session, acquires its lease, or asks for an answer
folds an open answer whose lease has expired first; so a conversation goes on without a housekeeper,
and a fold is done once, whoever does it. ``list`` folds nothing: until somebody else does, it tells
the earlier length, and leaves a session out that has only the question. A deletion and a prune take
the answer with the session. Where the database accepts no writes, reads go without the fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.expiry import Setting
from hermes_session_mw.stores.lifecycle import LifecycleStore

AnswerState = Literal["running", "completed", "incomplete", "failed", "stopped"]
"""``running`` until it ends; ``incomplete`` if it broke off, or its writer died."""

ENDS: tuple[AnswerState, ...] = ("completed", "incomplete", "failed", "stopped")
"""The states of an answer that has ended."""

MAX_EVENTS = 1000
"""The events that one read returns, by default."""


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """An answer as it is stored.

    Attributes:
        id: the answer's id.
        session_id: the session that it belongs to.
        state: whether it runs, or how it ended.
        events: how many of its events are stored; they have the numbers 1 to that.
        question: the messages that it answers.
        turn_id: the id that a complete turn is stored under; None if it gets one by then.
        replace_from: the number of messages that its turn keeps, as for ``append``; None for all.
        message: the answer's message; None while it runs, and if no answer was stored.
        stop_requested: whether ``request_stop`` asked its writer to stop.
        is_alive: whether it runs and its lease had not expired, by the store's clock.
        digest: the digest of its request; None if it was begun without one.
    """

    id: str
    session_id: str
    state: AnswerState
    events: int
    question: list[Message]
    turn_id: str | None
    replace_from: int | None
    message: Message | None
    stop_requested: bool
    is_alive: bool
    digest: str | None = None


class AnswerWatch(Protocol):
    """Someone who follows an answer, and is woken when there may be events of it."""

    async def renew(self) -> bool:
        """Ask the answer's writer for wake-ups, now and then; return whether any are expected.

        Called before every read. Without wake-ups, whoever follows has to read more often.
        """
        ...


@runtime_checkable
class AnswerStore(LifecycleStore, Protocol):
    """A `LifecycleStore` that keeps running answers too; `SQLAlchemyStore` is one.

    Every method may be repeated after a failure that leaves it unknown whether it was done: it is
    done once. Every method raises ``InvalidKey`` for keys that cannot be stored, and ``StoreError``
    if the store failed. An answer is unknown to every other owner.

    Answers of other processes are polled. A store that can tell when there is something to read has
    two more methods, which `SQLAlchemyStore` has for PostgreSQL. Each returns a context manager,
    within which ``wake()`` is called, from any thread, when there may be news:
    ``watch_answer(answer_id, owner, wake)``, of events or the end, as an `AnswerWatch`, and
    ``watch_stop(answer_id, owner, wake)``, of a ``request_stop``.
    """

    async def begin_answer(
        self,
        session_id: str,
        answer_id: str,
        question: Sequence[Message],
        owner: str = "",
        *,
        lease: float,
        turn_id: str | None = None,
        replace_from: int | None = None,
        digest: str | None = None,
        fence: int | None = None,
        begun: Message | None = None,
        expires_after: Setting | None = None,
    ) -> int:
        """Store the question of an answer, acquire the session's lease, and return its fence.

        The question is durable when this returns. It is not in the history before the answer ends,
        and may be without messages, if it is stored already.

        With ``fence``, the lease that has this fence is taken over, and gets a new fence: the old
        one is invalid from then on, so that the turn that is left can neither write nor release it.

        Args:
            session_id: 1 to 256 characters; nothing need be stored under it.
            answer_id: 1 to 255 characters, not used by this owner before.
            question: what is answered, in order; with the answer it has to fit into a turn.
            owner: up to 255 characters.
            lease: seconds, bounded as for ``acquire``; every ``write_events`` renews it. Another
                process may notice up to a second late that one below 2 seconds has expired.
            turn_id: of the complete turn; an answer that breaks off does not use it up.
            replace_from: as for ``append``; the old turn stays until the answer ends.
            digest: of the request, up to 64 characters, so that a repeated one is told from
                another one under the same turn id while the answer runs.
            fence: of the lease that the caller holds.
            begun: the message that the answer continues.
            expires_after: becomes the session's own setting, in the same step; None leaves it.

        Raises:
            InvalidMessage: the question, or ``begun``, cannot be stored as it is.
            ValueError, TypeError: ``lease``, ``replace_from`` or ``digest`` cannot be.
            SessionBusy: the lease is held by another, or an answer is open.
            TurnLost: ``fence`` is not the session's newest.
            TurnConflict: a turn is stored under ``turn_id``, or ``answer_id`` is another answer's.
            SessionConflict: there are fewer messages than ``replace_from``.
            SessionDeleted: the conversation was deleted.
            SessionFull: it has as many turns as it may have. An answer that has begun is stored.
            NotSupported: there is an ``expires_after``, and the store has none.
        """
        ...

    async def write_events(
        self,
        session_id: str,
        answer_id: str,
        first: int,
        events: Sequence[str],
        owner: str = "",
        *,
        fence: int,
        lease: float,
        growth: str | None = None,
    ) -> bool:
        """Store the next events, and extend the lease; return whether a stop was requested.

        The events get the numbers from ``first``; those that are stored already are left as they
        are. Without events only the lease is extended. A write with ``growth`` is repeated with the
        same events.

        Args:
            session_id: the answer's session.
            answer_id: the answer.
            first: the number of the first of ``events``: at most one more than are stored.
            events: JSON texts of one line each.
            owner: the session's owner.
            fence: what ``begin_answer`` returned.
            lease: seconds from now.
            growth: what the answer's message grew by with these events, and since the last write
                (``message_growth.encode_changes``), which a fold applies. Without it, the events
                that are texts continue the message's content.

        Raises:
            InvalidMessage: an event, or ``growth``, cannot be stored as it is, ``first`` would
                leave a gap, or some but not all of the events that ``growth`` is of are stored.
            ValueError, TypeError: ``lease`` or ``first`` cannot be.
            TurnLost: the fence is not the newest, or the answer is not open any more.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def end_answer(
        self,
        session_id: str,
        answer_id: str,
        first: int,
        events: Sequence[str],
        messages: Sequence[Message],
        owner: str = "",
        *,
        fence: int,
        state: AnswerState,
        title: str | None = None,
    ) -> int | None:
        """End the answer: store its last events and its turn, and release the lease, in one step.

        Returns the history's length after that, or None if there are no ``messages``; then nothing
        is appended, and a turn that was to be replaced stays. A repetition returns the same.

        Args:
            session_id: the answer's session.
            answer_id: the answer.
            first: as for ``write_events``.
            events: as for ``write_events``.
            messages: the turn, from the question's first message to the answer. Whatever follows
                the question's messages is the answer.
            owner: the session's owner.
            fence: what ``begin_answer`` returned.
            state: how it ended. Under its ``turn_id`` only a ``completed`` one is stored, so that
                another can be asked for under the same id.
            title: becomes the session's with the turn, if it has none.

        Raises:
            InvalidMessage: a message, or an event, cannot be stored as it is, or ``first`` would
                leave a gap.
            ValueError, TypeError: ``state`` is no end, or ``first`` cannot be.
            TurnLost: the fence is not the newest, or the answer has been folded.
            TurnConflict: another turn has been stored under the ``turn_id`` since.
            SessionConflict: there are fewer messages than ``replace_from`` by now.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def find_answer(self, answer_id: str, owner: str = "") -> AnswerRecord | None:
        """Return the answer; None if there is none under this id."""
        ...

    async def find_answer_of_turn(
        self, session_id: str, turn_id: str, owner: str = ""
    ) -> AnswerRecord | None:
        """Return the session's newest answer that was begun with this turn id, or None."""
        ...

    async def open_answer(self, session_id: str, owner: str = "") -> AnswerRecord | None:
        """Return the session's open answer; None if there is none."""
        ...

    async def read_events(
        self, answer_id: str, owner: str = "", after: int = 0, limit: int = MAX_EVENTS
    ) -> tuple[AnswerState, list[str]] | None:
        """Return the state and the events after the number ``after``, in order, without a gap.

        Both are of one moment: there are no more events than ``limit`` if the state is an end and
        fewer were returned. None if there is no such answer.

        Raises:
            ValueError: ``after`` is negative, or ``limit`` is not above 0.
        """
        ...

    async def request_stop(self, answer_id: str, owner: str = "") -> bool:
        """Ask the answer's writer to stop; return whether the answer is open.

        The next ``write_events`` returns True.
        """
        ...

    async def sweep_answers(self, retention: float, limit: int = 100) -> int:
        """Fold the open answers whose lease has expired, and remove those that ended long ago.

        Removes those of any owner that ended more than ``retention`` seconds ago, with their
        events; their turns stay. At most ``limit`` of each; returns how many in all.

        Raises:
            ValueError: ``retention`` is negative, or ``limit`` is not above 0.
        """
        ...
