"""Falcon's chat in docs/frameworks/others.md."""

from pathlib import Path
from typing import Any

import falcon
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SessionBusy
from tests.integration.applications import documented, gate


class Page:
    """Tells the session."""

    async def on_get(self, req: Any, resp: Any) -> None:
        """Answer with its id and its length."""
        session = req.scope["state"]["hermes_session"]
        resp.media = [session.id, session.length]


class Raises:
    """Raises an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def on_get(self, req: Any, resp: Any) -> None:
        """Answer nothing."""
        raise self.error


class Closed:
    """Lets nobody in."""

    async def on_websocket(self, req: Any, socket: Any) -> None:
        """Deny the handshake."""
        raise falcon.HTTPForbidden


class Lifespan:
    """Leaves traces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def process_startup(self, scope: Any, event: Any) -> None:
        """Begin."""
        (self.folder / "began").touch()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        """End."""
        (self.folder / "ended").touch()


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    chat = documented.load(folder, "others.md", "falcon_chat.py")
    chat.model = gate.model_of(folder)
    chat.app.add_middleware(Lifespan(folder))
    (folder / "page.js").write_text("1")
    chat.app.add_static_route("/static", str(folder))
    for path, resource in {
        "/page": Page(), "/busy": Raises(SessionBusy(1)), "/error": Raises(LookupError()),
        "/closed": Closed(),
    }.items():  # fmt: skip
        chat.app.add_route(path, resource)
    return HermesSessionMiddleware(chat.app, store)
