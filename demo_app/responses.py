"""POST /v1/responses, and GET and DELETE /v1/responses/{id}, on the same sessions as the chat.

A response is a turn: its id is the turn's, and a session key leads from it to the session.
"""

import time
from dataclasses import replace
from functools import partial

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_app import turns
from demo_app.bodies import BadRequest
from demo_app.model import Model
from demo_app.reply import again, begin
from demo_app.response_ids import ResponseIds, new_response_id, not_found
from demo_app.response_request import ResponseRequest
from demo_app.response_shapes import Answer, details
from demo_app.streaming import EventStream
from hermes_session_mw import HermesSession, StoredTurn, StoreUnavailable, TurnConflict, get_session
from hermes_session_mw.session.new_messages import NewMessages, find_new

RESPONSES = "/v1/responses"

_PREVIOUS = ("previous_response_id", "previous_response_not_found")
"""The field at fault and the error's code, if the response to continue from is missing."""


_NO_DETAILS = {"created_at": 0, "previous_response_id": None, "usage": None}
"""The details of a response to which none are stored."""


async def create_response(request: Request) -> Response:
    """Answer the input, in the conversation that the header or the body names."""
    asked = ResponseRequest.parse(await request.body())
    session, state = get_session(request), request.app.state
    session.check(*asked.new)  # refuses messages that cannot be stored, before anything is changed
    ids = ResponseIds(state.store, session.known_owner())
    await _choose(session, asked, ids)
    if not asked.store:
        made = await _unstored(session, asked, ids, state)
    else:
        hold = turns.Hold(state.model.patience)
        await hold.enter(
            session
        )  # before the response begins, so that a failure can be a status code
        made = await _stored(session, asked, ids, state, hold)
        made.reply.keep = hold.keep
    made = replace(made, instructions=asked.instructions)
    if asked.stream:
        return EventStream(made.events(), made.reply.deltas)
    return JSONResponse(await made.whole())


async def get_response(request: Request) -> Response:
    """Return a stored response, under its conversation's id if the request names none."""
    session, response_id = get_session(request), request.path_params["response_id"]
    ids = ResponseIds(request.app.state.store, session.known_owner())
    session_id, turn = await ids.turn_of(response_id)
    if session.is_new:
        await session.switch(session_id)
    model = request.app.state.model
    return JSONResponse(await _again(response_id, session_id, turn, model).whole())


async def delete_response(request: Request) -> Response:
    """Delete a response; its turn stays in the conversation."""
    session, response_id = get_session(request), request.path_params["response_id"]
    ids = ResponseIds(request.app.state.store, session.known_owner())
    await ids.turn_of(response_id)
    await ids.forget(response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


async def _choose(session: HermesSession, asked: ResponseRequest, ids: ResponseIds) -> None:
    """Continue in the session that the body names.

    If the header names another one, the request is ambiguous, and refused.
    """
    wanted, param = asked.conversation, "conversation"
    if asked.previous is not None:
        wanted, param = await ids.session_of(asked.previous), "previous_response_id"
        if wanted is None:
            raise not_found(asked.previous, *_PREVIOUS)
    if wanted is None or wanted == session.id:
        return
    if not session.is_new or session.key is not None:
        raise BadRequest("the header names another conversation", param, code="session_mismatch")
    await session.switch(wanted)


async def _stored(
    session: HermesSession, asked: ResponseRequest, ids: ResponseIds, state: State, hold: turns.Hold
) -> Answer:
    """Return the stored answer of a repeated request, or the model's, which will be stored."""
    response_id = new_response_id(session)
    # Under an Idempotency-Key the first attempt may have continued in a fork.
    tried = await ids.session_of(response_id)
    if tried is not None and tried != session.id:
        await _enter(session, tried, hold)
    turn = await session.find_turn(response_id, told=asked.new, digest=asked.digest)
    if turn is not None:
        session.mark_replayed()
        stored = _again(response_id, session.id, turn, state.model)
        if stored.details["previous_response_id"] != asked.previous:
            raise TurnConflict
        return stored
    new = await _find_new(session, asked, ids, response_id, hold)
    turns.check(session, new)
    new = await turns.shorten(session, new, state.compact_at)
    await ids.keep(response_id, session.id)
    finish = turns.when_stored(ids.store, session)
    prompt = [*asked.system, *session.prompt(*new.asked, replace_from=new.replace_from)]
    deltas = state.model.stream(prompt, asked.options)
    record = partial(turns.record, session, new, asked.digest, response_id)
    reply = await begin(deltas, state.model.name, record, finish)
    return Answer(response_id, session.id, reply, details(int(time.time()), asked))


async def _find_new(
    session: HermesSession,
    asked: ResponseRequest,
    ids: ResponseIds,
    response_id: str,
    hold: turns.Hold,
) -> NewMessages:
    """Return what the input adds, after a fork if it continues from an earlier response."""
    end = await _end_of(session, ids, asked.previous)
    if end is None:
        return turns.new_messages(session.new_messages, asked.new, "input")
    new = turns.new_messages(partial(find_new, []), asked.new, "input")
    if end != session.length:
        if new.begun is None:
            retried = find_new(session.history, asked.new)
            if retried.kind == "repeats" and retried.keep == end:
                return retried
        child = await session.fork(end)
        await ids.keep(response_id, child.id)
        await _enter(session, child.id, hold)
    return replace(new, keep=session.length)


async def _unstored(
    session: HermesSession, asked: ResponseRequest, ids: ResponseIds, state: State
) -> Answer:
    """Return the model's answer, without storing anything."""
    if not session.is_new:
        await session.load()
    end = await _end_of(session, ids, asked.previous)
    if end is None:
        new = turns.new_messages(session.new_messages, asked.new, "input")
        prompt = session.prompt(*new.asked, replace_from=new.replace_from)
    else:
        prompt = session.prompt(*asked.new, replace_from=end)
    messages = [*asked.system, *prompt]
    told = details(int(time.time()), asked)
    response_id = new_response_id(session, is_stored=False)
    reply = await begin(state.model.stream(messages, asked.options), state.model.name)
    return Answer(response_id, session.id, reply, told, is_stored=False)


def _again(response_id: str, session_id: str, turn: StoredTurn, model: Model) -> Answer:
    """Return a stored answer."""
    *question, message = turn.messages
    reply = again(model, question, message, {})
    return Answer(response_id, session_id, reply, message.get("response") or dict(_NO_DETAILS))


async def _end_of(session: HermesSession, ids: ResponseIds, previous: str | None) -> int | None:
    """Return the history's length at the end of the response to continue from.

    Raises:
        BadRequest: it broke off, or is not in the history any more (404).
        StoreUnavailable: the history cannot be read.
    """
    if previous is None:
        return None
    _, turn = await ids.turn_of(previous, *_PREVIOUS)
    if turn.start is None:
        raise not_found(previous, *_PREVIOUS)
    if session.degraded:
        raise StoreUnavailable("the stored history cannot be read, to go on from a response in it")
    return turn.start + len(turn.messages)


async def _enter(session: HermesSession, session_id: str, hold: turns.Hold) -> None:
    await session.switch(session_id)
    await hold.enter(session)
