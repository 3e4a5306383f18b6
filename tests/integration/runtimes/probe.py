"""Uses the package where no thread can be had: in Pyodide, by `pyodide.mjs`.

`report` returns JSON: what each step came to, by what the page calls it. A step returns what is
told of it; ``right`` if there is nothing to tell.
"""

import asyncio
import json
import platform
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stderr
from datetime import timedelta
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import starlette
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from hermes_session_mw import (
    MemoryStore,
    SQLAlchemyStore,
    StoreUnavailable,
    get_session,
    install,
    session_routes,
)
from tests.support.asgi import HEADER, http_scope, request, stamp

RIGHT = "right"
PATIENCE = 60
"""Seconds that a step may take."""
QUESTION = {"role": "user", "content": "Count."}
ANSWER = {"role": "assistant", "content": "one two"}


def check(found: object, expected: object) -> None:
    """Raise ``ValueError`` for what is not as expected: ``python -O`` leaves no assert."""
    if found != expected:
        raise ValueError(f"{str(found)[:200]} is not {str(expected)[:200]}")


async def pieces() -> AsyncIterator[str]:
    """Yield an answer, with a moment between its pieces."""
    for piece in ("one ", "two"):
        await asyncio.sleep(0)
        yield piece


async def page(request: Request) -> Response:
    """Append a turn, and tell what was there before."""
    session = get_session(request)
    before = [each["content"] for each in await session.load()]
    await session.append({"role": "user", "content": f"No. {len(before)}"})
    return JSONResponse(before)


async def stream(request: Request) -> Response:
    """Stream a recorded answer."""
    recording = get_session(request).record(QUESTION)

    async def recorded() -> AsyncIterator[str]:
        async with recording as answer:
            async for piece in pieces():
                answer.write(piece)
                yield piece

    return StreamingResponse(recorded())


async def answer(request: Request) -> Response:
    """Stream an answer that a task of its own writes."""
    return (await get_session(request).answer(pieces(), QUESTION)).response()


async def turn(request: Request) -> Response:
    """Hold the turn until another request has asked for it."""
    session = get_session(request)
    async with session.turn(wait=0):
        request.app.state.is_held.set()
        await request.app.state.is_free.wait()
        await session.append(QUESTION)
    return JSONResponse(session.length)


async def chat(websocket: WebSocket) -> None:
    """Append what comes, and send how much there is."""
    await websocket.accept()
    session = get_session(websocket)
    length = await session.append({"role": "user", "content": await websocket.receive_text()})
    await websocket.send_text(str(length))
    await websocket.close()


class Steps:
    """What is looked at, one after the other, in an application over one store."""

    def __init__(self) -> None:
        self.store = MemoryStore(expires_after=timedelta(hours=1))
        listing = session_routes(self.store, allow_ownerless=True)
        routes = [Route(f"/{each.__name__}", each) for each in (page, stream, answer, turn)]
        self.app = install(
            Starlette(routes=[*routes, WebSocketRoute("/chat", chat), *listing]),
            self.store,
            sweep_interval=0.05,
        )

    def all(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """Return the steps by what the page calls them."""
        return {
            "a conversation of three requests": self.converse,
            "a recorded stream": self.record,
            "`session.answer()`": self.answer,
            "`session.turn()`, and a second request": self.wait,
            "a WebSocket": self.socket,
            "the routes: list, get, delete": self.routes,
            "expiry: the sweeper of the lifespan": self.sweep,
            "`MemoryStore.prune()`": self.prune,
            "a `SQLAlchemyStore`": self.sql,
            "the command `hermes-sessions`": self.command,
        }

    async def get(self, path: str, session_id: str, method: str = "GET") -> tuple[int, bytes]:
        """Return the status and the body of an answer that has the session's id."""
        headers = [(HEADER, session_id.encode())]
        scope = http_scope(headers, path=path, raw_path=path.encode(), method=method)
        log = await request(self.app, scope=scope)
        check(stamp(log), session_id)
        return log[0]["status"], b"".join(each.get("body", b"") for each in log[1:])

    async def messages(self, session_id: str) -> list[dict[str, Any]]:
        """Return what is stored."""
        return [dict(each) for each in (await self.store.load(session_id)).messages]

    async def converse(self) -> str:
        """Each request of a conversation sees what the others stored."""
        for told in ([], ["No. 0"], ["No. 0", "No. 1"]):
            check(
                await self.get("/page", "talk"),
                (200, json.dumps(told, separators=(",", ":")).encode()),
            )
        return RIGHT

    async def record(self) -> str:
        """A recorded answer is stored with its question."""
        check(await self.get("/stream", "stream"), (200, b"one two"))
        check(await self.messages("stream"), [QUESTION, ANSWER])
        return RIGHT

    async def answer(self) -> str:
        """So is one that a task writes."""
        status, body = await self.get("/answer", "answer")
        check((status, b"one " in body and b"two" in body), (200, True))
        check(await self.messages("answer"), [QUESTION, ANSWER])
        return RIGHT

    async def wait(self) -> str:
        """While one request holds the turn, another is refused; then it is let in."""
        state: Any = self.app.state
        state.is_held, state.is_free = anyio.Event(), anyio.Event()
        seen = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.get, "/turn", "busy")
            await state.is_held.wait()
            seen.append((await self.get("/turn", "busy"))[0])
            state.is_free.set()
        seen.append((await self.get("/turn", "busy"))[0])
        check(seen, [409, 200])
        check(await self.messages("busy"), [QUESTION, QUESTION])
        return RIGHT

    async def socket(self) -> str:
        """The handshake has the id, and what the socket stores is the session's."""
        incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "Hi."}]
        log = []

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            log.append(message)

        scope = {**http_scope([(HEADER, b"socket")]), "type": "websocket", "scheme": "ws"}
        await self.app({**scope, "path": "/chat", "subprotocols": []}, receive, send)
        check([each["type"].partition(".")[2] for each in log], ["accept", "send", "close"])
        check([value for name, value in log[0]["headers"] if name == HEADER], [b"socket"])
        check(log[1]["text"], "1")
        return RIGHT

    async def routes(self) -> str:
        """The conversation is listed and told, and gone when it is deleted."""
        status, body = await self.get("/sessions", "routes")
        check((status, "talk" in [each["id"] for each in json.loads(body)["data"]]), (200, True))
        check((await self.get("/sessions/talk", "routes"))[0], 200)
        check((await self.get("/sessions/talk", "routes", "DELETE"))[0], 204)
        check((await self.get("/sessions/talk", "routes"))[0], 404)
        return RIGHT

    async def sweep(self) -> str:
        """A session that has expired is removed while the application runs, and others are not."""
        expiry = self.store.expiry
        check(expiry is None, False)
        await self.store.append("old", [QUESTION])
        await expiry.set("old", timedelta(seconds=1))  # type: ignore[union-attr]  # as checked
        while await self.store.info("old") is not None:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)
        check(await self.messages("stream"), [QUESTION, ANSWER])
        return RIGHT

    async def prune(self) -> str:
        """What was not used for a time goes."""
        check(await self.store.prune(timedelta(days=1)), 0)
        check(await self.store.prune(timedelta()) > 0, True)
        check(await self.messages("stream"), [])
        return RIGHT

    async def sql(self) -> str:
        """A store that needs threads says so, and names the one that needs none."""
        store = SQLAlchemyStore("sqlite://")
        try:
            await store.load("a")
        except StoreUnavailable as exc:
            check("start a thread" in str(exc) and "MemoryStore" in str(exc), True)
            return "`StoreUnavailable`, which names `MemoryStore`"
        return "works"

    async def command(self) -> str:
        """So does the command."""
        from hermes_session_mw.cli import main  # noqa: PLC0415  # after what does without click

        with TemporaryDirectory() as folder, redirect_stderr(StringIO()) as said:
            (Path(folder) / "empty.db").touch()
            sys.argv = ["hermes-sessions", "--store", f"sqlite:///{folder}/empty.db", "stats"]
            try:
                main()
            except SystemExit as exc:
                return f"exit code {exc.code}: {said.getvalue().strip()}"
        return "works"


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Serve the application's lifespan."""
    sender, receiver = anyio.create_memory_object_stream[Any](2)
    is_complete, outgoing = anyio.Event(), list[str]()

    async def send(message: Any) -> None:
        outgoing.append(message["type"])
        is_complete.set()

    async with anyio.create_task_group() as tasks, sender, receiver:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        tasks.start_soon(app, scope, receiver.receive, send)
        await sender.send({"type": "lifespan.startup"})
        await is_complete.wait()
        yield
        await sender.send({"type": "lifespan.shutdown"})
    check(outgoing, ["lifespan.startup.complete", "lifespan.shutdown.complete"])


async def look() -> dict[str, str]:
    """Take the steps, and tell what each came to."""
    told = {}
    steps = Steps()
    async with running(steps.app):
        for name, step in steps.all().items():
            try:
                async with asyncio.timeout(PATIENCE):
                    told[name] = await step()
            except Exception as exc:  # noqa: BLE001  # whatever it is, it is told
                traceback.print_exc()
                told[name] = f"{type(exc).__name__}: {exc}"
    return told


async def report() -> str:
    """Return what was seen as JSON, with the versions."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = f"{python}, Starlette {starlette.__version__}"
    return json.dumps({"versions": versions, "seen": await look()})
