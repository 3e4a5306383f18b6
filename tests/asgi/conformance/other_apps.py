"""The cases' endpoints in other frameworks, and in a bare function."""

from collections.abc import AsyncIterator
from typing import Any

import django
import litestar
import quart
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_http_methods
from litestar.response import Redirect, Stream
from quart_trio import QuartTrio
from starlette.types import ASGIApp, Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.asgi.conformance.starlette_apps import BODY_LIMIT, Sends, broken_parts, parts


async def bare_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the cases that mean something without a framework."""
    if scope["path"] == "/ws":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
    elif scope["path"] == "/denied":
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        async for part in parts():
            body = {"type": "http.response.body", "body": part.encode(), "more_body": True}
            await send(body)
        await send({"type": "http.response.body"})
    elif scope["path"] == "/crash":
        await send({"type": "http.response.start", "status": 200})
        raise LookupError("after the start")
    elif scope["path"] == "/error":
        raise LookupError("unhandled")
    elif scope["path"] == "/group":
        raise ExceptionGroup("several", [LookupError("one"), LookupError("two")])
    elif scope["path"] in RAW_STARTS:
        await Sends(**RAW_STARTS[scope["path"]])(scope, receive, send)


RAW_STARTS: dict[str, dict[str, Any]] = {
    "/json": {"headers": [(b"content-type", b"application/json")]},
    "/empty": {"status": 204},
    "/redirect": {"status": 302, "headers": [(b"location", b"/json")]},
    "/no/such/path": {"status": 404},
    "/bare": {},
    "/generator": {"headers": [(b"content-type", b"text/plain")]},
    "/own": {"headers": [(b"X-Hermes-Session-ID", b"the application's")]},
    "/trailers": {"headers": [(b"trailer", b"x-end")], "trailers": True},
}


def bare() -> ASGIApp:
    return HermesSessionMiddleware(bare_app, MemoryStore())


def litestar_app() -> ASGIApp:
    @litestar.get("/json")
    async def json_() -> dict[str, bool]:
        return {"ok": True}

    @litestar.get("/stream")
    async def stream() -> Stream:
        return Stream(parts())

    @litestar.get("/crash")
    async def crash() -> Stream:
        return Stream(broken_parts())

    @litestar.get("/empty", status_code=204)
    async def empty() -> None:
        return None

    @litestar.get("/redirect", status_code=302)
    async def redirect() -> Redirect:
        return Redirect("/json", status_code=302)

    @litestar.get("/teapot")
    async def teapot() -> None:
        raise litestar.exceptions.HTTPException(status_code=418)

    @litestar.get("/error")
    async def error() -> None:
        raise LookupError("unhandled")

    @litestar.get("/own", response_headers={"X-Hermes-Session-ID": "the application's"})
    async def own() -> None:
        return None

    @litestar.post("/upload", request_max_body_size=BODY_LIMIT)
    async def upload(request: litestar.Request[Any, Any, Any]) -> int:
        return len(await request.body())

    @litestar.websocket("/ws")
    async def ws(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    handlers: list[Any] = [json_, stream, crash, empty, redirect, teapot, error, own, upload, ws]
    app = litestar.Litestar(handlers)
    return HermesSessionMiddleware(app, MemoryStore())


def quart_app(backend: str) -> ASGIApp:
    app = quart.Quart("conformance") if backend == "asyncio" else QuartTrio("conformance")
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT

    @app.get("/json")
    async def json_() -> Any:
        return {"ok": True}

    @app.get("/stream")
    async def stream() -> Any:
        return encoded(parts())

    @app.get("/crash")
    async def crash() -> Any:
        return encoded(broken_parts())

    @app.get("/empty")
    async def empty() -> Any:
        return "", 204

    @app.get("/redirect")
    async def redirect() -> Any:
        return quart.redirect("/json", 302)

    @app.get("/teapot")
    async def teapot() -> Any:
        quart.abort(418)

    @app.get("/error")
    async def error() -> Any:
        raise LookupError("unhandled")

    @app.get("/own")
    async def own() -> Any:
        return "", {"X-Hermes-Session-ID": "the application's"}

    @app.post("/upload")
    async def upload() -> Any:
        return str(len(await quart.request.get_data()))

    @app.websocket("/ws")
    async def ws() -> None:
        await quart.websocket.accept()

    @app.websocket("/denied")
    async def denied() -> Any:
        return "no", 403

    return HermesSessionMiddleware(app, MemoryStore())


async def encoded(text: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for part in text:
        yield part.encode()


async def dj_json(_: HttpRequest) -> HttpResponse:
    return HttpResponse('{"ok": true}', content_type="application/json")


async def dj_stream(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts())


async def dj_crash(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(broken_parts())


async def dj_empty(_: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


async def dj_redirect(_: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/json")


async def dj_error(_: HttpRequest) -> HttpResponse:
    raise LookupError("unhandled")


async def dj_own(_: HttpRequest) -> HttpResponse:
    return HttpResponse(headers={"X-Hermes-Session-ID": "the application's"})


async def dj_upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


urlpatterns = [
    path("json", require_http_methods(["GET"])(dj_json)),
    path("stream", dj_stream),
    path("crash", dj_crash),
    path("empty", dj_empty),
    path("redirect", dj_redirect),
    path("error", dj_error),
    path("own", dj_own),
    path("upload", dj_upload),
]


def django_app() -> ASGIApp:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            DATA_UPLOAD_MAX_MEMORY_SIZE=BODY_LIMIT,
            SECRET_KEY="only for tests",
            LOGGING_CONFIG=None,
        )
        django.setup()
    return HermesSessionMiddleware(get_asgi_application(), MemoryStore())
