"""A turn of a conversation: where it begins, retries, compaction, its answer, and the title.

All of this runs inside ``session.turn()``, so that no other request interferes. The answer takes
the turn's lease over, and goes on without its client.
"""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from starlette.datastructures import State

from demo_app.completions import Completion
from demo_app.failures import REFUSED
from demo_app.response_shapes import ResponseAnswer
from hermes_session_mw import (
    Answer,
    HermesSession,
    InvalidMessage,
    NotSupported,
    StoreUnavailable,
    first_words,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import is_response_id
from hermes_session_mw.openai_api.naming import ConversationTitle
from hermes_session_mw.openai_api.reply import Delta, Reply
from hermes_session_mw.openai_api.transcript import answers_calls
from hermes_session_mw.session.answer import OnDisconnect
from hermes_session_mw.session.new_messages import NewMessages
from hermes_session_mw.session.tool_calls import is_result

WAIT = 10.0
"""Seconds to wait for another turn of the conversation, before this one is answered 409."""

KEEP = 10
"""The newest messages, which a compaction keeps."""


async def enter(session: HermesSession, digest: str, turn_id: str | None = None) -> Answer | None:
    """Wait for the session's turn, and return None; or return the request's running answer.

    Without an Idempotency-Key a response has a turn id too, which is the response's.
    """
    return await session.turn_or_answer(
        digest, turn_id=turn_id, is_made_id=is_response_id, wait=WAIT
    )


def tells_history(session: HermesSession) -> bool:
    """Return whether the body's history counts: nothing is stored, or the client asks for it."""
    return session.is_new or session.history_source == "request"


async def begin(
    session: HermesSession,
    state: State,
    new: NewMessages,
    made: Completion | ResponseAnswer,
    digest: str,
    *,
    turn_id: str | None = None,
    on_disconnect: OnDisconnect | None = None,
) -> tuple[Answer, Callable[[], Awaitable[None]]]:
    """Store the question, and begin its answer, which replaces the messages after its beginning.

    Return also what waits for the title, which the conversation gets after the answer's end.
    """
    title = ConversationTitle(state.store, session, new.messages, new.replace_from)
    answer = await session.answer(
        made.payloads(),
        *new.messages,
        turn_id=turn_id,
        replace_from=new.replace_from,
        on_disconnect=on_disconnect or state.on_disconnect,
        assemble=lambda _: made.message(),  # which has added them up
        digest=digest,
        begun=new.begun,
        discard_on=REFUSED,
        on_end=title.on_end,
    )
    return answer, title.done.wait


def reply(session: HermesSession, state: State, deltas: AsyncGenerator[Delta, None]) -> Reply:
    """Return the model's answer, within what the store can hold."""

    def allows(fields: Message) -> bool:
        try:
            session.check({"role": "assistant", "content": "", **fields})
        except InvalidMessage:
            return False
        return True

    most = getattr(state.store, "max_message_bytes", sys.maxsize)
    return Reply(state.model.name, deltas, allows, most)


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
    first = first_words(session.history[0], 200)
    text = f"Summary of {count} earlier messages; the first was: {first}"
    with suppress(NotSupported):  # Hermes compresses its conversations itself
        await session.compact(keep=KEEP, summary=[{"role": "user", "content": text}])
    return replace(new, keep=session.length)
