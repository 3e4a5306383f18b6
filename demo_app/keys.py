"""API keys: each is an owner, with access to its own conversations only."""

import hmac
from collections.abc import Callable, Iterable
from hashlib import sha256

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from demo_app.errors import error_response
from hermes_session_mw import (
    SESSION_HEADER,
    ConfigurationError,
    is_session_id,
    mint_session_id,
)

HEALTH = ("/healthz", "/health", "/v1/health")
"""Where the process says that it serves: the last two are Hermes Agent's, for clients of both."""

_PROBE = "health"  # the owner of health checks without a key; no digest is so short


def parse_keys(text: str | None) -> list[str]:
    """Return the keys of a comma-separated list; an empty list if there is none.

    Raises:
        ConfigurationError: the list has no key; this must not make the server public.
    """
    if text is None:
        return []
    keys = [key for part in text.split(",") if (key := part.strip())]
    if not keys:
        raise ConfigurationError("HERMES_API_KEYS is set, but has no key: unset it to use none")
    return keys


class KeyOwners:
    """The middleware's ``owner`` hook: the owner of a request's key."""

    def __init__(self, keys: Iterable[str]) -> None:
        # The database stores the digest, so that reading it reveals no key.
        self._owners = [_digest(key) for key in keys]

    def __call__(self, connection: HTTPConnection) -> str | None:
        """Return the owner, or None if the key is missing or unknown."""
        if connection.scope["path"] in HEALTH:  # not .url, which is built from the Host header
            return _PROBE
        given = _digest(_bearer_token(connection))
        # All are compared, in constant time, so that the time reveals nothing.
        matches = [owner for owner in self._owners if hmac.compare_digest(owner, given)]
        return matches[0] if matches else None


class OnlyOwners:
    """Answers 401 to requests without a valid key, including those that need no session.

    It stands outside of the session middleware, whose own 401 is for requests with an id alone.
    """

    def __init__(
        self, app: ASGIApp, owners: KeyOwners, *, except_for: Callable[[Scope], bool]
    ) -> None:
        """Take the application, the keys, and a function that says which requests are public."""
        self.app = app
        self._owners = owners
        self._is_open = except_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        app = self.app
        is_closed = scope["type"] == "http" and not self._is_open(scope)
        if is_closed and self._owners(connection := HTTPConnection(scope)) is None:
            message = "There is no such API key: send 'Authorization: Bearer' and yours."
            session_id = connection.headers.get(SESSION_HEADER, "").strip()
            headers = {
                "WWW-Authenticate": "Bearer",  # RFC 9110, section 15.5.2
                "Cache-Control": "no-store",
                SESSION_HEADER: session_id if is_session_id(session_id) else mint_session_id(),
            }
            app = error_response(401, message, code="invalid_api_key", headers=headers)
        await app(scope, receive, send)


def _bearer_token(connection: HTTPConnection) -> str:
    fields = connection.headers.getlist("Authorization")
    scheme, _, token = fields[0].partition(" ") if len(fields) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
