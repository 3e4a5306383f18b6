"""A page of NiceGUI in a FastAPI application, whose conversation is the browser's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from nicegui import app as nicegui_app
from nicegui import ui

from hermes_session_mw import MemoryStore, get_session, install


def make(folder: Path, store: MemoryStore) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    app = FastAPI(lifespan=lifespan)

    @ui.page("/")
    async def page(request: Request) -> None:
        session = get_session(request)
        await session.switch(nicegui_app.storage.browser["id"])
        told = ui.label(session.id)

        async def remember() -> None:
            before = await session.load()
            await session.append({"role": "user", "content": "pressed"})
            told.set_text(f"{session.id} {len(before)}")

        ui.button("Remember", on_click=remember)

    @ui.page("/error")
    def error() -> None:
        raise LookupError("unhandled")

    ui.run_with(app, storage_secret="only for tests")
    return install(app, store)
