"""Server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """A stream whose generators end with the response, also where the client leaves early.

    So their ``async with`` blocks are left then, and not when the garbage is collected.
    """

    def __init__(
        self, events: AsyncGenerator[str, None], source: AsyncGenerator[Any, None]
    ) -> None:
        """Take what will be sent, and the generator under it, which may have begun before it."""
        # The second is for nginx, which would keep the events back until there are many.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events, self._source = events, source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        async with aclosing(self._source), aclosing(self._events):
            await super().__call__(scope, receive, send)
