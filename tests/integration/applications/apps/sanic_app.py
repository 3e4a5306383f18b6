"""Sanic's chat in docs/frameworks/others.md."""

from pathlib import Path
from typing import Any

from sanic import json
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SessionBusy
from tests.integration.applications import documented, gate


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    chat = documented.load(folder, "others.md", "sanic_chat.py")
    chat.model = gate.model_of(folder)

    @chat.app.get("/page")
    async def page(request: Any) -> Any:
        session = request.scope["state"]["hermes_session"]
        return json([session.id, session.length])

    @chat.app.get("/busy")
    async def busy(_: Any) -> None:
        raise SessionBusy(1)

    @chat.app.get("/error")
    async def error(_: Any) -> None:
        raise LookupError

    @chat.app.before_server_start
    async def begin(_: Any) -> None:
        (folder / "began").touch()

    @chat.app.after_server_stop
    async def end(_: Any) -> None:
        (folder / "ended").touch()

    (folder / "page.js").write_text("1")
    chat.app.static("/static/page.js", folder / "page.js")
    return HermesSessionMiddleware(chat.app, store)
