"""What a request costs that needs no database, told in counts and bytes."""

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import hermes_session_mw
from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.support.asgi import HEADER, http_scope, request

PACKAGE = str(Path(hermes_session_mw.__file__).parent)
HEADERS = {"mint": [], "echo": [(HEADER, b"an-id")]}


@pytest.mark.parametrize("case", HEADERS)
async def test_one_coroutine_leads_to_the_application(case: str) -> None:
    """A request that needs no database comes to the application through one function alone."""
    between: list[str] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith(PACKAGE):
            between.append(frame.f_code.co_name)
            assert frame.f_back is not None
            frame = frame.f_back
        await send({"type": "http.response.start", "status": 200, "headers": []})

    wrapped = HermesSessionMiddleware(app, MemoryStore(), autoload=False)
    await request(wrapped, scope=http_scope(HEADERS[case]))
    assert between == ["__call__"]


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_message: Message) -> None:
    pass


async def bytes_in_flight(wrap: Callable[[ASGIApp], ASGIApp], case: str) -> float:
    """Return the bytes that a request holds whose response streams."""
    count, goes_on = 200, asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a chunk", "more_body": True})
        await goes_on.wait()

    served = wrap(app)

    def begin() -> Awaitable[None]:
        return served(http_scope(HEADERS[case]), receive, send)

    async def held() -> int:
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.ensure_future(begin()) for _ in range(count)]
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        goes_on.set()
        await asyncio.gather(*tasks)
        goes_on.clear()
        return taken

    tracemalloc.start()
    try:
        await held()  # what is made once
        return await held() / count
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("case", HEADERS)
async def test_a_request_in_flight_is_small(case: str) -> None:
    """A response that streams holds 1.3 kB of the package's, with the session and its id."""

    def wrap(app: ASGIApp) -> ASGIApp:
        return HermesSessionMiddleware(app, MemoryStore(), autoload=False)

    bare = await bytes_in_flight(lambda app: app, case)
    assert await bytes_in_flight(wrap, case) - bare <= 1300


@pytest.mark.parametrize("case", HEADERS)
async def test_a_request_leaves_no_garbage(case: str) -> None:
    """What a request has made is freed when it ends, and not by a run of the garbage collector."""
    wrapped = HermesSessionMiddleware(answer, MemoryStore(), autoload=False)
    await request(wrapped, scope=http_scope(HEADERS[case]))
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await request(wrapped, scope=http_scope(HEADERS[case]))
        assert gc.collect() == 0
    finally:
        gc.enable()


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
