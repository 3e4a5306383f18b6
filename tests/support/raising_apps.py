"""Applications that raise at ``/raise``, each of which has its error page from somewhere else."""

from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, install


async def raising(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer, or raise, without a framework."""
    if scope["path"] == "/raise":
        raise LookupError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def oops(_: Request) -> Response:
    """Raise what nobody handles."""
    raise LookupError


async def page(_: Request) -> Response:
    """Answer."""
    return PlainTextResponse("ok")


async def own_page(_: Request, _exc: Exception) -> Response:
    """Answer for whatever was raised, which Starlette raises again after it."""
    return PlainTextResponse("come again", 503)


async def pass_on(request: Request, call_next: Any) -> Response:
    """Change nothing; the response is sent by another task than the one that makes it."""
    response: Response = await call_next(request)
    return response


routes = [Route("/raise", oops), Route("/", page, methods=["GET", "POST"])]

bare = HermesSessionMiddleware(raising, MemoryStore())
starlette = install(Starlette(routes=routes), MemoryStore())
handled = install(Starlette(routes=routes, exception_handlers={Exception: own_page}), MemoryStore())
behind_another = HermesSessionMiddleware(
    BaseHTTPMiddleware(Starlette(routes=routes), pass_on), MemoryStore()
)
fastapi = FastAPI()
fastapi.router.routes.extend(routes)
install(fastapi, MemoryStore())
