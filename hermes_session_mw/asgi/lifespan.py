"""Letting go of the store where the server ends the application's lifespan."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ENDS = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


async def serve_lifespan(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, close: Callable[[], Awaitable[None]]
) -> None:
    """Serve the lifespan of ``app``, and ``close`` when it ends, once."""
    closed = False

    async def send_after_closing(message: Message) -> None:
        nonlocal closed
        # Servers stop as soon as they see one of these, so the store goes first.
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
