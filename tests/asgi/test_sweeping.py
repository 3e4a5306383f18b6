"""The middleware's lifespan sweeps expired sessions, and nothing that fails there ends anything."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from hermes_session_mw import (
    NEVER,
    ConfigurationError,
    HermesSessionMiddleware,
    MemoryStore,
    StoreUnavailable,
    Sweep,
)
from hermes_session_mw.testing.helpers import numbered
from tests.support.asgi import lifespan, request, types

SECRET = "a-secret-id"


class SweptStore(MemoryStore):
    """Notes sweeps and its closing, and fails as often as it is told."""

    def __init__(self, failures: list[Exception] | None = None) -> None:
        super().__init__(expires_after=timedelta(days=1))
        self.events: list[str] = []
        self.failures = failures or []
        assert self._expiry is not None
        self.sweep_own: Callable[..., Awaitable[Sweep]] = self._expiry.sweep

    @property
    def expiry(self) -> Any:
        return self

    async def sweep(self, interval: float, is_stopped: Callable[[], bool]) -> Sweep:
        self.events.append("sweep")
        if self.failures:
            raise self.failures.pop()
        return await self.sweep_own(interval, is_stopped)

    async def aclose(self) -> None:
        self.events.append("closed")


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await anyio.sleep(0.001)


async def test_a_lifespan_sweeps_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    """From startup on, again and again, and not once after the store was closed."""
    caplog.set_level(logging.INFO, logger="hermes_session_mw")
    store = SweptStore()
    await store.append(SECRET, numbered(0, 3))
    record = store._sessions["", SECRET]
    object.__setattr__(record, "updated_at", record.updated_at - 100_000)
    wrapped = HermesSessionMiddleware(Starlette(), store, sweep_interval=0.001)
    assert store.events == []
    async with lifespan(wrapped):
        await until(lambda: store.events.count("sweep") > 2)
        assert (await store.load(SECRET)).exists is False
    assert store.events.index("closed") == len(store.events) - 1
    assert "1 sessions with 3 messages, and 0 unused ids" in caplog.text
    assert SECRET not in caplog.text


async def test_a_sweep_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises is logged, without what it says unless that is the store's own error."""
    caplog.set_level(logging.INFO, logger="hermes_session_mw")
    store = SweptStore([LookupError(SECRET), StoreUnavailable("the database is down")])
    wrapped = HermesSessionMiddleware(Starlette(), store, sweep_interval=0.001)
    async with lifespan(wrapped) as log:
        await until(lambda: store.events.count("sweep") > 3)
    assert types(log) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "removed, and will be later: the database is down" in caplog.text
    assert "removed, and will be later: LookupError" in caplog.text
    assert SECRET not in caplog.text


async def test_a_shutdown_waits_for_no_sweep_that_is_to_come() -> None:
    """A sweeper that sleeps is woken, and one at work leaves off after what it is at."""
    for interval in (300.0, 0.001):
        store = SweptStore()
        asked: list[bool] = []

        async def sweep(_interval: float, is_stopped: Callable[[], bool]) -> Sweep:
            while not is_stopped():  # as a sweep with much to do
                asked.append(True)  # noqa: B023
                await anyio.sleep(0.001)
            return Sweep()

        store.sweep_own = sweep
        wrapped = HermesSessionMiddleware(Starlette(), store, sweep_interval=interval)
        with anyio.fail_after(30):
            async with lifespan(wrapped):
                if interval < 1:
                    await until(asked.__len__)
        assert store.events[-1] == "closed"


async def test_a_startup_that_fails_sweeps_nothing() -> None:
    """The application has not begun, and nothing is left behind."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    store = SweptStore()
    wrapped = HermesSessionMiddleware(app, store, sweep_interval=0.001)
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        messages.append(message)

    await wrapped({"type": "lifespan"}, receive, send)
    assert types(messages) == ["lifespan.startup.failed"]
    assert store.events == ["closed"]


async def test_requests_without_a_lifespan_are_noticed_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator reads that nothing is swept, unless a lifespan runs or nothing expires."""
    for store, lasts, warned in (
        (MemoryStore(expires_after=NEVER), False, 1),
        (MemoryStore(expires_after=NEVER), True, 0),
        (MemoryStore(), False, 0),
    ):
        caplog.clear()
        wrapped = HermesSessionMiddleware(Starlette(), store)
        if lasts:
            async with lifespan(wrapped):
                await request(wrapped)
        else:
            for _ in range(3):
                await request(wrapped)
        assert caplog.text.count("no lifespan of HermesSessionMiddleware") == warned


@pytest.mark.parametrize("wrong", [0, -1, None, "1", float("nan")])
def test_an_interval_is_a_number_of_seconds(wrong: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises(ConfigurationError, match="sweep_interval"):
        HermesSessionMiddleware(Starlette(), MemoryStore(), sweep_interval=wrong)


async def test_telemetry_is_told_of_sweeps() -> None:
    """A sweep is an operation of the store, of no session, with the messages that it removed."""
    told: list[Any] = []

    class Telemetry:
        def request(self, *_: Any) -> None:
            return None

        def operation(self, name: str, session_id: str) -> Any:
            told.append((name, session_id))
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def count(self, messages: int) -> None:
            told.append(messages)

    wrapped = HermesSessionMiddleware(
        Starlette(),
        SweptStore(),
        sweep_interval=0.001,
        telemetry=Telemetry(),
    )
    async with lifespan(wrapped):
        await until(lambda: len(told) > 1)
    assert told[:2] == [("sweep", ""), 0]
