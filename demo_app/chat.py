"""The chat endpoint, in the shape of OpenAI's Chat Completions."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hermes_session_mw import HermesSession, NotSupported, StoredTurn, StoreError, get_session
from hermes_session_mw.messages import Message, encode_messages

from .completions import Completion
from .model import answer, text_of
from .openai_shapes import ChatRequest
from .turns import begin_turn, compact, find_repeated, take_back, title_of


async def chat_completions(request: Request) -> Response:
    """Answer the last user message, and store it and its answer as one turn."""
    chat = ChatRequest.parse(await request.body())
    encode_messages([*chat.earlier, chat.user])  # refuses what cannot be stored, before all else
    session = get_session(request)
    await begin_turn(session)
    repeated = await find_repeated(session, chat.user)
    completion = _again(repeated) if repeated else await _anew(request, session, chat)
    if chat.stream:
        events = completion.events(include_usage=chat.include_usage)
        headers = {"Cache-Control": "no-cache"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    return JSONResponse(await completion.whole())


def _again(turn: StoredTurn) -> Completion:
    """Answer a repeated request as it was answered, without asking the model."""
    return Completion(turn.messages[:-1], text_of(turn.messages[-1]))


async def _anew(request: Request, session: HermesSession, chat: ChatRequest) -> Completion:
    # A client whose session is new, or whose own history counts, tells it in the body; what others
    # tell there is known already.
    told = await take_back(session, chat.earlier, chat.user)
    untold = chat.earlier if session.is_new else chat.earlier[told:]
    await compact(session, request.app.state.compact_at)
    prompt = [*chat.system, *session.history, *untold, chat.user]
    stored = _naming(request, session, chat.user) if not session.history else None
    return Completion(prompt, answer(prompt), session.record(*untold, chat.user), stored)


def _naming(
    request: Request, session: HermesSession, user: Message
) -> Callable[[], Awaitable[None]]:
    """Return what gives a new thread its title, once its first turn is stored."""

    async def name() -> None:
        store = request.app.state.store
        rename = getattr(store, "rename", None)
        if rename is not None:
            with suppress(StoreError, NotSupported, ValueError):  # a thread without one is as good
                await rename(session.id, title_of(user), owner=session.owner or "")

    return name
