"""POST /v1/chat/completions."""

from functools import partial

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_app import turns
from demo_app.bodies import BadRequest
from demo_app.chat_request import ChatRequest
from demo_app.completions import Completion
from demo_app.reply import Reply, again, begin
from demo_app.streaming import EventStream
from demo_app.transcript import answers_calls
from hermes_session_mw import HermesSession, StoreUnavailable, get_session

CHAT = "/v1/chat/completions"


async def chat_completions(request: Request) -> Response:
    """Answer what is new, and store it and its answer as one turn."""
    chat = ChatRequest.parse(await request.body())
    session = get_session(request)
    session.check(*chat.new)  # refuses what could not be stored, before anything is answered
    state = request.app.state
    hold = turns.Hold(state.model.patience)
    await hold.enter(session)  # before the response begins, so that a refusal can be one
    reply = await _again(session, chat, state) or await _anew(session, chat, state)
    reply.keep = hold.keep
    completion = Completion(reply)
    if chat.stream:
        events = completion.events(include_usage=chat.include_usage)
        return EventStream(events, reply.deltas)
    return JSONResponse(await completion.whole())


async def _again(session: HermesSession, chat: ChatRequest, state: State) -> Reply | None:
    """Return the stored answer to a request that is repeated under its Idempotency-Key."""
    turn = await turns.answered_before(session, [*chat.earlier, *chat.new])
    if turn is None:
        return None
    *question, reply = turn.messages
    start = min(turn.start or 0, session.length)  # nothing, where the history cannot be read
    prompt = [*chat.system, *session.prompt(*question, replace_from=start)]
    return again(state.model, prompt, reply, chat.options)


async def _anew(session: HermesSession, chat: ChatRequest, state: State) -> Reply:
    """Return the model's answer, which will be stored."""
    _check_results(session, chat)
    place = turns.place(session, chat.earlier, chat.new)
    place.check(session)
    place = await turns.shorten(session, place, state.compact_at)
    finish = turns.when_stored(state.store, session)
    deltas = state.model.stream([*chat.system, *place.prompt(session)], chat.options)
    return await begin(deltas, state.model.name, partial(place.take, session), finish)


def _check_results(session: HermesSession, chat: ChatRequest) -> None:
    """Refuse results of tools that nobody called, which no model takes."""
    if chat.new[0]["role"] != "tool":
        return
    if turns.tells_history(session):
        before = chat.earlier
    elif session.degraded:
        raise StoreUnavailable("the calls of the tools cannot be read")
    else:
        before = session.history[: turns.before_retry(session.history, chat.new)]
    if not answers_calls(chat.new, before):
        problem = "the results at the end are not those of the tools that the message before calls"
        raise BadRequest(problem, "messages")
