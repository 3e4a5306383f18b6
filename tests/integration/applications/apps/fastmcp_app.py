"""A server of FastMCP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastmcp import Context, FastMCP
from fastmcp.server.dependencies import get_http_request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from hermes_session_mw import MemoryStore, get_session, install
from tests.integration.applications import gate


def make(folder: Path, store: MemoryStore) -> Starlette:
    """Return the server's Starlette application."""

    @asynccontextmanager
    async def lifespan(_: FastMCP) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    server = FastMCP("told", lifespan=lifespan)

    @server.tool
    async def remember(text: str) -> list[str]:
        session = get_session(get_http_request())
        before = await session.load()
        await session.append({"role": "user", "content": text})
        return [session.id, *(message["content"] for message in before)]

    @server.tool
    async def count(context: Context) -> str:
        await context.report_progress(1, message=gate.PIECES[0])
        await gate.opened(folder)
        return gate.PIECES[1]

    @server.custom_route("/page", methods=["GET"])
    async def page(_: Request) -> Response:
        return PlainTextResponse("ok")

    @server.custom_route("/error", methods=["GET"])
    async def error(_: Request) -> Response:
        raise LookupError("unhandled")

    app: Starlette = server.http_app()
    return install(app, store)
