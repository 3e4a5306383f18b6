"""POST /v1/chat/completions."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hermes_session_mw import HermesSession, Store, get_session
from hermes_session_mw.messages import encode_messages

from . import turns
from .chat_request import ChatRequest
from .completions import Completion
from .model import answer, text_of
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
    completion = await _again(session, chat) or await _anew(
        session, chat, state.store, state.compact_at
    )
    if chat.stream:
        return EventStream(completion.events(include_usage=chat.include_usage))
    return JSONResponse(await completion.whole())


async def _again(session: HermesSession, chat: ChatRequest) -> Completion | None:
    """Return the stored answer to a request that is repeated under its Idempotency-Key."""
    turn = await turns.answered_before(session, [*chat.earlier, chat.user])
    if turn is None:
        return None
    *question, reply = turn.messages
    prompt = [*chat.system, *session.history[: turn.start or 0], *question]
    return Completion(prompt, text_of(reply))


async def _anew(
    session: HermesSession, chat: ChatRequest, store: Store, compact_at: int
) -> Completion:
    """Return the model's answer, which will be stored."""
    new = await turns.make_room(session, chat.earlier, [chat.user])
    await turns.shorten(session, compact_at)
    prompt = [*chat.system, *session.history, *new]
    finish = turns.when_stored(store, session)
    return Completion(prompt, answer(prompt), session.record(*new), finish)
