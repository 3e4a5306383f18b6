"""Pages of FastHTML, which tell HTMX the session's id for every later request."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fasthtml.common import Body, Button, EventStream, Script, fast_app
from starlette.applications import Starlette
from starlette.requests import Request

from hermes_session_mw import SESSION_HEADER, MemoryStore, get_session, install
from tests.integration.applications import gate


def make(folder: Path, store: MemoryStore) -> Starlette:
    """Return the application, which is one of Starlette's."""

    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # As FastHTML has it, and Starlette not: a generator as it is.
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    made: Any = fast_app(lifespan=lifespan, secret_key="only for tests")
    app, route = made

    @route("/page")
    def page(request: Request) -> Any:
        headers = json.dumps({SESSION_HEADER: get_session(request).id})
        script = Script("// the static route serves the folder's own files")
        return Body(Button("Say it", hx_post="/remember"), script, hx_headers=headers)

    @route("/remember")
    async def post(request: Request, text: str) -> Any:
        session = get_session(request)
        before = await session.load()
        await session.append({"role": "user", "content": text})
        return " ".join([session.id, *(message["content"] for message in before)])

    @route("/error")
    def error() -> Any:
        raise LookupError("unhandled")

    @route("/stream")
    def stream() -> Any:
        async def events() -> AsyncIterator[str]:
            yield f"data: {gate.PIECES[0]}\n\n"
            await gate.opened(folder)
            yield f"data: {gate.PIECES[1]}\n\n"

        return EventStream(events())

    @app.ws("/live")  # type: ignore[untyped-decorator,unused-ignore]
    async def live(msg: str) -> Any:
        return msg

    (folder / "own.css").write_text("p {}")
    typed: Starlette = app
    return install(typed, store)
