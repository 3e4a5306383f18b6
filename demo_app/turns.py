"""A turn of a conversation: where it begins, retries, compaction, its answer, and the title.

All of this runs inside ``session.turn()``, so that no other request interferes. The answer takes
the turn's lease over, and goes on without its client.
"""

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal, Protocol, cast

import anyio

from demo_app.failures import REFUSED, failure_of
from demo_app.model import Delta, Model
from demo_app.reply import Reply
from hermes_session_mw import (
    Answer,
    HermesSession,
    InvalidMessage,
    LifecycleStore,
    NotSupported,
    SessionBusy,
    Store,
    StoreError,
    StoreUnavailable,
    TurnConflict,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import text_of
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.titles import one_line, title_of
from hermes_session_mw.openai_api.transcript import answers_calls
from hermes_session_mw.session.new_messages import NewMessages
from hermes_session_mw.session.tool_calls import is_result

OnDisconnect = Literal["continue", "stop"]

WAIT = 10.0
"""Seconds to wait for another turn of the conversation, before this one is answered 409."""

KEEP = 10
"""The newest messages, which a compaction keeps."""


def tells_history(session: HermesSession) -> bool:
    """Return whether the body's history counts: nothing is stored, or the client asks for it."""
    return session.is_new or session.history_source == "request"


LOOK = 0.25
"""Seconds of that wait after which a repeated request looks for its answer again."""


async def enter(session: HermesSession, digest: str, turn_id: str | None = None) -> Answer | None:
    """Wait for the session's turn and load its history; the middleware releases the turn.

    Return the running answer of the same request instead, which is repeated under its
    Idempotency-Key: the client joins it.

    Args:
        session: the request's session.
        digest: the request's.
        turn_id: the id that the turn has under the key, unless it is the key itself.

    Raises:
        SessionBusy: another turn did not end in time.
        TurnConflict: the key is another request's.
    """
    name = session.idempotency_key and (turn_id or session.idempotency_key)
    until = anyio.current_time() + WAIT
    while (answer := await _joined(session, name, digest)) is None:
        left = max(until - anyio.current_time(), 0)
        try:
            # In steps if there is a key: who holds the lease may begin the answer to join.
            await acquire(session, min(left, LOOK) if name else left)
        except SessionBusy:
            if not left:
                raise
        else:
            return None
    return answer


async def acquire(session: HermesSession, wait: float = WAIT) -> None:
    """Wait for the session's turn and load its history; with a store without leases, only load."""
    try:
        await session.turn(wait=wait).acquire()
    except NotSupported:
        await session.load()


async def _joined(session: HermesSession, name: str | None, digest: str) -> Answer | None:
    if name is None or session.is_new or not session.is_turn:
        return None
    answer = await session.find_answer(turn_id=name)
    if answer is None or answer.state != "running":
        return None
    if answer.digest != digest:
        raise TurnConflict
    session.mark_replayed()
    return answer


class Producer(Protocol):
    """Makes an answer's payloads, and of them the message that is stored."""

    def payloads(self) -> AsyncGenerator[Message, None]:
        """Yield the payloads, as clients get them."""
        ...

    def message(self) -> Message:
        """Return the message of what has been yielded."""
        ...


class Title:
    """Gives the conversation a title after its answer's end, unless it has one.

    Attributes:
        done: set once that was tried.
    """

    def __init__(self, store: Store, session: HermesSession, new: NewMessages) -> None:
        """Take the title from the conversation's beginning."""
        self.done = anyio.Event()
        self._store = cast("LifecycleStore", store) if hasattr(store, "rename") else None
        self._owner = session.known_owner()
        self._title = title_of([*session.history[: new.replace_from], *new.messages])
        if not session.is_turn:
            self._store = None

    async def on_end(self, answer: Answer) -> None:
        """Set the title, which matters less than the answer, and may be in use."""
        try:
            if self._store is not None and self._title and answer.state == "completed":
                with suppress(StoreError, ValueError):
                    info = await self._store.info(answer.session_id, self._owner)
                    if info is not None and info.title is None:
                        await self._store.rename(answer.session_id, self._title, self._owner)
        finally:
            self.done.set()

    async def ended(self, answer: Answer, logged: Message | None) -> None:
        """Wait until the title is set; raise as `ended` does."""
        await self.done.wait()
        await ended(answer, logged)


async def ended(answer: Answer, logged: Message | None) -> None:
    """Raise why an answer is not whole, if it is not."""
    if answer.state != "completed":
        raise failure_of(answer, logged)


async def begin(
    session: HermesSession,
    new: NewMessages,
    producer: Producer,
    digest: str,
    title: Title,
    *,
    turn_id: str | None = None,
    on_disconnect: OnDisconnect = "continue",
) -> Answer:
    """Store the question, and begin its answer, which replaces the messages after its beginning.

    Raises:
        HermesSessionError: as for ``session.answer``.
    """
    return await session.answer(
        producer.payloads(),
        *new.messages,
        turn_id=turn_id,
        replace_from=new.replace_from,
        on_disconnect=on_disconnect,
        assemble=lambda _: producer.message(),  # which has added them up
        digest=digest,
        begun=new.begun,
        discard_on=REFUSED,
        on_end=title.on_end,
    )


def reply(
    session: HermesSession, store: Store, model: Model, deltas: AsyncGenerator[Delta, None]
) -> Reply:
    """Return the model's answer, within what the store can hold."""

    def allows(fields: Message) -> bool:
        try:
            session.check({"role": "assistant", "content": "", **fields})
        except InvalidMessage:
            return False
        return True

    most = getattr(store, "max_message_bytes", sys.maxsize)
    return Reply(model.name, deltas, allows, most)


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
