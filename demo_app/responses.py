"""/v1/responses, on the same sessions as the chat.

A response is a turn: its id is the turn's, and a session key leads from it to the session.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from demo_app import turns
from demo_app.bodies import json_object
from demo_app.model import Model
from demo_app.recorded import Reply, again
from demo_app.response_shapes import Answer, details_of
from hermes_session_mw import HermesSession, StoredTurn, StoreUnavailable, TurnConflict, get_session
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import EventStream
from hermes_session_mw.openai_api.conversations import conversation_session_id
from hermes_session_mw.openai_api.invalid_request import InvalidRequest, unsupported
from hermes_session_mw.openai_api.item_ids import is_response_id, page_of, response_details
from hermes_session_mw.openai_api.response_request import ResponseRequest
from hermes_session_mw.openai_api.stored_responses import (
    StoredResponses,
    new_response_id,
    response_not_found,
    response_turn_id,
)
from hermes_session_mw.session.new_messages import NewMessages, find_new, is_same
from hermes_session_mw.session.prompts import WindowLimits, window_of

RESPONSES = "/v1/responses"

_PREVIOUS = ("previous_response_id", "previous_response_not_found")
"""The field at fault and the error's code, if the response to continue from is missing."""

_PARAMETERS = ("include", "include[]", "include_obfuscation", "stream", "starting_after")
"""Those of ``GET /v1/responses/{id}``."""

_LONGEST = 100
"""Messages of the history that a model is given with ``truncation: auto``, as in Hermes Agent."""


async def create_response(request: Request) -> Response:
    """Answer the input, in the conversation that the header or the body names."""
    asked = ResponseRequest.parse(json_object(await request.body()))
    if asked.background:
        raise unsupported("background")
    session, state, ids = get_session(request), request.app.state, _responses(request)
    await _choose(session, asked, ids)
    asked = await ids.resolve(asked, session)
    session.is_turn = session.is_turn and asked.store
    asked = replace(asked, store=session.is_turn)
    if state.derive_ids:
        turn_id = response_turn_id(session, new_response_id(session))
        await session.derive(asked.new, turn_id=turn_id)
    response_id = new_response_id(session, is_stored=asked.store, previous=asked.previous)
    details = details_of(response_id, asked)
    # Refuses what cannot be stored, before anything is changed.
    session.check(*asked.new, {"role": "assistant", "metadata": {"response": details}})
    if asked.store:
        made = await _stored(session, asked, ids, state, details)
    else:
        made = await _unstored(session, asked, ids, state, details)
    made = replace(made, instructions=asked.instructions)
    if asked.stream:
        return EventStream(
            made.events(),
            opening=made.opening,
            idle_event=made.idle_event,
            error_event=made.error_event,
            head_after=state.head_after,
        )
    return JSONResponse(await made.whole())


async def get_response(request: Request) -> Response:
    """Return a stored response, under its conversation's id if the request names none."""
    for name, value in request.query_params.items():
        if name not in _PARAMETERS:
            raise InvalidRequest(f"'{name}' is no parameter here", name, code="unknown_parameter")
        if name in ("stream", "starting_after") and value != "false":
            raise unsupported(name, "to resume an answer")
    session, response_id = get_session(request), request.path_params["response_id"]
    session_id, turn = await _find(request)
    if session.is_new:
        await session.switch(session_id)
    model = request.app.state.model
    return JSONResponse(await _again(response_id, session_id, turn, model).whole())


async def delete_response(request: Request) -> Response:
    """Delete a response; its turn stays in the conversation."""
    response_id = request.path_params["response_id"]
    await _find(request)
    await _responses(request).forget(response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


async def cancel_response(request: Request) -> Response:
    """Refuse to cancel: only answers that are made in the background could be."""
    await _find(request)
    raise InvalidRequest("the response is not made in the background", "response_id")


async def list_input_items(request: Request) -> Response:
    """List the items that a response's request has added to its conversation."""
    session_id, turn = await _find(request)
    session = get_session(request)
    if session.is_new:
        await session.switch(session_id)
    items = await _responses(request).input_items(session_id, turn)
    return JSONResponse(page_of(items, request.query_params))


def response_routes() -> list[BaseRoute]:
    """Return the routes."""
    one = f"{RESPONSES}/{{response_id}}"
    return [
        Route(RESPONSES, create_response, methods=["POST"]),
        Route(one, get_response, methods=["GET"]),
        Route(one, delete_response, methods=["DELETE"]),
        Route(f"{one}/cancel", cancel_response, methods=["POST"]),
        Route(f"{one}/input_items", list_input_items, methods=["GET"]),
    ]


async def _find(request: Request) -> tuple[str, StoredTurn]:
    """Return the session and the turn of the response that the path names."""
    return await _responses(request).turn_of(request.path_params["response_id"])


def _responses(request: Request) -> StoredResponses:
    return StoredResponses(request.app.state.store, get_session(request).known_owner())


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


async def _stored(
    session: HermesSession,
    asked: ResponseRequest,
    ids: StoredResponses,
    state: State,
    details: Message,
) -> Answer:
    """Return the stored answer of a repeated request, or the model's, which will be stored."""
    lease = turns.TurnLease(state.model.patience)
    # Before the response begins, so that a failure can be a status code.
    await lease.acquire(session)
    # It depends on the session, whose id may be another one now, if it is derived.
    details["id"] = response_id = new_response_id(session, previous=asked.previous)
    named = session.id
    fork = await ids.fork_of(session, response_id, asked.previous)
    if fork is not None:
        await _enter(session, fork, lease)
    turn_id = response_turn_id(session, response_id, named=named)
    turn = await session.find_turn(turn_id, told=asked.new, digest=asked.digest)
    if turn is not None:
        session.mark_replayed()
        stored = _again(response_id, session.id, turn, state.model)
        if stored.details["previous_response_id"] != asked.previous:
            raise TurnConflict
        return stored
    new = await _find_new(session, asked, ids, response_id, lease)
    turns.check(session, new, "input")
    new = await turns.shorten(session, new, state.compact_at)
    turn_id = response_turn_id(session, response_id, named=named)  # it may have forked
    await ids.keep(response_id, session.id)
    finish = turns.when_stored(ids.store, session)
    deltas = state.model.stream(_prompt(session, asked, new.asked, new.replace_from), asked.options)
    record = partial(turns.record, session, new, asked.digest, turn_id)
    reply = Reply(state.model.name, deltas, record, finish)
    reply.renew = lease.renew
    return Answer(session.id, reply, details)


async def _find_new(
    session: HermesSession,
    asked: ResponseRequest,
    ids: StoredResponses,
    response_id: str,
    lease: turns.TurnLease,
) -> NewMessages:
    """Return what the input adds, after a fork if it continues from an earlier response."""
    end = await _end_of(session, ids, asked.previous)
    if end is None:
        return turns.new_messages(session.new_messages, asked.new, "input")
    new = _new_after(session, asked, end)
    since = session.history[end:]
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
        await _enter(session, child.id, lease)
    return replace(new, keep=session.length)


def _new_after(session: HermesSession, asked: ResponseRequest, end: int) -> NewMessages:
    """Return what the input adds after the history's first ``end`` messages."""
    new = turns.new_messages(partial(find_new, []), asked.new, "input")
    # Some clients repeat the answer whose calls they send the outputs of.
    is_repeated = (
        end > 0 and len(new.messages) > 1 and is_same(session.history[end - 1], asked.new[0])
    )
    return replace(new, messages=new.messages[1:]) if is_repeated else new


async def _unstored(
    session: HermesSession,
    asked: ResponseRequest,
    ids: StoredResponses,
    state: State,
    details: Message,
) -> Answer:
    """Return the model's answer, without storing anything."""
    if not session.is_new:
        await session.load()
    end = await _end_of(session, ids, asked.previous)
    if end is None:
        new = turns.new_messages(session.new_messages, asked.new, "input")
        end = new.replace_from
    else:
        new = _new_after(session, asked, end)
    deltas = state.model.stream(_prompt(session, asked, new.asked, end), asked.options)
    reply = Reply(state.model.name, deltas)
    return Answer(session.id, reply, details, is_stored=False)


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


def _again(response_id: str, session_id: str, turn: StoredTurn, model: Model) -> Answer:
    """Return a stored answer."""
    *question, message = turn.messages
    missing = {"previous_response_id": None, "model": model.name}
    made = {"id": response_id} | response_details(message)
    details = missing | made | ({} if is_response_id(made["id"]) else {"id": response_id})
    return Answer(session_id, again(model, question, message, {}), details)


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


async def _enter(session: HermesSession, session_id: str, lease: turns.TurnLease) -> None:
    await session.switch(session_id)
    await lease.acquire(session)
