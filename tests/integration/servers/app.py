"""What the real servers serve: one route for each thing that only a socket shows."""

import inspect
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from hermes_session_mw import Recording, SQLAlchemyStore, get_session, install
from hermes_session_mw.openai_api import EventStream

FOLDER = Path(os.environ["HERMES_TEST_FOLDER"])
MOST = 1000
"""Bytes that a body may have."""

has_limit = "max_body_size" in inspect.signature(Starlette).parameters
limit: dict[str, Any] = {"max_body_size": MOST} if has_limit else {}
turns = anyio.Semaphore(0)
left = 0


class Store(SQLAlchemyStore):
    """Leaves a trace when it is closed."""

    async def aclose(self) -> None:
        """Close, and say so."""
        await super().aclose()
        (FOLDER / "closed").touch()


async def page(request: Request) -> Response:
    """Append a turn, and tell what was there before."""
    session = get_session(request)
    before = session.length
    await session.append({"n": before})
    return JSONResponse({"id": session.id, "before": before})


async def error(_: Request) -> Response:
    """Raise what nobody handles."""
    raise LookupError("unhandled")


async def upload(request: Request) -> Response:
    """Read the body; the framework refuses it, or, where it is too old for that, an exception."""
    if not limit and int(request.headers["content-length"]) > MOST:
        raise HTTPException(413)
    return PlainTextResponse(str(len(await request.body())))


async def stream(request: Request) -> Response:
    """Send an event each time that somebody asks for the next."""
    session = get_session(request)

    async def events() -> AsyncIterator[str]:
        global left  # noqa: PLW0603  # the whole process counts
        try:
            yield f"data: {session.id} 0\n\n"
            for n in (1, 2):
                await turns.acquire()
                yield f"data: {session.id} {n}\n\n"
        except BaseException:
            left += 1
            raise

    return StreamingResponse(events(), media_type="text/event-stream")


async def silent(request: Request) -> Response:
    """Send one piece of a recorded answer, and nothing more."""
    answer = get_session(request).record({"role": "user", "content": "Go on."})

    async def events() -> AsyncIterator[str]:
        global left  # noqa: PLW0603  # the whole process counts
        try:
            async with answer:
                answer.write("one ")
                yield "data: one\n\n"
                await anyio.sleep_forever()
        finally:
            left += 1

    return EventStream(events(), keepalive=math.inf)


async def gated_pieces() -> AsyncIterator[str]:
    """Yield one piece, and the other when a file lets it go."""
    yield "one "
    while not (FOLDER / "go").exists():  # noqa: ASYNC110  # nobody tells
        await anyio.sleep(0.01)
    yield "two"


async def gated(request: Request) -> Response:
    """Stream a recorded answer of two pieces."""
    recording = get_session(request).record({"role": "user", "content": "Count."})

    async def pieces() -> AsyncIterator[str]:
        async with recording as answer:
            async for piece in gated_pieces():
                answer.write(piece)
                yield piece

    return StreamingResponse(pieces())


async def gated_answer(request: Request) -> Response:
    """Stream an answer that is logged, of the same two pieces."""
    question = {"role": "user", "content": "Count."}
    return (await get_session(request).answer(gated_pieces(), question)).response()


async def pid(request: Request) -> Response:
    """Append the process's number, and tell what was there before."""
    session = get_session(request)
    before = [message["pid"] for message in await session.load()]
    await session.append({"pid": os.getpid()})
    return JSONResponse(before)


async def pushing(request: Request) -> Response:
    """Push the page that counts the session's turns."""
    await request.send_push_promise("/")
    return PlainTextResponse("pushed")


async def next_event(_: Request) -> Response:
    """Let one event go."""
    turns.release()
    return PlainTextResponse("ok")


async def how_many_left(_: Request) -> Response:
    """Tell how many streams ended because their client left."""
    return PlainTextResponse(str(left))


async def chat(websocket: WebSocket) -> None:
    """Accept, and tell the id."""
    await websocket.accept()
    await websocket.send_text(get_session(websocket).id)
    await websocket.close()


async def denied(websocket: WebSocket) -> None:
    """Deny with a response."""
    await websocket.send_denial_response(PlainTextResponse("no", 403))


async def closed(websocket: WebSocket) -> None:
    """Close before the handshake."""
    await websocket.close()


def answer_of(answer: Recording) -> AsyncIterator[str]:
    """Record and yield an answer of two pieces, the second when somebody asks for it."""

    async def pieces() -> AsyncIterator[str]:
        async with answer:
            answer.write("one ")
            yield "one "
            await turns.acquire()
            answer.write("two")
            yield "two"

    return pieces()


async def recorded_inside(request: Request) -> Response:
    """Stream from inside of a turn, and record what was asked there."""
    session = get_session(request)
    async with session.turn(wait=0):
        answer = session.record({"role": "user", "content": "Count."})
        return StreamingResponse(answer_of(answer))


async def recorded_later(request: Request) -> Response:
    """Stream from inside of a turn, and record where the stream begins."""
    session = get_session(request)

    async def pieces() -> AsyncIterator[str]:
        async for piece in answer_of(session.record({"role": "user", "content": "Count."})):
            yield piece

    async with session.turn(wait=0):
        return StreamingResponse(pieces())


async def large(request: Request) -> Response:
    """Take the turn, and answer with more than fits between server and client."""
    await get_session(request).turn(wait=0).acquire()
    return PlainTextResponse("x" * 50_000_000)


async def line_feed(_: Request) -> Response:
    """Answer with a header that no server takes."""
    response = PlainTextResponse("never seen")
    response.raw_headers.append((b"x-line", b"one\ntwo"))
    return response


class Mistaken:
    """Answers a WebSocket's handshake as if it were a request, as Sanic does for unknown paths."""

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the start of a page."""
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": []})


app = install(
    Starlette(
        routes=[
            Route("/", page),
            Route("/error", error),
            Route("/upload", upload, methods=["POST"]),
            Route("/silent", silent),
            Route("/stream", stream),
            Route("/gated", gated),
            Route("/gated-answer", gated_answer),
            Route("/pid", pid),
            Route("/pushing", pushing),
            Route("/next", next_event, methods=["POST"]),
            Route("/left", how_many_left),
            Route("/recorded-inside", recorded_inside),
            Route("/recorded-later", recorded_later),
            Route("/large", large),
            Route("/line-feed", line_feed),
            WebSocketRoute("/ws", chat),
            WebSocketRoute("/mistaken", Mistaken()),
            WebSocketRoute("/denied", denied),
            WebSocketRoute("/closed", closed),
        ],
        **limit,
    ),
    Store(f"sqlite:///{FOLDER}/sessions.db"),
    autoload=lambda scope: bool(scope["path"] == "/"),
)
