"""The application of throughput and memory: the same stream, recorded, answered, or neither."""

import gc
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.answers.served import DATABASE
from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore, get_session
from hermes_session_mw.openai_api import EventStream, server_sent_event

PIECES = 200
"""Pieces of one stream."""

PAUSES: dict[str, float | None] = {"none": None, "short": 0.001, "model": 0.01}
"""Seconds between two pieces, by a name; without any, the producer never waits."""

HELD = 50
"""Pieces that a stream has said that is held open."""

QUESTION = {"role": "user", "content": "Tell me of the sea, at some length, and of its weather."}


async def pieces(pause: str) -> AsyncIterator[str]:
    """Yield the answer's pieces; with "hold" a quarter of them, and then wait for ever."""
    is_held = pause == "hold"
    seconds = None if is_held else PAUSES[pause]
    for number in range(HELD if is_held else PIECES):
        if seconds is not None:
            await anyio.sleep(seconds)
        yield f"word{number:03} "
    if is_held:
        await anyio.sleep_forever()


async def bare(request: Request) -> Response:
    """Stream the pieces."""

    async def events() -> AsyncIterator[str]:
        async for piece in pieces(request.path_params["pause"]):
            yield server_sent_event(piece)

    return StreamingResponse(events(), media_type="text/event-stream")


async def record(request: Request) -> Response:
    """Stream an answer that is recorded."""
    session = get_session(request)

    async def events() -> AsyncIterator[str]:
        async with session.record(QUESTION) as answer:
            async for piece in pieces(request.path_params["pause"]):
                answer.write(piece)
                yield server_sent_event(piece)
        yield server_sent_event({"state": "completed"}, "end")

    return EventStream(events())


async def answer(request: Request) -> Response:
    """Stream an answer that goes on without its client."""
    begun = await get_session(request).answer(pieces(request.path_params["pause"]), QUESTION)
    return begun.response()


async def facts(_: Request) -> Response:
    """Return the CPU seconds of the process, and the bytes of memory that it has in use."""
    gc.collect()
    return JSONResponse({"cpu": time.process_time(), "memory": _memory()})


def _memory() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024


def create_app(url: str | None = None) -> HermesSessionMiddleware:
    """Return the application over a database."""
    store = SQLAlchemyStore(url or os.environ[DATABASE])
    routes = [
        Route("/bare/{pause}", bare),
        Route("/record/{pause}", record),
        Route("/answer/{pause}", answer),
        Route("/bench/facts", facts),
    ]
    return HermesSessionMiddleware(Starlette(routes=routes), store, exclude=["/bare", "/bench"])
