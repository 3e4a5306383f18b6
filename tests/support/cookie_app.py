"""An application whose sessions belong to whoever the cookie ``user`` names."""

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, get_session, session_routes


def by_cookie(connection: HTTPConnection) -> str | None:
    """Name the owner, as ``connection.cookies`` and the header itself tell it alike."""
    user = connection.cookies.get("user")
    assert user is None or f"user={user}" in connection.headers["cookie"]
    return user


async def who(request: Request) -> JSONResponse:
    """Tell whose the session is, and what cookies the application sees."""
    seen = {"owner": get_session(request).owner, "cookies": request.cookies}
    fields = sum(1 for key, _ in request.scope["headers"] if key == b"cookie")
    return JSONResponse(seen | {"fields": fields, "version": request.scope["http_version"]})


store = MemoryStore()
app = HermesSessionMiddleware(
    Starlette(routes=[Route("/", who), *session_routes(store)]), store, owner=by_cookie
)
"""The routes go by the middleware's hook."""

bare = Starlette(routes=session_routes(store, owner=by_cookie))
"""The routes have a hook of their own, and no middleware."""
