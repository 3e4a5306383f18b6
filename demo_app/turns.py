"""What every turn of a conversation needs: its place, its repetition, its length, its title.

All of it happens inside ``session.turn()``, so that no other request is at it meanwhile.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import cast

import anyio

from demo_app.bodies import BadRequest
from demo_app.model import text_of
from demo_app.transcript import answers_calls
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
from hermes_session_mw.session.new_messages import NewMessages, is_same
from hermes_session_mw.session.tool_calls import is_result

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

    ``told`` are all messages that the request's body tells; the turn's question is their end, but
    for the beginning of the answer, where that is told.

    Raises:
        TurnConflict: the id is the one of another request.
    """
    turn = await session.find_turn(turn_id)
    if turn is None:
        return None
    question, begun = turn.messages[:-1], told[-1]["role"] == "assistant"
    asked = told[: len(told) - begun]
    start = len(asked) - len(question)
    if start < 0 or not all(map(is_same, asked[start:], question)):
        raise TurnConflict
    return turn


def check(session: HermesSession, new: NewMessages) -> None:
    """Refuse what no model takes, and what could not be stored, before the model is asked.

    Raises:
        BadRequest: there are results of tools that nobody called, or not all of them.
        StoreUnavailable: the calls of the tools cannot be read.
        InvalidMessage: a message cannot be stored.
    """
    if any(is_result(message) for message in new.messages):
        if session.degraded:
            raise StoreUnavailable("the calls of the tools cannot be read")
        if not answers_calls([*session.history[: new.keep], *new.messages]):
            problem = "the results at the end are not those of the tools that were called"
            raise BadRequest(problem, "messages")
    session.check(*new.messages, {"role": "assistant", "content": ""})


def record(session: HermesSession, new: NewMessages, turn_id: str | None = None) -> Recording:
    """Begin to record the turn, which at its end takes the place of what is stored after it.

    Once the model has begun to answer, so that a request which it refuses changes nothing.
    """
    return session.record(
        *new.messages, turn_id=turn_id, replace_from=new.replace_from, begun=new.begun
    )


async def shorten(session: HermesSession, new: NewMessages, longest: int) -> NewMessages:
    """Put a summary in the place of the oldest messages, where there are more than ``longest``.

    Return what is new after it. 0 for never. A client whose own history counts keeps it as long as
    it likes, and what takes another turn's place leaves it to the next one.
    """
    is_short = session.length <= max(longest, KEEP)
    if not longest or is_short or tells_history(session) or new.replace_from is not None:
        return new
    count = session.length - KEEP
    first = one_line(text_of(session.history[0]), 200)
    text = f"Summary of {count} earlier messages; the first was: {first}"
    with suppress(NotSupported):  # Hermes compresses its conversations itself
        await session.compact(keep=KEEP, summary=[{"role": "user", "content": text}])
    return replace(new, keep=session.length)


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
