"""Handles the end of the lifespan: waits for open sessions, then closes the store."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw.database.workers.worker_pool import loop_scheduler

if TYPE_CHECKING:
    from hermes_session_mw.session.session import HermesSession

_ENDS = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


async def serve_lifespan(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, close: Callable[[], Awaitable[None]]
) -> None:
    """Serve the lifespan of ``app``, and ``close`` when it ends, once."""
    closed = False

    async def send_after_closing(message: Message) -> None:
        nonlocal closed
        # Servers stop as soon as they see one of these, so the store is closed first.
        if message["type"] in _ENDS:
            closed = True
            await close()
        await send(message)

    try:
        await app(scope, receive, send_after_closing)
    except Exception:
        if not closed:
            await close()
        raise


class OpenSessions(set["HermesSession"]):
    """The sessions with a recording or a turn to end after their request.

    One middleware may serve several event loops at once, each in a thread of its own. No lock is
    needed: a session is removed before the wakers are read, and a waker is added before the
    sessions are read, so that one of the two sees the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wakers: set[Callable[[], None]] = set()

    async def end(self, session: "HermesSession") -> None:
        """End the session's recordings and turn, and remove the session."""
        try:
            await session.end()
        finally:
            self.discard(session)
            if not self:
                for wake in tuple(self._wakers):
                    wake()

    async def wait(self, seconds: float) -> None:
        """Wait until there are none, for at most this many seconds."""
        with anyio.move_on_after(seconds):
            while self:
                await self._emptied()

    async def _emptied(self) -> None:
        event = anyio.Event()
        wake = _from_any_thread(event.set)
        self._wakers.add(wake)
        try:
            if self:
                await event.wait()
        finally:
            self._wakers.discard(wake)


def _from_any_thread(function: Callable[[], None]) -> Callable[[], None]:
    """Return a thread-safe function that makes the running event loop call ``function``."""
    schedule = loop_scheduler()

    def call() -> None:
        with suppress(RuntimeError):  # the loop has ended
            schedule(function)

    return call
