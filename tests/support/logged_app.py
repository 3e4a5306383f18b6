"""An application whose server's logs are read: it answers, raises, and has session routes."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, session_routes


async def answer(_: Request) -> JSONResponse:
    """Answer."""
    return JSONResponse({})


async def error(_: Request) -> JSONResponse:
    """Raise."""
    raise RuntimeError("as asked")


def create_app() -> ASGIApp:
    """Return the application."""
    store = MemoryStore()
    routes = [Route("/", answer), Route("/healthz", answer), Route("/error", error)]
    app = Starlette(routes=[*routes, *session_routes(store)])
    return HermesSessionMiddleware(app, store, exclude=["/healthz"])
