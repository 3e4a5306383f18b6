"""Handles the end of the lifespan: waits for open sessions, then closes the store."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw.session.event_loops import Wakers

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

    One middleware may serve several event loops at once, each in a thread of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wakers = Wakers()

    async def end(self, session: "HermesSession") -> None:
        """End the session's recordings and turn, and remove the session."""
        try:
            await session.end()
        finally:
            self.discard(session)
            if not self:
                self._wakers.wake()

    async def wait(self, seconds: float) -> None:
        """Wait until there are none, for at most this many seconds."""
        with anyio.move_on_after(seconds):
            await self._wakers.wait_until(lambda: not self)
