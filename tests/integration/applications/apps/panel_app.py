"""A page of Panel in a FastAPI application, whose conversation is the browser's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
from fastapi import FastAPI
from panel.io.fastapi import add_application
from starlette.types import ASGIApp

from hermes_session_mw import SESSION_HEADER, HermesSession, HermesSessionMiddleware, MemoryStore
from tests.integration.applications import documented


def make(_: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    cookie: Callable[[ASGIApp], ASGIApp] = documented.define("pages.md", "SessionCookie")
    app = FastAPI()

    @add_application("/", app=app, title="remember")
    def page() -> Any:
        session = HermesSession(store, pn.state.headers[SESSION_HEADER])
        told = pn.pane.Str(session.id)

        async def remember(_: Any) -> None:
            before = await session.load()
            await session.append({"role": "user", "content": "pressed"})
            told.object = f"{session.id} {len(before)}"

        button = pn.widgets.Button(name="Remember")
        button.on_click(remember)
        return pn.Column(button, told)

    return cookie(HermesSessionMiddleware(app, store))
