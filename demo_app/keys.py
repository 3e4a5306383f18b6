"""API keys: each is an owner, who sees its own conversations and nobody else's."""

import hmac
from collections.abc import Callable, Iterable
from hashlib import sha256

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from demo_app.errors import error_response
from hermes_session_mw import ConfigurationError, get_session

HEALTH = "/healthz"
_PROBE = "health"  # who asks for the health without a key; no digest is so short


def parse_keys(text: str | None) -> list[str]:
    """Return the keys of a list with commas between; none where there is no list.

    Raises:
        ConfigurationError: there is a list without a key, which must not open the server to all.
    """
    if text is None:
        return []
    keys = [key for part in text.split(",") if (key := part.strip())]
    if not keys:
        raise ConfigurationError("HERMES_API_KEYS is set, but has no key: unset it to need none")
    return keys


class KeyOwners:
    """The middleware's ``owner`` hook: who a request's key belongs to."""

    def __init__(self, keys: Iterable[str]) -> None:
        # The digest is what the database keeps, so that whoever reads it learns no key.
        self._owners = [_digest(key) for key in keys]

    def __call__(self, connection: HTTPConnection) -> str | None:
        """Return the owner, None where there is no key, or an unknown one."""
        if connection.scope["path"] == HEALTH:  # not .url, which a Host header takes part in
            return _PROBE
        given = _digest(_bearer_token(connection))
        # All of them are compared, and in constant time: how long it takes tells nothing.
        matches = [owner for owner in self._owners if hmac.compare_digest(owner, given)]
        return matches[0] if matches else None


class OnlyOwners:
    """Answers 401 to whoever has no key, also where no session is asked for."""

    def __init__(self, app: ASGIApp, *, except_for: Callable[[Scope], bool]) -> None:
        """Take the application, and what of it is everybody's."""
        self.app = app
        self._is_open = except_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        app = self.app
        is_closed = scope["type"] == "http" and not self._is_open(scope)
        if is_closed and get_session(HTTPConnection(scope)).owner is None:
            message = "There is no such API key: send 'Authorization: Bearer' and yours."
            challenge = {"WWW-Authenticate": "Bearer"}  # RFC 9110, section 15.5.2
            app = error_response(401, message, code="invalid_api_key", headers=challenge)
        await app(scope, receive, send)


def _bearer_token(connection: HTTPConnection) -> str:
    fields = connection.headers.getlist("Authorization")
    scheme, _, token = fields[0].partition(" ") if len(fields) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
