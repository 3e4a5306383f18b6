"""The 409s of a Starlette application, whose own error page would answer them 500."""

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .headers import SESSION_HEADER
from .refusals import CONFLICTS, Refusal, conflict


def answer_conflicts(app: object) -> None:
    """Have a Starlette or FastAPI application answer the package's conflicts, if it does not yet.

    An application of another kind lets them through to the middleware, which answers them itself.
    """
    if not isinstance(app, Starlette) or app.middleware_stack is not None:
        return
    for kind in CONFLICTS:
        # Exception's own handler is the error page's.
        bases = [base for base in kind.__mro__ if base is not Exception]
        if not any(base in app.exception_handlers for base in bases):
            app.add_exception_handler(kind, _answer)


async def _answer(connection: HTTPConnection, exc: Exception) -> Response:
    if connection.scope["type"] == "websocket":
        raise exc  # to the middleware, which closes it where the server can send no response
    refusal = conflict(exc)
    if refusal is None:  # pragma: no cover  # for the type checker: it is one of CONFLICTS
        raise exc
    return response_of(refusal, SESSION_HEADER)


def response_of(refusal: Refusal, param: str | None = None) -> Response:
    """Return Starlette's response for ``refusal``; ``param`` is as for its ``body``."""
    response = Response(refusal.body(param), refusal.status, media_type="application/json")
    response.headers["cache-control"] = "no-store"
    for name, value in refusal.headers:
        response.headers[name.decode("ascii")] = value.decode("ascii")
    return response
