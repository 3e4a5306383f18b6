"""A chat of Chainlit in a FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chainlit.utils import mount_chainlit
from fastapi import FastAPI

from hermes_session_mw import MemoryStore, install

CHAT = """
import chainlit
from starlette.requests import HTTPConnection

from hermes_session_mw import get_session


@chainlit.on_message
async def remember(message):
    session = get_session(HTTPConnection(chainlit.context.session.environ["asgi.scope"]))
    before = await session.load()
    await session.append({"role": "user", "content": message.content})
    await chainlit.Message(f"{session.id} {len(before)}").send()
"""


def make(folder: Path, store: MemoryStore) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    (folder / "chat.py").write_text(CHAT)
    app = FastAPI(lifespan=lifespan)

    @app.get("/error")
    async def error() -> None:
        raise LookupError("unhandled")

    mount_chainlit(app=app, target="chat.py", path="/chat")
    return install(app, store)
