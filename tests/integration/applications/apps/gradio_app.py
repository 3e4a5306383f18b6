"""A page of Gradio in a FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import gradio
from fastapi import FastAPI

from hermes_session_mw import MemoryStore, get_session, install
from tests.integration.applications import gate


def make(folder: Path, store: MemoryStore) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    async def remember(text: str, request: gradio.Request) -> str:
        assert request.request is not None
        session = get_session(request.request)
        before = await session.load()
        await session.append({"role": "user", "content": text})
        return f"{session.id} {len(before)}"

    async def count() -> AsyncIterator[str]:
        yield gate.PIECES[0]
        await gate.opened(folder)
        yield gate.PIECES[1]

    with gradio.Blocks() as demo:
        text, told = gradio.Textbox(), gradio.Textbox()
        text.submit(remember, text, told, api_name="remember")
        gradio.Button("Count").click(count, None, told, api_name="count")
    app = FastAPI(lifespan=lifespan)

    @app.get("/error")
    async def error() -> None:
        raise LookupError("unhandled")

    mounted: FastAPI = gradio.mount_gradio_app(app, demo, path="/ui")
    return install(mounted, store)
