"""The demo's application: three routes, and the middleware around them."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from hermes_session_mw import (
    HermesSessionMiddleware,
    InvalidMessage,
    SessionDeleted,
    SessionFull,
    SQLAlchemyStore,
    Store,
    StoreError,
    get_session,
)
from hermes_session_mw.messages import encode_messages

from .completions import Completion
from .model import MODEL_NAME, answer
from .openai_shapes import BadRequest, ChatRequest, error_response

CHAT = "/v1/chat/completions"


def create_app(store: str | Store = "sqlite:///hermes_demo.db") -> ASGIApp:
    """Return the demo as an ASGI application that keeps its conversations in ``store``."""
    app = Starlette(
        routes=[
            Route(CHAT, chat_completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", healthz),
        ],
        exception_handlers={
            BadRequest: bad_request,
            InvalidMessage: bad_request,
            SessionDeleted: conflict,
            SessionFull: conflict,
            StoreError: store_error,
            HTTPException: http_error,
            Exception: server_error,
        },
    )
    store = SQLAlchemyStore(store) if isinstance(store, str) else store
    return HermesSessionMiddleware(app, store, autoload=is_chat)


def is_chat(scope: Scope) -> bool:
    """Tell the middleware which requests need the history: the chat, and nothing else."""
    return bool(scope["path"] == CHAT)


async def chat_completions(request: Request) -> Response:
    """Answer the last user message, and store it and its answer as one turn."""
    chat = ChatRequest.parse(await request.body())
    session = get_session(request)
    # A client that sent the header has its history here; one that did not tells it itself, and
    # has all of it stored, so that it may go on under the id that it is given.
    earlier, untold = (chat.earlier, chat.earlier) if session.is_new else (session.history, [])
    new = [*untold, chat.user]
    encode_messages(new)  # refuses what could not be stored, before anything is answered
    prompt = [*chat.system, *earlier, chat.user]
    completion = Completion(prompt, answer(prompt), session.record(*new))
    if chat.stream:
        events = completion.events(include_usage=chat.include_usage)
        headers = {"Cache-Control": "no-cache"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    return JSONResponse(await completion.whole())


async def models(_: Request) -> Response:
    """List the one model."""
    model = {"id": MODEL_NAME, "object": "model", "created": 0, "owned_by": "hermes_session_mw"}
    return JSONResponse({"object": "list", "data": [model]})


async def healthz(_: Request) -> Response:
    """Say that the process serves, without asking the database."""
    return JSONResponse({"status": "ok"})


async def bad_request(_: Request, exc: Exception) -> Response:
    """Answer 400."""
    return error_response(400, str(exc), param=getattr(exc, "param", "messages"))


async def conflict(_: Request, exc: Exception) -> Response:
    """Answer 409: the conversation takes no more turns."""
    return error_response(409, str(exc))


async def store_error(_: Request, exc: Exception) -> Response:
    """Answer 503: the turn was not stored, or nobody knows, so the answer is not given either."""
    headers = {"Retry-After": "1"}
    return error_response(503, str(exc), error_type="server_error", headers=headers)


async def http_error(_: Request, exc: Exception) -> Response:
    """Answer as the framework would, in OpenAI's shape."""
    status = getattr(exc, "status_code", 500)
    headers = getattr(exc, "headers", None)
    return error_response(status, getattr(exc, "detail", ""), headers=headers)


async def server_error(_: Request, _exc: Exception) -> Response:
    """Answer 500, and tell the client nothing of what it was."""
    return error_response(500, "The server failed to answer.", error_type="server_error")
