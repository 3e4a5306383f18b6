"""For browsers: the chat page's files, and the origins whose pages may use the API."""

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from demo_app.errors import error_response
from hermes_session_mw import ConfigurationError
from hermes_session_mw.openai_api import CORS_REQUEST_HEADERS, CORS_RESPONSE_HEADERS

FOLDER = Path(__file__).parent / "page"
PATHS = frozenset({"/", *(f"/{path.name}" for path in FOLDER.iterdir())})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    # The user may choose an API of any origin.
    "connect-src 'self' http: https:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may do: it has no inline script or style, and makes no HTML out of text. The page
says the same in a <meta>, so that it holds wherever its folder is served from."""

_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # The page's address contains the session id, which is a secret.
    "Referrer-Policy": "no-referrer",
    # Cached, and revalidated by its ETag: a change to the page is visible at once.
    "Cache-Control": "no-cache",
}
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def page_routes() -> list[BaseRoute]:
    """Return the routes of the page's files, and of the page itself at ``/``."""
    files = GZipMiddleware(_Files(directory=FOLDER, html=True))
    return [Route(path, files) for path in sorted(PATHS)]


def is_page(scope: Scope) -> bool:
    """Return whether a request is for one of the page's files, which have no session."""
    # Written like a route, without the path of a mount or a proxy.
    return scope["path"].removeprefix(scope.get("root_path", "")) in PATHS


def parse_origins(text: str) -> list[str]:
    """Return the origins of a comma-separated list: ``https://chat.example``, or ``*``.

    Raises:
        ConfigurationError: one of them is not an origin, such as an address with a path.
    """
    origins = [origin for part in text.split(",") if (origin := part.strip())]
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"{origin!r} is not an origin: give only scheme, host and port, as in "
                "http://127.0.0.1:9000, or * for pages of all origins"
            )
    return origins


class OnlyKnownOrigins:
    """Answers 403 to other origins' pages, except for reading.

    CORS keeps such a page from reading responses. It does not keep it from asking the model, since
    browsers send some requests, such as a POST of text/plain, without a preflight.
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
        # Over plain http to another machine browsers omit Sec-Fetch-Site; other clients omit both.
        return origin is None or urlsplit(origin).netloc == headers.get("Host")


def allow_origins(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Wrap the application so that pages of these origins may use it, too.

    It is the outermost layer, so that a page can also read the session middleware's refusals.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=CORS_REQUEST_HEADERS,
        expose_headers=CORS_RESPONSE_HEADERS,
    )
