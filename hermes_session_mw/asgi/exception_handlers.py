"""Exception handlers for Starlette and FastAPI, which would otherwise answer 500."""

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import Response

from hermes_session_mw.asgi.error_responses import ANSWERED, Refusal, error_response

NO_STORE = {"cache-control": "no-store"}


def add_exception_handlers(app: object) -> None:
    """Add handlers for the package's errors to a Starlette or FastAPI application without any.

    In other applications the errors reach the middleware, which answers them itself.
    """
    if not isinstance(app, Starlette) or app.middleware_stack is not None:
        return
    for kind in ANSWERED:
        # The handler of Exception itself is the error page.
        bases = [base for base in kind.__mro__ if base is not Exception]
        known = [app.exception_handlers[base] for base in bases if base in app.exception_handlers]
        theirs = next((handler for handler in known if handler is not _answer), None)
        if not known:
            app.add_exception_handler(kind, _answer)
        elif (
            theirs is not None and known[0] is _answer
        ):  # of TimeoutError, which is a base of StoreTimeout
            app.add_exception_handler(kind, theirs)


async def _answer(connection: HTTPConnection, exc: Exception) -> Response:
    if connection.scope["type"] == "websocket":
        raise exc  # to the middleware, which closes it if the server can send no response
    answer = error_response(exc)
    if answer is None:  # pragma: no cover  # for the type checker: it is one of ANSWERED
        raise exc
    return Response(answer.body, answer.status, answer.headers)


def response_of(refusal: Refusal, param: str | None = None) -> Response:
    """Return a refusal as Starlette's response; ``param`` is as for its ``body``."""
    headers = {name.decode("ascii"): value.decode("ascii") for name, value in refusal.headers}
    body = refusal.body(param)
    return Response(body, refusal.status, NO_STORE | headers, media_type="application/json")
