"""The store is closed with the application's lifespan, before the server hears of its end."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import HermesSessionMiddleware, MemoryStore

from .asgi import lifespan, types


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


async def test_an_application_can_be_started_twice(sqlite_url: str) -> None:
    """After a shutdown the same application starts again, with a new engine."""
    wrapped = HermesSessionMiddleware(Starlette(), sqlite_url)
    for length in (1, 2):
        async with lifespan(wrapped):
            assert await wrapped.store.append("id", [{"role": "user"}]) == length
        assert "no engine yet" in repr(wrapped.store)
