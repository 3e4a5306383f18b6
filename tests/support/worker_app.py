"""An application for several workers: each request appends a turn, and tells who served it."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, get_session


async def append(request: Request) -> JSONResponse:
    """Append a turn of two messages with the number that the client gives."""
    session = get_session(request)
    number = request.path_params["number"]
    length = await session.append({"n": number}, {"n": number})
    return JSONResponse({"pid": os.getpid(), "length": length})


async def ready(_: Request) -> JSONResponse:
    """Tell who served it, without touching the database."""
    return JSONResponse({"pid": os.getpid()})


def create_app() -> ASGIApp:
    """Return the application over the database that the environment names."""
    app = Starlette(routes=[Route("/append/{number:int}", append), Route("/ready", ready)])
    return HermesSessionMiddleware(app, os.environ["WORKER_DATABASE"])
