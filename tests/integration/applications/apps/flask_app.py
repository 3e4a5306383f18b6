"""Flask's chat in docs/frameworks/others.md."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SessionBusy
from tests.integration.applications import documented, gate


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    (folder / "static").mkdir()
    (folder / "static" / "page.js").write_text("1")
    chat = documented.load(folder, "others.md", "flask_chat.py")

    def model(_: Any) -> Iterator[str]:
        yield gate.PIECES[0]
        asyncio.run(gate.opened(folder))
        yield gate.PIECES[1]

    chat.model = model

    @chat.flask.get("/page")  # type: ignore[untyped-decorator,unused-ignore]
    def page() -> Any:
        session = chat.request.environ["asgi.scope"]["state"]["hermes_session"]
        return [session.id, session.length]

    @chat.flask.get("/busy")  # type: ignore[untyped-decorator,unused-ignore]
    def busy() -> None:
        raise SessionBusy(1)

    @chat.flask.get("/error")  # type: ignore[untyped-decorator,unused-ignore]
    def error() -> None:
        raise LookupError

    return HermesSessionMiddleware(chat.app, store)
