"""The demo's application: its routes, its errors, and the middleware around them."""

import math
from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from hermes_session_mw import (
    HermesSessionMiddleware,
    HermesStateStore,
    InvalidMessage,
    NotSupported,
    SessionBusy,
    SessionDeleted,
    SessionFull,
    SQLAlchemyStore,
    Store,
    StoreError,
    TurnConflict,
    TurnLost,
    get_session,
)

from .chat import chat_completions
from .keys import OPEN, RequireOwner, owner_by
from .model import MODEL_NAME
from .openai_shapes import BadRequest, error_response

CHAT = "/v1/chat/completions"


def create_app(
    store: str | Store = "sqlite:///hermes_demo.db",
    *,
    api_keys: Collection[str] = (),
    compact_at: int = 0,
) -> ASGIApp:
    """Return the demo as an ASGI application.

    Args:
        store: where it keeps its conversations; ``hermes:PATH`` is a Hermes Agent's state.db.
        api_keys: who may use it, each an owner of its own conversations; none for everybody.
        compact_at: messages that a history may have before it is compacted; 0 for any number.
    """
    store = _store(store) if isinstance(store, str) else store
    app = Starlette(
        routes=[
            Route(CHAT, chat_completions, methods=["POST"]),
            Route("/v1/session/rotate", rotate, methods=["POST"]),
            Route("/v1/session/renew", renew, methods=["POST"]),
            Route("/v1/models", models),
            Route(OPEN, healthz),
        ],
        middleware=[Middleware(RequireOwner)] if api_keys else [],
        exception_handlers={
            BadRequest: bad_request,
            InvalidMessage: bad_request,
            SessionBusy: conflict,
            SessionDeleted: conflict,
            SessionFull: conflict,
            TurnConflict: conflict,
            TurnLost: conflict,
            NotSupported: not_supported,
            StoreError: store_error,
            HTTPException: http_error,
            Exception: server_error,
        },
    )
    app.state.store, app.state.compact_at = store, compact_at
    return HermesSessionMiddleware(
        app,
        store,
        autoload=False,  # who needs the history takes the turn first, and loads it then
        owner=owner_by(api_keys) if api_keys else None,
        session_keys=bool(api_keys),
    )


def _store(name: str) -> Store:
    if name.startswith("hermes:"):
        return HermesStateStore(name.removeprefix("hermes:"))
    return SQLAlchemyStore(name)


async def rotate(request: Request) -> Response:
    """Give the session another id, as after a login; the response's header has it."""
    session = get_session(request)
    await session.rotate()
    return JSONResponse({"object": "session", "id": session.id})


async def renew(request: Request) -> Response:
    """Begin a new conversation, also for the client's key; the response's header has its id."""
    session = get_session(request)
    await session.renew()
    return JSONResponse({"object": "session", "id": session.id})


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
    """Answer 409: the conversation takes no turn, or not now, or not this one."""
    headers = {}
    if isinstance(exc, SessionBusy):
        headers["Retry-After"] = str(max(math.ceil(exc.retry_after), 1))
    return error_response(409, str(exc), headers=headers)


async def not_supported(_: Request, exc: Exception) -> Response:
    """Answer 501: the store cannot do it."""
    return error_response(501, str(exc))


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
