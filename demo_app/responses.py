"""POST /v1/responses, on the same sessions as the chat.

A response is a turn: its id is the turn's, and a session key leads from it to the session. While it
is made it is an answer, which goes on without its client and is followed by `response_routes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_app import turns
from demo_app.bodies import json_object
from demo_app.failures import error_payload, failure_of
from demo_app.response_shapes import ResponseAnswer, details_of, stored_response
from hermes_session_mw import (
    Answer,
    HermesSession,
    StoreUnavailable,
    TurnConflict,
    get_session,
)
from hermes_session_mw.messages import Message, chat_messages
from hermes_session_mw.openai_api.conversations import conversation_session_id
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.response_object import response_object
from hermes_session_mw.openai_api.response_request import ResponseRequest
from hermes_session_mw.openai_api.response_stream import FollowedResponse, begun_response
from hermes_session_mw.openai_api.stored_responses import (
    StoredResponses,
    new_response_id,
    response_not_found,
    response_turn_id,
)
from hermes_session_mw.session.answer import OnDisconnect
from hermes_session_mw.session.new_messages import NewMessages, find_new, is_same
from hermes_session_mw.session.prompts import WindowLimits, window_of

RESPONSES = "/v1/responses"

_PREVIOUS = ("previous_response_id", "previous_response_not_found")
"""The field at fault and the error's code, if the response to continue from is missing."""

_LONGEST = 100
"""Messages of the history that a model is given with ``truncation: auto``, as in Hermes Agent."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that is being answered.

    Attributes:
        request: the HTTP request.
        session: its session.
        body: what it asks for.
        ids: the owner's responses.
        details: what of the response is stored with the answer's message.
    """

    request: Request
    session: HermesSession
    body: ResponseRequest
    ids: StoredResponses
    details: Message

    @property
    def state(self) -> State:
        """The application's."""
        state: State = self.request.app.state
        return state

    @property
    def own(self) -> Message:
        """The response's fields for this client."""
        return own_fields(self.session.id, self.body.instructions)


async def create_response(request: Request) -> Response:
    """Answer the input, in the conversation that the header or the body names."""
    body = ResponseRequest.parse(json_object(await request.body()))
    session, ids = get_session(request), responses_of(request)
    await _choose(session, body, ids)
    body = await ids.resolve(body, session)
    session.is_turn = session.is_turn and body.store
    body = replace(body, store=session.is_turn)
    if body.background:
        if not body.store:
            raise InvalidRequest("what is made in the background is stored", "background")
        session.on_disconnect = None  # it goes on whatever the client does
    if request.app.state.derive_ids:
        turn_id = response_turn_id(session, new_response_id(session))
        await session.derive(body.new, turn_id=turn_id)
    response_id = new_response_id(session, is_stored=body.store, previous=body.previous)
    details = details_of(response_id, body)
    # Refuses what cannot be stored, before anything is changed.
    told = {"role": "assistant", "metadata": {"response": response_object("in_progress", details)}}
    session.check(*body.new, told)
    asked = _Asked(request, session, body, ids, details)
    return await (_stored(asked) if body.store else _unstored(asked))


def responses_of(request: Request) -> StoredResponses:
    """Return the responses of the request's owner."""
    return StoredResponses(request.app.state.store, get_session(request).known_owner())


def own_fields(session_id: str, instructions: str | None = None) -> Message:
    """Return the fields of a response that are one client's: instructions are not stored."""
    return {"conversation": {"id": session_id}, "instructions": instructions}


async def _choose(session: HermesSession, asked: ResponseRequest, ids: StoredResponses) -> None:
    """Continue in the session that the body names.

    If the header names another one, the request is ambiguous, and refused.
    """
    wanted, param = None, "conversation"
    if asked.conversation is not None:
        wanted = conversation_session_id(asked.conversation, session.known_owner())
    elif asked.previous is not None:
        wanted, param = await ids.session_of(asked.previous), "previous_response_id"
        if wanted is None:
            raise response_not_found(asked.previous, *_PREVIOUS)
    if wanted is None or wanted == session.id:
        return
    if not session.is_new or session.key is not None:
        raise InvalidRequest(
            "the header names another conversation", param, code="session_mismatch"
        )
    await session.switch(wanted)


async def _stored(asked: _Asked) -> Response:
    """Answer by the running or stored answer of a repeated request, or else by the model's."""
    session, body, ids = asked.session, asked.body, asked.ids
    turn_id = response_turn_id(session, asked.details["id"])
    # Before the response begins, so that a failure can be a status code.
    answer = await turns.enter(session, body.digest, turn_id)
    if answer is not None:
        return await _joined(asked, answer)
    # It depends on the session, whose id may be another one now, if it is derived.
    asked.details["id"] = response_id = new_response_id(session, previous=body.previous)
    named = session.id
    fork = await ids.fork_of(session, response_id, body.previous)
    if fork is not None:
        await session.switch(fork)
        answer = await turns.enter(session, body.digest, response_id)
        if answer is not None:
            return await _joined(asked, answer)
    turn_id = response_turn_id(session, response_id, named=named)
    turn = await session.find_turn(turn_id, told=body.new, digest=body.digest)
    if turn is not None:
        session.mark_replayed()
        stored = stored_response(response_id, turn, asked.state.model)
        if stored.details["previous_response_id"] != body.previous:
            raise TurnConflict
        return await stored.response(asked.own, stream=body.stream)
    new = await _find_new(session, body, ids, response_id)
    turns.check(session, new, "input")
    new = await turns.shorten(session, new, asked.state.compact_at)
    turn_id = response_turn_id(session, response_id, named=named)  # it may have forked
    await ids.keep(response_id, session.id)
    return await _begun(asked, new, new.replace_from, turn_id)


async def _unstored(asked: _Asked) -> Response:
    """Answer by the model's answer, without storing anything."""
    session, body = asked.session, asked.body
    if not session.is_new:
        await session.load()
    end = await _end_of(session, asked.ids, body.previous)
    if end is None:
        new = turns.new_messages(session.new_messages, body.new, "input")
        end = new.replace_from
    else:
        new = _new_after(session, body, end)
    return await _begun(asked, new, end)


async def _begun(
    asked: _Asked, new: NewMessages, start: int | None, turn_id: str | None = None
) -> Response:
    """Ask the model, and answer by its answer."""
    session, body, state = asked.session, asked.body, asked.state
    deltas = state.model.stream(_prompt(session, body, new.asked, start), body.options)
    reply = turns.reply(session, state, deltas)
    made = ResponseAnswer(reply, asked.details, body.store)
    leaves: OnDisconnect | None = "continue" if body.background else None
    answer, titled = await turns.begin(
        session, state, new, made, body.digest, turn_id=turn_id, on_disconnect=leaves
    )
    followed = _followed(asked, answer, asked.details["id"], after_end=titled)
    if body.background and not body.stream:
        return JSONResponse(made.first[0]["response"] | asked.own)
    return await _told(asked, followed, made.first)


async def _joined(asked: _Asked, answer: Answer) -> Response:
    """Answer by the running answer of an earlier attempt."""
    begun = await begun_response(answer) or asked.details
    followed = _followed(asked, answer, begun["id"])
    if asked.body.background and not asked.body.stream:
        return JSONResponse(await followed.so_far())
    return await _told(asked, followed)


def _followed(asked: _Asked, answer: Answer, response_id: str, **more: Any) -> FollowedResponse:
    return FollowedResponse(
        answer, response_id, asked.own, raises=True,
        failure=failure_of, payload_of=error_payload, **more,
    )  # fmt: skip


async def _told(
    asked: _Asked, followed: FollowedResponse, opening: Sequence[Message] = ()
) -> Response:
    if asked.body.stream:
        return followed.stream(opening, head_after=asked.state.head_after)
    return JSONResponse(await followed.whole(asked.request.receive))


async def _find_new(
    session: HermesSession,
    asked: ResponseRequest,
    ids: StoredResponses,
    response_id: str,
) -> NewMessages:
    """Return what the input adds, after a fork if it continues from an earlier response."""
    end = await _end_of(session, ids, asked.previous)
    if end is None:
        return turns.new_messages(session.new_messages, asked.new, "input")
    new = _new_after(session, asked, end)
    since = chat_messages(session.history[end:])
    if len(since) < len(new.messages) and all(map(is_same, since, new.messages)):
        # The client repeats all that was stored since, such as a question and its call.
        new = replace(new, messages=new.messages[len(since) :])
    elif end != session.length:
        if new.begun is None:
            retried = find_new(session.history, asked.new)
            if retried.kind == "repeats" and retried.keep == end:
                return retried
        child = await session.fork(end)
        await ids.keep_fork(session, response_id, child.id)
        await session.switch(child.id)
        await turns.enter(session, asked.digest)
    return replace(new, keep=session.length)


def _new_after(session: HermesSession, asked: ResponseRequest, end: int) -> NewMessages:
    """Return what the input adds after the history's first ``end`` messages."""
    new = turns.new_messages(partial(find_new, []), asked.new, "input")
    # Some clients repeat the answer whose calls they send the outputs of.
    last = chat_messages(session.history[:end])[-1:]
    is_repeated = len(new.messages) > 1 and any(is_same(each, asked.new[0]) for each in last)
    return replace(new, messages=new.messages[1:]) if is_repeated else new


def _prompt(
    session: HermesSession, asked: ResponseRequest, new: Sequence[Message], start: int | None
) -> list[Message]:
    """Return the model's input: all of the history, or its end if the request truncates it.

    What the request tells is cut like the history, up to its last answer.
    """
    if not asked.truncates:
        return [*asked.system, *session.prompt(*new, replace_from=start)]
    answered = [at for at, each in enumerate(new[:-1], 1) if each["role"] == "assistant"]
    end = answered[-1] if answered else 0
    before = [*session.history[:start], *new[:end]]
    return [*asked.system, *window_of(before, new[end:], WindowLimits(_LONGEST))]


async def _end_of(session: HermesSession, ids: StoredResponses, previous: str | None) -> int | None:
    """Return the history's length at the end of the response to continue from.

    Raises:
        InvalidRequest: it broke off, or is not in the history any more (404).
        StoreUnavailable: the history cannot be read.
    """
    if previous is None:
        return None
    _, turn = await ids.turn_of(previous, *_PREVIOUS)
    if turn.start is None:
        raise response_not_found(previous, *_PREVIOUS)
    if session.degraded:
        raise StoreUnavailable("the stored history cannot be read, to go on from a response in it")
    return turn.start + len(turn.messages)
