"""Server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """A stream whose generators are closed with the response, even if the client leaves early.

    Their ``async with`` blocks thus end at that time, and not when they are garbage-collected.
    """

    def __init__(
        self, events: AsyncGenerator[str, None], source: AsyncGenerator[Any, None]
    ) -> None:
        """Take the events, and the generator under them, which may have been started earlier."""
        # The second header is for nginx, which would otherwise buffer the events.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events, self._source = events, source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        async with aclosing(self._source), aclosing(self._events):
            await super().__call__(scope, receive, send)
