"""Refuses a request's body that is too large, while it is read."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw.asgi.headers import content_length
from hermes_session_mw.openai_api.invalid_request import InvalidRequest


class BodyLimit:
    """ASGI middleware: reading a body that is too large raises `InvalidRequest`, with status 413.

    It is raised where the endpoint reads the body: by the ``Content-Length``, before anything is
    read, or as soon as too much has come. So no more than the limit is kept in memory. Add it to an
    application whose exception handlers answer the error; the session middleware stamps the answer.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, option: str = "BodyLimit.max_bytes"
    ) -> None:
        """Take the application, the most bytes, and the name of the option that sets them."""
        self.app = app
        self._max_bytes = max_bytes
        self._option = option

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = content_length(scope["headers"]) or 0
        received = 0

        async def limited() -> Message:
            nonlocal received
            if announced > self._max_bytes:
                raise self._too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()
            return message

        await self.app(scope, limited, send)

    def _too_large(self) -> InvalidRequest:
        problem = f"the body is larger than {self._max_bytes} bytes ({self._option})"
        return InvalidRequest(problem, code="request_too_large", status=413)
