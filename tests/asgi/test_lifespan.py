"""The store is closed with the application's lifespan, before the server hears of its end."""

import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import HermesSession, HermesSessionMiddleware, MemoryStore
from hermes_session_mw.session.event_loops import from_any_thread
from tests.support.asgi import http_scope, lifespan, request, stamp, types


class ClosableStore(MemoryStore):
    """Notes when it is closed, into the log that the server sees."""

    def __init__(self, events: list[Any], failure: Exception | None = None) -> None:
        super().__init__()
        self.events = events
        self.failure = failure

    async def aclose(self) -> None:
        self.events.append({"type": "closed"})
        if self.failure is not None:
            raise self.failure


async def test_the_store_is_closed_before_shutdown_completes() -> None:
    """A server stops at the completion, so the engine is disposed of before it goes out."""
    events: list[str] = []

    @asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        events.append("up")
        yield
        events.append("down")

    store = ClosableStore(events)
    async with lifespan(HermesSessionMiddleware(Starlette(lifespan=own), store)) as log:
        assert events == ["up"]
        store.events = log  # from here on, one log for both
    assert events == ["up", "down"]
    assert types(log) == ["lifespan.startup.complete", "closed", "lifespan.shutdown.complete"]


async def test_a_store_that_never_closes_does_not_hold_the_server_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store has twice the time of an operation to close, and then the server goes on."""

    class NeverClosed(MemoryStore):
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    wrapped = HermesSessionMiddleware(Starlette(), NeverClosed(), store_timeout=0.05)
    with anyio.fail_after(60):
        async with lifespan(wrapped) as log:
            pass
    assert types(log) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "was not closed in 0.1 s" in caplog.text


async def test_the_store_is_closed_when_shutdown_fails() -> None:
    """A failed shutdown is one too, and reaches the server as it is."""
    events: list[Any] = []

    @asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        yield
        raise LookupError

    wrapped = HermesSessionMiddleware(Starlette(lifespan=own), ClosableStore(events))
    with pytest.RaisesGroup(LookupError):
        async with lifespan(wrapped) as log:
            pass
    assert types(events) == ["closed"]
    assert types(log) == ["lifespan.startup.complete", "lifespan.shutdown.failed"]


async def test_a_store_that_cannot_be_closed_does_not_stop_the_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure is logged, and the shutdown goes on."""
    wrapped = HermesSessionMiddleware(Starlette(), ClosableStore([], RuntimeError("stuck")))
    async with lifespan(wrapped) as log:
        pass
    assert types(log)[-1] == "lifespan.shutdown.complete"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_application_without_a_lifespan_is_left_alone() -> None:
    """What it raises on the lifespan scope is the server's to see, and the store is closed."""

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        assert scope["type"] == "http"

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(_: Message) -> None: ...

    events: list[Any] = []
    wrapped = HermesSessionMiddleware(app, ClosableStore(events))
    with pytest.raises(AssertionError):
        await wrapped({"type": "lifespan"}, receive, send)
    assert types(events) == ["closed"]


class SlowStore(ClosableStore):
    """Notes what was appended, after a while."""

    async def append(self, *args: Any, **options: Any) -> int:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        self.events.append({"type": "appended"})
        return await super().append(*args, **options)


async def answer_for_ever(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await Starlette()(scope, receive, send)
        return
    async with scope["state"]["hermes_session"].record({"role": "user"}) as answer:
        answer.write("so far")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await anyio.sleep_forever()


async def test_an_answer_that_is_cut_off_is_stored_before_the_store_is_closed() -> None:
    """A server cancels what is under way and shuts down at once, yet what has come is stored."""
    events: list[Any] = []
    wrapped = HermesSessionMiddleware(answer_for_ever, SlowStore(events))
    patience = anyio.CancelScope()

    async def serve() -> None:
        with patience:
            await request(wrapped)

    async with anyio.create_task_group() as tasks, lifespan(wrapped):
        tasks.start_soon(serve)
        await anyio.wait_all_tasks_blocked()
        patience.cancel()
    assert types(events) == ["appended", "closed"]


async def test_what_never_ends_keeps_no_server_from_ending() -> None:
    """An answer that is not cut off is waited for as long as storing it would be retried."""
    events: list[Any] = []
    wrapped = HermesSessionMiddleware(answer_for_ever, SlowStore(events), store_timeout=0.05)
    async with anyio.create_task_group() as tasks:
        async with lifespan(wrapped):
            tasks.start_soon(request, wrapped)
            await anyio.wait_all_tasks_blocked()
        assert types(events) == ["closed"]
        tasks.cancel_scope.cancel()


async def test_what_another_event_loop_has_open_is_waited_for(anyio_backend_name: str) -> None:
    """One middleware may serve several event loops: the end of what one has open wakes another."""
    events: list[Any] = []
    is_open, may_end = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Starlette()(scope, receive, send)
            return
        async with scope["state"]["hermes_session"].record({"role": "user"}):
            is_open.set()
            await anyio.to_thread.run_sync(may_end.wait)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    wrapped = HermesSessionMiddleware(app, SlowStore(events), store_timeout=60)
    thread = threading.Thread(
        target=partial(anyio.run, request, wrapped, backend=anyio_backend_name)
    )
    thread.start()
    with anyio.fail_after(30):
        async with lifespan(wrapped):
            await anyio.to_thread.run_sync(is_open.wait)
            threading.Timer(0.2, may_end.set).start()
    thread.join()
    assert types(events) == ["appended", "closed"]


def test_an_event_loop_that_has_ended_is_not_woken(anyio_backend_name: str) -> None:
    """Where a loop ended while it waited, waking it is no error."""

    async def make() -> Callable[[], None]:
        return from_any_thread(lambda: None)

    anyio.run(make, backend=anyio_backend_name)()


async def test_what_is_opened_after_the_request_is_not_kept() -> None:
    """A task that outlives its request may take turns and record; the middleware forgets it."""
    opened = anyio.Event()

    async with anyio.create_task_group() as tasks:

        async def later(session: HermesSession) -> None:
            await opened.wait()
            async with session.turn():
                await session.record({"role": "user"}).end()

        async def app(scope: Scope, _receive: Receive, send: Send) -> None:
            session = scope["state"]["hermes_session"]
            if scope["path"] == "/turn":
                await session.turn().acquire()
            tasks.start_soon(later, session)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        wrapped = HermesSessionMiddleware(app, MemoryStore())
        sessions = [
            stamp(await request(wrapped, scope=http_scope(path=path))) for path in ("/", "/turn")
        ]
        opened.set()
    gc.collect()
    kept = [each.id for each in gc.get_objects() if type(each) is HermesSession]
    assert set(kept).isdisjoint(sessions)


async def test_an_application_can_be_started_twice(sqlite_url: str) -> None:
    """After a shutdown the same application starts again, with a new engine."""
    wrapped = HermesSessionMiddleware(Starlette(), sqlite_url)
    for length in (1, 2):
        async with lifespan(wrapped):
            assert await wrapped.store.append("id", [{"role": "user"}]) == length
        assert "no engine yet" in repr(wrapped.store)
