"""A server of MCP's Python SDK."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from hermes_session_mw import MemoryStore, get_session, install
from tests.integration.applications import gate


def make(folder: Path, store: MemoryStore) -> Starlette:
    """Return the server's Starlette application."""

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    server = MCPServer("told", lifespan=lifespan)

    @server.tool()
    async def remember(text: str, context: Context) -> list[str]:
        """Append a message; return the session's id and the messages before."""
        session = get_session(context.request_context.request)
        before = await session.load()
        await session.append({"role": "user", "content": text})
        return [session.id, *(message["content"] for message in before)]

    @server.tool()
    async def count(context: Context) -> str:
        """Report a piece, and return the other when a client has it."""
        await context.report_progress(1, message=gate.PIECES[0])
        await gate.opened(folder)
        return gate.PIECES[1]

    @server.custom_route("/page", methods=["GET"])
    async def page(_: Request) -> Response:
        return PlainTextResponse("ok")

    @server.custom_route("/error", methods=["GET"])
    async def error(_: Request) -> Response:
        raise LookupError("unhandled")

    app: Starlette = server.streamable_http_app()
    return install(app, store)
