"""The demo's application: its routes, and the middleware around them."""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import get_args

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Scope

from demo_app.chat import CHAT, chat_completions
from demo_app.errors import HANDLERS
from demo_app.keys import HEALTH, KeyOwners, OnlyOwners, parse_keys
from demo_app.model import EchoModel, Model
from demo_app.response_routes import response_routes
from demo_app.responses import RESPONSES
from demo_app.web import OnlyKnownOrigins, allow_origins, is_page, page_routes
from hermes_session_mw import (
    ConfigurationError,
    HermesSessionMiddleware,
    HermesStateStore,
    SQLAlchemyStore,
    Store,
    get_session,
    session_routes,
)
from hermes_session_mw.messages import MAX_MESSAGE_BYTES
from hermes_session_mw.openai_api import BodyLimit, capabilities
from hermes_session_mw.openai_api.conversations import conversation_routes
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.session.answer import OnDisconnect

SESSIONS = "/v1/sessions"
CONVERSATIONS = "/v1/conversations"
MAX_BODY_BYTES = 33_554_432


def create_app(
    store: str | Store = "sqlite:///hermes_demo.db",
    *,
    keys: Sequence[str] | None = None,
    compact_at: int = 0,
    model: Model | None = None,
    origins: Sequence[str] = (),
    session_keys: bool = False,
    derive_ids: bool = False,
    head_after: float = 2.0,
    on_disconnect: OnDisconnect = "continue",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    max_body_bytes: int = MAX_BODY_BYTES,
    search: bool = False,
) -> ASGIApp:
    """Return the demo as an ASGI application.

    Args:
        store: where conversations are kept; ``hermes:PATH`` is a Hermes Agent's state.db.
        keys: the API keys, each of which sees its own conversations; None for those in
            HERMES_API_KEYS. Without keys, anybody who has a session's id can read it.
        compact_at: messages that a conversation may have before its oldest ones become a summary;
            0 for any number.
        model: the model; None for the built-in one, which needs no network. The app closes it.
        origins: the origins whose pages may use the API in a browser, or ``*``; the demo's own
            page needs none.
        session_keys: whether X-Hermes-Session-Key names a conversation; it needs API keys. By
            default it names a memory scope, as in Hermes Agent, which the demo does not use.
        derive_ids: whether the requests of a client that sends its whole conversation and no id
            are one session; it needs API keys.
        head_after: seconds that a stream waits for the model's first piece, before it begins
            without; until then the model's failure is a status code.
        on_disconnect: what becomes of a chat's answer whose client leaves, unless the client says
            so by X-Hermes-On-Disconnect: it continues, or stops.
        max_message_bytes: bytes of UTF-8 that a message may take as JSON, in a store that is given
            as a string; a photo of 5 MB takes 7 million. Another store has its own limit.
        max_body_bytes: bytes that a request's body may have, which often has the whole history.
        search: whether a store that is given as a URL finds messages by their words.

    Raises:
        ConfigurationError: the store is a string that is not a URL, HERMES_API_KEYS has no key, or
            session keys or derived ids are asked for without API keys, or session keys of a store
            that has none; or a number cannot work.
    """
    kept = _store(store, max_message_bytes, search) if isinstance(store, str) else store
    known = parse_keys(os.environ.get("HERMES_API_KEYS")) if keys is None else keys
    if not (head_after >= 0 and max_body_bytes >= 1):
        raise ConfigurationError("--head-after is at least 0, and --max-body-bytes at least 1")
    if on_disconnect not in get_args(OnDisconnect):
        raise ConfigurationError("--on-disconnect is continue or stop")
    if (derive_ids or session_keys) and not known:
        raise ConfigurationError("derived ids and session keys need API keys: set HERMES_API_KEYS")
    routes: list[BaseRoute] = [
        Route(CHAT, chat_completions, methods=["POST"]),
        *response_routes(),
        *conversation_routes(kept, prefix=CONVERSATIONS),
        Route("/v1/session/rotate", rotate, methods=["POST"]),
        Route("/v1/session/renew", renew, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{model_id:path}", one_model),
        Route("/v1/capabilities", tell_capabilities),
        *(Route(path, healthz) for path in HEALTH),
    ]
    routes += [*session_routes(kept, prefix=SESSIONS), *page_routes()]
    guards = [Middleware(OnlyKnownOrigins, allowed=origins)]
    guards += [Middleware(BodyLimit, max_bytes=max_body_bytes, option="--max-body-bytes")]
    answering = model or EchoModel()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        async with aclosing(answering):
            yield

    app = Starlette(
        routes=routes, exception_handlers=HANDLERS, middleware=guards, lifespan=lifespan
    )
    app.state.store, app.state.compact_at, app.state.model = kept, compact_at, answering
    app.state.derive_ids = derive_ids
    app.state.head_after, app.state.on_disconnect = head_after, on_disconnect
    app.state.capabilities = capabilities(
        routes,
        kept,
        platform="hermes-demo",
        model=answering.name,
        has_owners=bool(known),
        session_keys=session_keys,
        max_body_bytes=max_body_bytes,
        derives_ids=derive_ids,
        allows_origins=bool(origins),
        on_disconnect=on_disconnect,
    )
    owner = KeyOwners(known) if known else None
    sessions = HermesSessionMiddleware(
        app, kept, owner=owner, session_keys=session_keys, autoload=needs_history, exclude=is_page
    )
    if owner is not None:
        return allow_origins(OnlyOwners(sessions, owner, except_for=is_page), origins)
    return allow_origins(sessions, origins)


def needs_history(scope: Scope) -> bool:
    """Tell the middleware which requests need the history: only those that talk to the model."""
    return scope["path"] in (CHAT, RESPONSES)


def _store(name: str, most: int, search: bool) -> Store:  # noqa: FBT001  # named where it is public
    if not name.startswith("hermes:"):
        return SQLAlchemyStore(name, max_message_bytes=most, search=search)
    if search:
        raise ConfigurationError("--search needs a store with a URL: Hermes' database has its own")
    return HermesStateStore(name.removeprefix("hermes:"), max_message_bytes=most)


async def rotate(request: Request) -> Response:
    """Give the conversation another id, as after a login; the response's header has it."""
    session = get_session(request)
    await session.rotate()
    return JSONResponse({"object": "session", "id": session.id})


async def renew(request: Request) -> Response:
    """Begin a new conversation, also for the client's key; the response's header has its id."""
    session = get_session(request)
    await session.renew()
    return JSONResponse({"object": "session", "id": session.id})


async def tell_capabilities(request: Request) -> Response:
    """Tell clients what the server does, and its limits."""
    return JSONResponse(request.app.state.capabilities)


async def models(request: Request) -> Response:
    """List the models."""
    return JSONResponse({"object": "list", "data": await request.app.state.model.listed()})


async def one_model(request: Request) -> Response:
    """Return one of the models."""
    name = request.path_params["model_id"]
    listed = await request.app.state.model.listed()
    found = next((each for each in listed if each.get("id") == name), None)
    if found is None:
        problem = "there is no such model"
        raise InvalidRequest(problem, "model", code="model_not_found", status=404)
    return JSONResponse(found)


async def healthz(_: Request) -> Response:
    """Say that the process serves, without asking the database."""
    return JSONResponse({"status": "ok"})
