"""Comparable middlewares, added in the way that their documentation shows."""

from collections.abc import Callable

from asgi_correlation_id import CorrelationIdMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starsessions import InMemoryStore, SessionAutoloadMiddleware
from starsessions import SessionMiddleware as StarsessionsMiddleware

from tests.asgi.conformance.starlette_apps import starlette


class Naive(BaseHTTPMiddleware):
    """The first thing that comes to mind."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Hermes-Session-Id"] = request.headers["X-Hermes-Session-Id"]
        return response


class Touch:
    """Writes into the session, as an application does; else there would be no cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "session" in scope:
            scope["session"]["touched"] = True
        await self.app(scope, receive, send)


def field(name: bytes) -> Callable[[Message], list[str]]:
    """Return what counts a header's values on a starting message."""

    def marks(start: Message) -> list[str]:
        pairs = start.get("headers") or ()
        return [value.decode() for key, value in pairs if key.lower() == name]

    return marks


def correlation_id() -> ASGIApp:
    app = starlette()
    app.add_middleware(CorrelationIdMiddleware)
    return app


def starsessions() -> ASGIApp:
    app = starlette()
    app.add_middleware(Touch)
    app.add_middleware(SessionAutoloadMiddleware)
    app.add_middleware(StarsessionsMiddleware, store=InMemoryStore(), cookie_https_only=False)
    return app


def starlette_sessions() -> ASGIApp:
    app = starlette()
    app.add_middleware(Touch)
    app.add_middleware(SessionMiddleware, secret_key="only for tests")
    return app


def naive() -> ASGIApp:
    app = starlette()
    app.add_middleware(Naive)
    return app
