"""POST /v1/chat/completions."""

from functools import partial

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_app import turns
from demo_app.chat_request import ChatRequest
from demo_app.completions import Completion
from demo_app.failures import error_event
from demo_app.reply import Reply, again
from hermes_session_mw import HermesSession, get_session
from hermes_session_mw.openai_api import EventStream

CHAT = "/v1/chat/completions"


async def chat_completions(request: Request) -> Response:
    """Answer the new messages, and store them and the answer as one turn."""
    chat = ChatRequest.parse(await request.body())
    session, state = get_session(request), request.app.state
    session.check(chat.told[-1])  # refuses what cannot be stored, before anything is changed
    if state.derive_ids:
        await session.derive(chat.told)
    lease = turns.TurnLease(state.model.patience)
    # Before the response begins, so that a failure can be a status code.
    await lease.acquire(session)
    completion = await _again(session, chat, state) or await _anew(session, chat, state)
    completion.reply.renew = lease.renew
    if chat.stream:
        return EventStream(
            completion.events(include_usage=chat.include_usage),
            opening=completion.opening,
            idle_event=completion.idle_event,
            error_event=error_event,
            head_after=state.head_after,
        )
    return JSONResponse(await completion.whole())


async def _again(session: HermesSession, chat: ChatRequest, state: State) -> Completion | None:
    """Return the stored answer of a request that is repeated under its Idempotency-Key."""
    turn = await session.find_turn(told=chat.told, digest=chat.digest)
    if turn is None:
        return None
    session.mark_replayed()
    *question, answer = turn.messages
    start = min(turn.start or 0, session.length)  # empty if the history cannot be read
    prompt = [*chat.system, *session.prompt(*question, replace_from=start)]
    return Completion.again(again(state.model, prompt, answer, chat.options), answer)


async def _anew(session: HermesSession, chat: ChatRequest, state: State) -> Completion:
    """Return the model's answer, which will be stored."""
    new = turns.new_messages(session.new_messages, chat.told, "messages")
    turns.check(session, new, "messages")
    new = await turns.shorten(session, new, state.compact_at)
    prompt = [*chat.system, *session.prompt(*new.asked, replace_from=new.replace_from)]
    finish = turns.when_stored(state.store, session)
    deltas = state.model.stream(prompt, chat.options)
    record = partial(turns.record, session, new, chat.digest)
    reply = Reply(state.model.name, deltas, record, finish)
    return Completion(reply, is_repeatable=session.idempotency_key is not None)
