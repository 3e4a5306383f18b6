"""An application for workers that are killed: its answers say some pieces, and never end."""

import os
from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore, get_session, session_routes

QUESTION = {"role": "user", "content": "Count."}


async def say(count: int) -> AsyncIterator[str]:
    """Yield the numbers below ``count``, and wait for ever."""
    for number in range(count):
        yield f"{number} "
    await anyio.sleep_forever()


async def answer(request: Request) -> Response:
    """Begin an answer with as many pieces as the path says."""
    session = get_session(request)
    begun = await session.answer(say(request.path_params["count"]), QUESTION)
    return begun.response()


async def ready(_: Request) -> JSONResponse:
    """Answer without touching the database."""
    return JSONResponse({})


def create_app() -> ASGIApp:
    """Return the application over the database that the environment names."""
    store = SQLAlchemyStore(os.environ["WORKER_DATABASE"])
    routes = session_routes(store, allow_ownerless=True)
    own = [Route("/answer/{count:int}", answer, methods=["POST"]), Route("/ready", ready)]
    return HermesSessionMiddleware(Starlette(routes=[*own, *routes]), store)
