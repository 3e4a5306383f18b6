"""Server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """A stream whose generator ends with the response, also where the client leaves early.

    So its ``async with`` blocks are left then, and not when the garbage is collected.
    """

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        """Take what will be sent."""
        headers = {"Cache-Control": "no-cache"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)
