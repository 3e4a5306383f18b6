"""Connexion's chat in docs/frameworks/others.md."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from connexion import AsyncApp, request
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionError, HermesSessionMiddleware, MemoryStore, SessionBusy
from tests.integration.applications import documented, gate


async def page() -> Any:
    """Tell the session."""
    session = request.state.hermes_session
    return [session.id, session.length]


async def busy() -> None:
    """Raise what is answered 409."""
    raise SessionBusy(1)


async def error() -> None:
    """Raise what nobody handles."""
    raise LookupError


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application: the page's, with a lifespan and more operations."""
    chat = documented.load(folder, "others.md", "connexion_chat.py")
    chat.model = gate.model_of(folder)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    for operation in (page, busy, error):
        name = operation.__name__
        responses = {"200": {"description": "an answer"}}
        operation_id = f"{__name__}.{name}"
        chat.API["paths"][f"/{name}"] = {
            "get": {"operationId": operation_id, "responses": responses}
        }
    app = AsyncApp(__name__, lifespan=lifespan)
    app.add_api(chat.API)
    app.add_error_handler(HermesSessionError, chat.answered)
    return HermesSessionMiddleware(app, store)
