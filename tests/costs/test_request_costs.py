"""What a request costs that needs no database, told in counts and bytes."""

import gc
import sys
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from pathlib import Path
from types import coroutine

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import hermes_session_mw
from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.support.asgi import HEADER, http_scope, request

PACKAGE = str(Path(hermes_session_mw.__file__).parent)
COUNT = 500
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


@coroutine
def hold() -> Iterator[None]:
    """Wait for whoever drives the request."""
    yield


def bytes_in_flight(wrap: Callable[[ASGIApp], ASGIApp], case: str) -> float:
    """Return the bytes that a request holds whose response streams, in a context of its own.

    No event loop runs it, whose tables of tasks grow in steps.
    """

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a chunk", "more_body": True})
        await hold()

    served: Callable[..., Coroutine[None, None, None]] = wrap(app)  # type: ignore[assignment]

    def begin() -> tuple[Context, Coroutine[None, None, None]]:
        context, running = Context(), served(http_scope(HEADERS[case]), receive, send)
        context.run(running.send, None)
        return context, running

    def end(context: Context, running: Coroutine[None, None, None]) -> None:
        with pytest.raises(StopIteration):
            context.run(running.send, None)

    end(*begin())  # what is made once
    requests: list[tuple[Context, Coroutine[None, None, None]] | None] = [None] * COUNT
    gc.collect()  # which empties the interpreter's lists of free objects too
    tracemalloc.start()
    try:
        for number in range(COUNT):
            requests[number] = begin()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    for request_ in requests:
        if request_ is not None:
            end(*request_)
    return taken / COUNT


@pytest.mark.parametrize("case", HEADERS)
def test_a_request_in_flight_is_small(case: str) -> None:
    """A response that streams holds 1.5 kB of the package's, with the session and its id."""

    def wrap(app: ASGIApp) -> ASGIApp:
        return HermesSessionMiddleware(app, MemoryStore(), autoload=False)

    assert bytes_in_flight(wrap, case) - bytes_in_flight(lambda app: app, case) <= 1500


@pytest.mark.parametrize("case", HEADERS)
async def test_a_request_leaves_no_garbage(case: str) -> None:
    """What a request has made is freed when it ends, and not by a run of the garbage collector."""
    wrapped = HermesSessionMiddleware(answer, MemoryStore(), autoload=False)
    await request(wrapped, scope=http_scope(HEADERS[case]))
    while gc.collect():  # what was freed may free more
        pass
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
