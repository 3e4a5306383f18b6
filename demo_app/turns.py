"""A turn of a conversation: where it begins, retries, compaction, and the title.

All of this runs inside ``session.turn()``, so that no other request interferes.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import cast

import anyio

from hermes_session_mw import (
    HermesSession,
    LifecycleStore,
    NotSupported,
    Recording,
    Store,
    StoreError,
    StoreUnavailable,
    Turn,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import text_of
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.titles import one_line, title_of
from hermes_session_mw.openai_api.transcript import answers_calls
from hermes_session_mw.session.new_messages import NewMessages
from hermes_session_mw.session.tool_calls import is_result

Finish = Callable[[], Awaitable[None]]

WAIT = 10.0
"""Seconds to wait for another turn of the conversation, before this one is answered 409."""

LEASE = 60.0
"""Seconds of the turn's lease, added to the model's time for a piece."""

RENEW = 20.0
"""Seconds after which the lease is extended, while pieces arrive."""

KEEP = 10
"""The newest messages, which a compaction keeps."""


def tells_history(session: HermesSession) -> bool:
    """Return whether the body's history counts: nothing is stored, or the client asks for it."""
    return session.is_new or session.history_source == "request"


class TurnLease:
    """The turn of a request, whose lease is extended while the model works.

    With a store that has no leases, such as Hermes' own database, it does nothing.
    """

    def __init__(self, patience: float) -> None:
        """Take the seconds that may pass between two calls of `renew`."""
        self._lease = LEASE + patience
        self._turn: Turn | None = None
        self._until = 0.0

    async def acquire(self, session: HermesSession) -> None:
        """Wait for the session's turn and load its history; the middleware releases the turn."""
        try:
            self._turn = await session.turn(wait=WAIT, lease=self._lease).acquire()
        except NotSupported:
            await session.load()
        self._until = anyio.current_time() + RENEW

    async def renew(self) -> None:
        """Extend the turn's lease, if it was not extended recently.

        Raises:
            TurnLost: another request has taken the turn.
        """
        if self._turn is not None and anyio.current_time() >= self._until:
            self._until = anyio.current_time() + RENEW
            with suppress(StoreError):  # the append is checked against the lease in any case
                await self._turn.extend()


def new_messages(
    find: Callable[[Sequence[Message]], NewMessages], told: Sequence[Message], param: str
) -> NewMessages:
    """Return what ``find`` finds new in the messages of the body's field ``param``.

    Raises:
        InvalidRequest: nothing can be answered there.
        SessionConflict, StoreUnavailable: as for `HermesSession.new_messages`.
    """
    try:
        return find(told)
    except ValueError as exc:
        raise InvalidRequest(str(exc), param) from exc


def check(session: HermesSession, new: NewMessages, param: str) -> None:
    """Refuse messages that no model accepts, or that cannot be stored, before asking the model.

    They are those of the body's field ``param``.

    Raises:
        InvalidRequest: tool results answer no call, or not all calls.
        StoreUnavailable: the tool calls cannot be read.
        InvalidMessage: a message cannot be stored.
    """
    if any(is_result(message) for message in new.messages):
        if session.degraded:
            raise StoreUnavailable("the calls of the tools cannot be read")
        if not answers_calls([*session.history[: new.keep], *new.messages]):
            problem = "the results at the end do not match the tool calls"
            raise InvalidRequest(problem, param)
    session.check(*new.messages, {"role": "assistant", "content": ""})


def record(
    session: HermesSession, new: NewMessages, digest: str, turn_id: str | None = None
) -> Recording:
    """Begin to record the turn, which at its end replaces the messages after its beginning.

    Called after the model has begun to answer, so that a refused request changes nothing.
    """
    return session.record(
        *new.messages,
        turn_id=turn_id,
        replace_from=new.replace_from,
        begun=new.begun,
        digest=digest,
    )


async def shorten(session: HermesSession, new: NewMessages, longest: int) -> NewMessages:
    """Replace the oldest messages by a summary, if there are more than ``longest``; 0 for never.

    Return where the turn begins afterwards. Nothing is done if the client's own history counts, if
    the turn replaces another, or if the request is no turn.
    """
    is_short = session.length <= max(longest, KEEP) or not session.is_turn
    if not longest or is_short or tells_history(session) or new.replace_from is not None:
        return new
    count = session.length - KEEP
    first = one_line(text_of(session.history[0].get("content")), 200)
    text = f"Summary of {count} earlier messages; the first was: {first}"
    with suppress(NotSupported):  # Hermes compresses its conversations itself
        await session.compact(keep=KEEP, summary=[{"role": "user", "content": text}])
    return replace(new, keep=session.length)


def when_stored(store: Store, session: HermesSession) -> Finish:
    """Return a function that gives the conversation a title, to be called after the turn is stored.

    It does nothing if there is a title already, or if the request is no turn.
    """
    names = hasattr(store, "rename") and session.is_turn
    return partial(_entitle, cast("LifecycleStore", store), session) if names else nothing


async def nothing() -> None:
    """Do nothing."""


def unstored() -> Recording:
    """Return a recording that stores nothing."""
    return Recording(_store_nothing, _store_nothing, [])


async def _entitle(store: LifecycleStore, session: HermesSession) -> None:
    title, owner = title_of(session.history), session.known_owner()
    # The answer is stored and matters more than its title, which may be in use.
    with suppress(StoreError, ValueError):
        info = await store.info(session.id, owner)
        if title and info is not None and info.title is None:
            await store.rename(session.id, title, owner)


async def _store_nothing(*_: Message, **__: object) -> int:
    return 0
