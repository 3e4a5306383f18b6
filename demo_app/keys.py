"""API keys from the environment: each is an owner, and who has none is let in nowhere."""

import hashlib
import hmac
from collections.abc import Callable, Collection

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hermes_session_mw import get_session

from .openai_shapes import error_response

OPEN = "/healthz"
"""The one path that needs no key."""


def owner_by(api_keys: Collection[str]) -> Callable[[HTTPConnection], str | None]:
    """Return the middleware's ``owner`` hook: it names a request's key, and never gives it away."""
    owners = [_name(key) for key in api_keys]

    def owner(connection: HTTPConnection) -> str | None:
        scheme, _, key = connection.headers.get("Authorization", "").partition(" ")
        name = _name(key.strip())
        # All are compared, each in the same time, so that the time tells nothing.
        is_known = [hmac.compare_digest(name, known) for known in owners]
        return name if scheme.lower() == "bearer" and any(is_known) else None

    return owner


class RequireOwner:
    """Answers 401 where the owner hook found no owner, with a session id or without."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        is_open = scope["type"] != "http" or scope["path"] == OPEN
        if is_open or get_session(Request(scope)).owner is not None:
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": "Bearer"}
        text = "This server needs an API key: send 'Authorization: Bearer <key>'."
        await error_response(401, text, headers=headers)(scope, receive, send)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
