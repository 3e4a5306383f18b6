"""BlackSheep's chat in docs/frameworks/others.md."""

from pathlib import Path
from typing import Any

from blacksheep import Request, WebSocket, json
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SessionBusy
from tests.integration.applications import documented, gate


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    chat = documented.load(folder, "others.md", "blacksheep_chat.py")
    chat.model = gate.model_of(folder)

    @chat.app.router.get("/page")
    async def page(request: Request) -> Any:
        session = request.scope["state"]["hermes_session"]
        return json([session.id, session.length])

    @chat.app.router.get("/busy")
    async def busy() -> None:
        raise SessionBusy(1)

    @chat.app.router.get("/error")
    async def error() -> None:
        raise LookupError

    @chat.app.router.ws("/closed")
    async def closed(socket: WebSocket) -> None:
        await socket.close()

    @chat.app.on_start
    async def begin(_: Any) -> None:
        (folder / "began").touch()

    @chat.app.on_stop
    async def end(_: Any) -> None:
        (folder / "ended").touch()

    (folder / "page.js").write_text("1")
    chat.app.serve_files(folder, root_path="/static", extensions={".js"})
    return HermesSessionMiddleware(chat.app, store)
