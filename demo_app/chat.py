"""POST /v1/chat/completions."""

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hermes_session_mw import HermesSession, get_session
from hermes_session_mw.messages import encode_messages

from . import turns
from .chat_request import ChatRequest
from .completions import Completion
from .reply import Reply, again, begin
from .streaming import EventStream

CHAT = "/v1/chat/completions"


async def chat_completions(request: Request) -> Response:
    """Answer the last user message, and store it and its answer as one turn."""
    chat = ChatRequest.parse(await request.body())
    session = get_session(request)
    # Refuses what could not be stored, before anything is changed or answered.
    told = turns.tells_history(session)
    encode_messages([*chat.earlier, chat.user] if told else [chat.user])
    # Before the response begins, so that a refusal can be one; the middleware gives it back. A
    # model that streams for longer than the turn's lease calls the turn's extend() meanwhile.
    await turns.begin(session)
    state = request.app.state
    reply = await _again(session, chat, state) or await _anew(session, chat, state)
    completion = Completion(reply)
    if chat.stream:
        events = completion.events(include_usage=chat.include_usage)
        return EventStream(events, reply.deltas)
    return JSONResponse(await completion.whole())


async def _again(session: HermesSession, chat: ChatRequest, state: State) -> Reply | None:
    """Return the stored answer to a request that is repeated under its Idempotency-Key."""
    turn = await turns.answered_before(session, [*chat.earlier, chat.user])
    if turn is None:
        return None
    *question, reply = turn.messages
    prompt = [*chat.system, *session.history[: turn.start or 0], *question]
    return again(state.model, prompt, reply)


async def _anew(session: HermesSession, chat: ChatRequest, state: State) -> Reply:
    """Return the model's answer, which will be stored."""
    new = await turns.make_room(session, chat.earlier, [chat.user])
    await turns.shorten(session, state.compact_at)
    prompt = [*chat.system, *session.history, *new]
    finish = turns.when_stored(state.store, session)
    deltas = state.model.stream(prompt, chat.options)
    return await begin(deltas, state.model.name, lambda: session.record(*new), finish)
