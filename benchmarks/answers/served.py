"""The application that uvicorn serves for the measures; the environment names its database.

Each piece of an answer is the time at which it was said. Below ``/bench/`` the middleware is not
asked.
"""

import json
import os
import time
from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore, session_routes
from hermes_session_mw.database.connection import DirectDatabase

DATABASE = "HERMES_BENCH_DATABASE"
"""The environment variable with the database's URL."""

_EVENT = b"id: none:1\ndata: 0\n\n"

_statements = 0


def _counted(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        global _statements  # noqa: PLW0603  # it is the process's
        _statements += 1
        return method(*args, **kwargs)

    return call


async def pieces(count: int, pause: float) -> AsyncIterator[str]:
    """Yield ``count`` times of day, one every ``pause`` seconds."""
    for _ in range(count):
        yield f"{time.time():.6f} "
        await sleep(pause)


async def begin(request: Request) -> Response:
    """Begin an answer, and return its id."""
    given = request.query_params
    said = pieces(int(given["count"]), float(given["pause"]))
    user = {"role": "user", "content": "What time is it?"}
    answer = await request.state.hermes_session.answer(said, user)
    return JSONResponse(answer.id)


def create_app() -> ASGIApp:
    """Return the application."""
    for name in ("rows", "run", "command", "commit"):
        setattr(DirectDatabase, name, _counted(getattr(DirectDatabase, name)))
    store = SQLAlchemyStore(os.environ[DATABASE])
    routes = session_routes(store, allow_ownerless=True)
    inner = Starlette(routes=[Route("/begin", begin, methods=["POST"]), *routes])
    served = HermesSessionMiddleware(inner, store)

    async def beside(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/bench/"):
            await served(scope, receive, send)
        elif scope["path"] == "/bench/event":
            await _send(send, b"text/event-stream", _EVENT, more=True)
            await send({"type": "http.response.body", "body": b""})
        else:
            facts = {"statements": _statements, "cpu": time.process_time()}
            await _send(send, b"application/json", json.dumps(facts).encode())

    return beside


async def _send(send: Send, content_type: bytes, body: bytes, *, more: bool = False) -> None:
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more})
