"""The cases' endpoints in Starlette and FastAPI, and the positions that these have."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, install

BODY_LIMIT = 1000


class Handled(Exception):
    """Raised for a handler that raises itself."""


async def json_(_: Request) -> Response:
    return JSONResponse({"ok": True})


async def stream(_: Request) -> Response:
    return StreamingResponse(parts())


async def parts() -> AsyncIterator[str]:
    for part in "abc":
        yield part


async def crash(_: Request) -> Response:
    return StreamingResponse(broken_parts())


async def broken_parts() -> AsyncIterator[str]:
    yield "a"
    raise LookupError("after the start")


async def empty(_: Request) -> Response:
    return Response(status_code=204)


async def redirect(_: Request) -> Response:
    return RedirectResponse("/json", 302)


async def teapot(_: Request) -> Response:
    raise HTTPException(418)


async def upload(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def error(_: Request) -> Response:
    raise LookupError("unhandled")


async def group(_: Request) -> Response:
    raise ExceptionGroup("several", [LookupError("one"), LookupError("two")])


async def handler(_: Request) -> Response:
    raise Handled


async def raising_handler(_: Request, exc: Exception) -> Response:
    raise LookupError("in the handler") from exc


async def own(_: Request) -> Response:
    names = ("X-Hermes-Session-ID", "X-Request-ID")
    return JSONResponse({}, headers=dict.fromkeys(names, "the application's"))


async def ws(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("no", 403))


class Sends:
    """A raw endpoint, for what no framework's response would send."""

    def __init__(self, **start: Any) -> None:
        self.start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, **self.start}
        if "headers" in start:
            start["headers"] = (pair for pair in start["headers"])
        await send(start)
        await send({"type": "http.response.body", "body": b"ok"})
        if self.start.get("trailers"):
            await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})


def routes(**extra: Any) -> list[BaseRoute]:
    """Return the endpoints of all cases; ``extra`` goes to each route."""
    plain: dict[str, Any] = {
        "/json": json_,
        "/stream": stream,
        "/empty": empty,
        "/redirect": redirect,
        "/teapot": teapot,
        "/error": error,
        "/group": group,
        "/handler": handler,
        "/crash": crash,
        "/own": own,
        "/bare": Sends(),
        "/generator": Sends(headers=[(b"content-type", b"text/plain")]),
        "/trailers": Sends(headers=[(b"trailer", b"x-end")], trailers=True),
    }
    return [
        *[Route(path, endpoint, methods=["GET"], **extra) for path, endpoint in plain.items()],
        Route("/upload", upload, methods=["POST"], **extra),
        WebSocketRoute("/ws", ws, **extra),
        WebSocketRoute("/denied", denied, **extra),
    ]


def starlette(*, debug: bool = False) -> Starlette:
    """Return the application without any middleware."""
    app = Starlette(debug=debug, routes=routes(), max_body_size=BODY_LIMIT)
    app.add_exception_handler(Handled, raising_handler)
    return app


def wrapped() -> ASGIApp:
    return HermesSessionMiddleware(starlette(), MemoryStore())


def installed() -> ASGIApp:
    return install(starlette(), MemoryStore())


def installed_in_fastapi() -> ASGIApp:
    api = FastAPI(routes=routes(), max_body_size=BODY_LIMIT)
    api.add_exception_handler(Handled, raising_handler)
    return install(api, MemoryStore())


def added() -> ASGIApp:
    app = starlette()
    app.add_middleware(HermesSessionMiddleware, MemoryStore())
    return app


def mounted() -> ASGIApp:
    inner = HermesSessionMiddleware(starlette(), MemoryStore())
    return Starlette(routes=[Mount("/", app=inner)])


def on_routes() -> ASGIApp:
    middleware = [Middleware(HermesSessionMiddleware, MemoryStore())]
    app = Starlette(routes=routes(middleware=middleware), max_body_size=BODY_LIMIT)
    app.add_exception_handler(Handled, raising_handler)
    return app


def stacked() -> ASGIApp:
    app = install(starlette(), MemoryStore(), header_name="x-hermes-session-id")
    app.add_middleware(HermesSessionMiddleware, MemoryStore(), header_name="X-HERMES-SESSION-ID")
    return HermesSessionMiddleware(app, MemoryStore())
