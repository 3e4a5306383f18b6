"""What browsers get: the chat page's files, and which other sites' pages may use the API."""

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from demo_app.errors import error_response
from hermes_session_mw import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
    ConfigurationError,
)

FOLDER = Path(__file__).parent / "page"
PATHS = frozenset({"/", *(f"/{path.name}" for path in FOLDER.iterdir())})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    # The API that the page talks to is its user's choice, and may be of any origin.
    "connect-src 'self' http: https:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may do: it has no inline script or style, and makes no HTML out of text. The page
says the same in a <meta>, so that it holds wherever its folder is served from."""

_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # The address of a conversation is the secret that opens it.
    "Referrer-Policy": "no-referrer",
    # SessionRecord, and asked for again by its ETag: an edit of the page is seen at once.
    "Cache-Control": "no-cache",
}
_REQUEST_HEADERS = (
    "Authorization", "Content-Type", SESSION_HEADER, SESSION_KEY_HEADER,
    HISTORY_SOURCE_HEADER, IDEMPOTENCY_HEADER,
)  # fmt: skip
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def page_routes() -> list[BaseRoute]:
    """Return a route for each of the page's files, and for the page itself at ``/``."""
    files = _Files(directory=FOLDER, html=True)
    return [Route(path, files) for path in sorted(PATHS)]


def is_page(scope: Scope) -> bool:
    """Tell whether a request is for one of the page's files, which have no session."""
    # As routes are written: without the path of a mount or a proxy before them.
    return scope["path"].removeprefix(scope.get("root_path", "")) in PATHS


def parse_origins(text: str) -> list[str]:
    """Return the origins of a list with commas between: ``https://chat.example``, or ``*``.

    Raises:
        ConfigurationError: one of them is no origin, such as an address with a path.
    """
    origins = [origin for part in text.split(",") if (origin := part.strip())]
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"{origin!r} is no origin: give scheme, host and port alone, as in "
                "http://127.0.0.1:9000, or * for pages of all origins"
            )
    return origins


class OnlyKnownOrigins:
    """Answers 403 to what a page of another origin would change.

    CORS keeps such a page from reading; that it asks nothing of the model either takes this, since
    browsers send some requests, as a POST of text/plain, without asking the server first.
    """

    def __init__(self, app: ASGIApp, *, allowed: Collection[str]) -> None:
        self.app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        app = self.app
        if scope["type"] == "http" and not self._is_known(scope["method"], Headers(scope=scope)):
            message = "Pages of this origin may not use the server: see --cors-origins."
            app = error_response(403, message, code="origin_not_allowed")
        await app(scope, receive, send)

    def _is_known(self, method: str, headers: Headers) -> bool:
        site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
        if method in {"GET", "HEAD", "OPTIONS"} or not self._allowed.isdisjoint({"*", origin}):
            return True
        if site is not None:
            return site in {"same-origin", "none"}
        # To plain http on another machine browsers say less, and other clients say nothing at all.
        return origin is None or urlsplit(origin).netloc == headers.get("Host")


def allow_origins(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Return the application for pages of these origins too.

    It stands outermost, so that a page can also read what the session middleware refuses.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=_REQUEST_HEADERS,
        expose_headers=[SESSION_HEADER, "Retry-After", "Location"],
    )
