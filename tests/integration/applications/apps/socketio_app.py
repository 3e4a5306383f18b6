"""A server of python-socketio."""

from pathlib import Path
from typing import Any

import socketio
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from hermes_session_mw import HermesSession, HermesSessionMiddleware, MemoryStore, get_session


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the server, which remembers each client's session."""
    server = socketio.AsyncServer(async_mode="asgi")

    @server.event
    async def connect(sid: str, environ: dict[str, Any], _auth: Any) -> None:
        session = get_session(HTTPConnection(environ["asgi.scope"]))
        await server.save_session(sid, {"hermes_session": session})

    @server.event
    async def remember(sid: str, text: str) -> list[str]:
        session: HermesSession = (await server.get_session(sid))["hermes_session"]
        before = await session.load()
        await session.append({"role": "user", "content": text})
        return [session.id, *(message["content"] for message in before)]

    app = socketio.ASGIApp(
        server,
        on_startup=(folder / "began").touch,
        on_shutdown=(folder / "ended").touch,
    )
    return HermesSessionMiddleware(app, store)
