"""An admin of starlette-admin's over SQLite, in a Starlette application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette_admin import CustomView
from starlette_admin.contrib.sqla import Admin, ModelView
from starlette_admin.routing import route

from hermes_session_mw import MemoryStore, get_session, install
from tests.integration.applications import gate


class Base(DeclarativeBase):
    """The admin's tables."""


class Note(Base):
    """A row that the admin creates."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    session_id: Mapped[str]


class NoteView(ModelView):
    """The pages of the notes, whose hooks reach the session."""

    exclude_fields_from_create = ("id", "session_id")

    async def before_create(self, request: Request, data: dict[str, Any], obj: Note) -> None:
        """Keep the session's id in the row."""
        obj.session_id = get_session(request).id

    async def after_create_committed(self, request: Request, obj: Note) -> None:
        """Append the text, now that the row is sure to stay."""
        await get_session(request).append({"role": "user", "content": obj.text})


class Conversation(CustomView):
    """Pages of the application's own in the admin."""

    path = "/conversation"

    def __init__(self, folder: Path) -> None:
        super().__init__("Conversation")
        self.folder = folder

    @route("")
    async def index(self, request: Request) -> Response:
        """Return the session's id, and what was appended."""
        session = get_session(request)
        return JSONResponse([session.id, *(each["content"] for each in await session.load())])

    @route("/stream")
    async def stream(self, _: Request) -> Response:
        """Stream two pieces, through all of the admin's middlewares."""

        async def pieces() -> AsyncIterator[str]:
            yield gate.PIECES[0]
            await gate.opened(self.folder)
            yield gate.PIECES[1]

        return StreamingResponse(pieces(), media_type="text/plain")

    @route("/error")
    async def error(self, _: Request) -> Response:
        """Raise."""
        raise LookupError("unhandled")


def make(folder: Path, store: MemoryStore) -> Starlette:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    url = f"sqlite:///{folder / 'admin.db'}"
    engine = create_engine(url, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    admin = Admin(engine, secret_key="only for tests")
    admin.add_view(NoteView(Note))
    admin.add_view(Conversation(folder))
    app = Starlette(lifespan=lifespan)
    admin.mount_to(app)
    return install(app, store)
