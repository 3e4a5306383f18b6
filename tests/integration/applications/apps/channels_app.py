"""Channels' chat in docs/frameworks/others.md."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from channels.exceptions import DenyConnection
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.http import JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SessionBusy
from tests.integration.applications import documented, gate


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    chat = documented.load(folder, "others.md", "channels_chat.py")

    async def page(request: Any) -> Any:
        session = request.scope["state"]["hermes_session"]
        return JsonResponse([session.id, session.length], safe=False)

    async def error(_: Any) -> None:
        raise LookupError

    class Busy(AsyncHttpConsumer):  # type: ignore[misc,unused-ignore]
        async def handle(self, _: bytes) -> None:
            raise SessionBusy(1)

    class Closed(AsyncWebsocketConsumer):  # type: ignore[misc,unused-ignore]
        async def connect(self) -> None:
            raise DenyConnection

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    chat.model = gate.model_of(folder)
    chat.urlpatterns += [path("page", page), path("error", error)]
    mapping = chat.app.application_mapping
    mapping["http"].routes.insert(0, path("busy", Busy.as_asgi()))
    mapping["websocket"] = URLRouter(
        [*mapping["websocket"].routes, path("closed", Closed.as_asgi())]
    )
    mapping["lifespan"] = Starlette(lifespan=lifespan).router
    return HermesSessionMiddleware(chat.app, store)
