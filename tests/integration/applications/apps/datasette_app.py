"""Datasette over an empty database, with pages of a plugin."""

from pathlib import Path
from typing import Any

from datasette import hookimpl
from datasette.app import Datasette
from datasette.plugins import pm
from datasette.utils.asgi import AsgiStream, Response
from starlette.types import ASGIApp

from hermes_session_mw import HermesSession, HermesSessionMiddleware, MemoryStore
from tests.integration.applications import gate


class Pages:
    """The plugin."""

    __name__ = "pages"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @hookimpl
    def startup(self, datasette: Any) -> None:
        """Say that Datasette's own beginning ran."""
        (self.folder / "began").touch()

    @hookimpl
    def register_routes(self) -> list[tuple[str, Any]]:
        """Return the plugin's pages."""
        return [("/remember$", self.remember), ("/stream$", self.stream), ("/error$", self.error)]

    async def remember(self, request: Any) -> Any:
        """Append a message; return the session's id and how many there were."""
        session: HermesSession = request.scope["state"]["hermes_session"]
        before = await session.load()
        await session.append({"role": "user", "content": "seen"})
        return Response.json([session.id, len(before)])

    async def error(self, request: Any) -> Any:
        """Raise."""
        raise LookupError("unhandled")

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        """Stream two pieces."""

        async def write(writer: Any) -> None:
            await writer.write(gate.PIECES[0])
            await gate.opened(self.folder)
            await writer.write(gate.PIECES[1])

        await AsgiStream(write, content_type="text/plain").asgi_send(send)


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    pm.register(Pages(folder))
    return HermesSessionMiddleware(Datasette(memory=True).app(), store)
