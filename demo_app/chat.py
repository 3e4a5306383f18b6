"""POST /v1/chat/completions."""

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_app import turns
from demo_app.chat_request import ChatRequest
from demo_app.completions import Completion
from demo_app.failures import error_event, failure_of
from hermes_session_mw import HermesSession, get_session
from hermes_session_mw.openai_api.chat_stream import FollowedCompletion, RepeatedCompletion
from hermes_session_mw.openai_api.reply import stored_reply

CHAT = "/v1/chat/completions"


async def chat_completions(request: Request) -> Response:
    """Answer the new messages, and store them and the answer as one turn."""
    chat = ChatRequest.parse(await request.body())
    session, state = get_session(request), request.app.state
    session.check(chat.told[-1])  # refuses what cannot be stored, before anything is changed
    if state.derive_ids:
        await session.derive(chat.told)
    # Before the response begins, so that a failure can be a status code.
    told = (
        await _joined(session, chat)
        or await _again(session, chat, state)
        or await _anew(session, chat, state)
    )
    if chat.stream:
        return told.stream(error_event, state.head_after)
    return JSONResponse(await told.whole(request.receive))


async def _joined(session: HermesSession, chat: ChatRequest) -> FollowedCompletion | None:
    """Begin the session's turn; or return the running answer of the same request."""
    answer = await turns.enter(session, chat.digest)
    if answer is None:
        return None
    return FollowedCompletion(answer, failure_of, include_usage=chat.include_usage)


async def _again(
    session: HermesSession, chat: ChatRequest, state: State
) -> RepeatedCompletion | None:
    """Return the stored answer of a request that is repeated under its Idempotency-Key."""
    turn = await session.find_turn(told=chat.told, digest=chat.digest)
    if turn is None:
        return None
    session.mark_replayed()
    *question, answer = turn.messages
    start = min(turn.start or 0, session.length)  # empty if the history cannot be read
    prompt = [*chat.system, *session.prompt(*question, replace_from=start)]
    reply = stored_reply(answer, prompt, chat.options.get("model") or state.model.name)
    stored = Completion.again(reply, answer)
    return RepeatedCompletion(stored.payloads(), include_usage=chat.include_usage)


async def _anew(session: HermesSession, chat: ChatRequest, state: State) -> FollowedCompletion:
    """Store the question, and begin the model's answer."""
    new = turns.new_messages(session.new_messages, chat.told, "messages")
    turns.check(session, new, "messages")
    new = await turns.shorten(session, new, state.compact_at)
    prompt = [*chat.system, *session.prompt(*new.asked, replace_from=new.replace_from)]
    deltas = state.model.stream(prompt, chat.options)
    reply = turns.reply(session, state, deltas)
    made = Completion(reply, is_repeatable=session.idempotency_key is not None)
    answer, titled = await turns.begin(session, state, new, made, chat.digest)
    return FollowedCompletion(
        answer, failure_of, first=made.first(), include_usage=chat.include_usage, after_end=titled
    )
