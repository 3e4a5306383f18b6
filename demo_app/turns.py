"""What every turn of a conversation needs: its place, its repetition, its length, its title.

All of it happens inside ``session.turn()``, so that no other request is at it meanwhile.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import anyio

from demo_app.model import text_of
from hermes_session_mw import (
    HermesSession,
    LifecycleStore,
    NotSupported,
    Recording,
    Store,
    StoredTurn,
    StoreError,
    StoreUnavailable,
    Turn,
    TurnConflict,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.session.recording import is_incomplete

Finish = Callable[[], Awaitable[None]]

WAIT = 10.0
"""Seconds to wait for another turn of the conversation, before this one is answered 409."""

LEASE = 60.0
"""Seconds after which a turn is another's, beside what the model may take for a piece."""

RENEW = 20.0
"""Seconds after which a turn is taken for as long again, while pieces come."""

KEEP = 10
"""Messages that stay as they are where a conversation is compacted."""

TITLE_LENGTH = 60


def tells_history(session: HermesSession) -> bool:
    """Tell whether the history in the request's body counts: nothing is stored, or it is asked."""
    return session.is_new or session.history_source == "request"


class Hold:
    """The turn that a request is in; kept while the model is at work, given back afterwards.

    A store that has no turns, such as Hermes' own database, goes without.
    """

    def __init__(self, patience: float) -> None:
        """Take the seconds that may pass between two calls of `keep`."""
        self._lease = LEASE + patience
        self._turn: Turn | None = None
        self._until = 0.0

    async def enter(self, session: HermesSession) -> None:
        """Wait for the session's turn and load its history; the middleware gives the turn back."""
        try:
            self._turn = await session.turn(wait=WAIT, lease=self._lease).acquire()
        except NotSupported:
            await session.load()
        self._until = anyio.current_time() + RENEW

    async def keep(self) -> None:
        """Have the turn's lease begin anew, if that was long ago.

        Raises:
            TurnLost: another request has taken the turn.
        """
        if self._turn is not None and anyio.current_time() >= self._until:
            self._until = anyio.current_time() + RENEW
            with suppress(StoreError):  # what is stored in the end is checked against the turn
                await self._turn.extend()


async def answered_before(
    session: HermesSession, told: Sequence[Message], turn_id: str | None = None
) -> StoredTurn | None:
    """Return the turn that this very request has stored already, None where it is the first.

    ``told`` are all messages that the request's body tells; the turn's question is their end.

    Raises:
        TurnConflict: the id is the one of another request.
    """
    turn = await session.find_turn(turn_id)
    if turn is not None:
        question = turn.messages[:-1]
        if not _are_same(told[-len(question) :], question):
            raise TurnConflict
    return turn


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn begins: after ``at`` messages of the stored history, with ``new`` ones."""

    at: int
    new: list[Message]

    def prompt(self, session: HermesSession) -> list[Message]:
        """Return what the model is asked."""
        return session.prompt(*self.new, replace_from=self.at)

    def check(self, session: HermesSession) -> None:
        """Refuse what could not be stored there, with an answer, before the model is asked."""
        session.check(*self.new, {"role": "assistant", "content": ""})

    def take(self, session: HermesSession, turn_id: str | None = None) -> Recording:
        """Begin to record the turn, which at its end takes the place of what is stored after it.

        Once the model has begun to answer, so that a request which it refuses changes nothing.
        """
        replaces = self.at if self.at < session.length else None
        return session.record(*self.new, turn_id=turn_id, replace_from=replaces)


def place(session: HermesSession, earlier: Sequence[Message], new: Sequence[Message]) -> Place:
    """Return where the turn begins, and what it has to store.

    ``earlier`` is what the request's body tells before ``new``. Where it counts, the history keeps
    what the two have in common, and the rest of it is stored with the turn: so a client edits a
    message, or has its last one answered anew.
    """
    if not tells_history(session):
        return Place(before_retry(session.history, new), [*new])
    if session.degraded:
        raise StoreUnavailable("the stored history cannot be compared with the one in the request")
    at = _length_in_common(session.history, earlier)
    return Place(at, [*earlier[at:], *new])


def before_retry(history: Sequence[Message], question: Sequence[Message]) -> int:
    """Return how many messages come before the same question's unfinished turn; all, if none is.

    A question that was answered may well be asked again: who says "yes" twice means it twice. One
    that ends the history unanswered, or with an answer that broke off, was never answered, so that
    the same question after it can only be its repetition: with an Idempotency-Key or without one,
    it takes the first one's place, and is not there twice.
    """
    end = len(history)
    if history and is_incomplete(history[-1]):
        end -= 1
    start = end - len(question)
    repeats = start >= 0 and _are_same(history[start:end], question)
    return start if repeats else len(history)


async def shorten(session: HermesSession, begun: Place, longest: int) -> Place:
    """Put a summary in the place of the oldest messages, where there are more than ``longest``.

    Return where the turn begins then. 0 for never. A client that tells its history itself keeps it
    as long as it likes, and what takes another turn's place leaves it to the next one.
    """
    is_short = session.length <= max(longest, KEEP)
    if not longest or is_short or tells_history(session) or begun.at < session.length:
        return begun
    count = session.length - KEEP
    first = one_line(text_of(session.history[0]), 200)
    text = f"Summary of {count} earlier messages; the first was: {first}"
    with suppress(NotSupported):  # Hermes compresses its conversations itself
        await session.compact(keep=KEEP, summary=[{"role": "user", "content": text}])
    return replace(begun, at=session.length)


def when_stored(store: Store, session: HermesSession) -> Finish:
    """Return what is to be done once the turn is stored: a conversation without a title gets one.

    That is the first turn, or the next one where the first broke off.
    """
    names = hasattr(store, "rename")
    return partial(_entitle, cast("LifecycleStore", store), session) if names else nothing


async def nothing() -> None:
    """Do nothing."""


def one_line(text: str, length: int) -> str:
    """Return the text's beginning, as a line that every database and every list can show."""
    shown = (char if char.isprintable() and char != "`" else " " for char in text[: length * 4])
    line = " ".join("".join(shown).split())
    if len(line) <= length:
        return line
    cut = line[: length - 1].rstrip()
    at_a_word = cut.rpartition(" ")[0] if line[len(cut)] != " " else cut
    return f"{at_a_word or cut}…"


def unstored() -> Recording:
    """Return a recording that stores nothing: for what is stored, or is not to be."""
    return Recording(_store_nothing, _store_nothing, [])


async def _entitle(store: LifecycleStore, session: HermesSession) -> None:
    asked = (text_of(message) for message in session.history if message["role"] == "user")
    title, owner = one_line(next(asked, ""), TITLE_LENGTH), session.known_owner()
    # The answer is stored, and worth more than its title, which a store may have for another.
    with suppress(StoreError, ValueError):
        info = await store.info(session.id, owner)
        if title and info is not None and info.title is None:
            await store.rename(session.id, title, owner)


async def _store_nothing(*_: Message, **__: object) -> int:
    return 0


def _length_in_common(history: Sequence[Message], told: Sequence[Message]) -> int:
    pairs = enumerate(zip(history, told, strict=False))
    differing = (at for at, (one, other) in pairs if not _is_same(one, other))
    return next(differing, min(len(history), len(told)))


def _are_same(some: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(some) == len(others) and all(map(_is_same, some, others))


def _is_same(one: Message, other: Message) -> bool:
    # Clients repeat what they show, and not what else a server keeps beside it.
    fields = ("role", "content", "name", "tool_calls", "tool_call_id")
    return all((one.get(field) or None) == (other.get(field) or None) for field in fields)
