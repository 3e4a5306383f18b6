"""The application that is measured: the same stream, recorded, answered, or neither.

A server imports ``create_app`` from here; an environment variable says which database it uses.
"""

import os
from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore, get_session
from hermes_session_mw.openai_api import EventStream, server_sent_event

DATABASE = "HERMES_BENCH_DATABASE"
"""The environment variable with the database's URL."""

PIECES = 200
"""Pieces of one stream."""

PAUSES: dict[str, float | None] = {"none": None, "short": 0.001, "model": 0.01}
"""Seconds between two pieces, by a name; without any, the producer never waits."""

QUESTION = {"role": "user", "content": "Tell me of the sea, at some length, and of its weather."}


async def pieces(pause: float | None) -> AsyncIterator[str]:
    """Yield the answer's pieces."""
    for number in range(PIECES):
        if pause is not None:
            await anyio.sleep(pause)
        yield f"word{number:03} "


async def record(request: Request) -> Response:
    """Stream an answer that is recorded."""
    session, pause = get_session(request), PAUSES[request.path_params["pause"]]

    async def events() -> AsyncIterator[str]:
        async with session.record(QUESTION) as answer:
            async for piece in pieces(pause):
                answer.write(piece)
                yield server_sent_event(piece)
        yield server_sent_event({"state": "completed"}, "end")

    return EventStream(events())


async def answer(request: Request) -> Response:
    """Stream an answer that goes on without its client."""
    begun = await get_session(request).answer(
        pieces(PAUSES[request.path_params["pause"]]), QUESTION
    )
    return begun.response()


def create_app(url: str | None = None) -> HermesSessionMiddleware:
    """Return the application over a database."""
    store = SQLAlchemyStore(url or os.environ[DATABASE])
    routes = [Route("/record/{pause}", record), Route("/answer/{pause}", answer)]
    return HermesSessionMiddleware(Starlette(routes=routes), store)
