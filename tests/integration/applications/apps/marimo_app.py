"""A notebook of marimo, whose conversation is the browser's."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import marimo
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.integration.applications import documented

NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    from hermes_session_mw import HermesSession
    from shared import store

    session = HermesSession(store, mo.app_meta().request.headers["x-hermes-session-id"])
    button = mo.ui.run_button(label="Remember")
    mo.vstack([mo.md(session.id), button])
    return button, mo, session


@app.cell
async def _(button, mo, session):
    mo.stop(not button.value)
    before = await session.load()
    await session.append({"role": "user", "content": "pressed"})
    mo.md(f"{session.id} {len(before)}")
    return
"""


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    cookie: Callable[[ASGIApp], ASGIApp] = documented.define("pages.md", "SessionCookie")
    notebook = folder / "notebook.py"
    notebook.write_text(NOTEBOOK)
    shared: Any = ModuleType("shared")  # the module that both import
    shared.store = store
    sys.modules["shared"] = shared
    app = marimo.create_asgi_app().with_app(path="", root=str(notebook)).build()
    return cookie(HermesSessionMiddleware(app, store))
