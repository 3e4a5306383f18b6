"""Errors in OpenAI's shape."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_app.failures import FINAL, ModelFailed, error_body
from hermes_session_mw import (
    MessageTooLarge,
    NotSupported,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionTaken,
    StoreError,
    TurnConflict,
)
from hermes_session_mw.asgi.error_responses import refusal_of
from hermes_session_mw.openai_api.invalid_request import InvalidRequest


def error_response(
    status: int,
    message: str,
    *,
    error_type: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error as a response."""
    return JSONResponse(error_body(message, error_type, param, code), status, headers)


async def _bad_request(_: Request, exc: Exception) -> Response:
    status = getattr(exc, "status", 400)
    param, code = getattr(exc, "param", None), getattr(exc, "code", None)
    return error_response(status, str(exc), param=param, code=code)


async def _final(_: Request, exc: Exception) -> Response:
    """Answer 409, like the middleware: the same request cannot succeed."""
    refusal = refusal_of(exc)
    assert refusal is not None
    return error_response(409, str(exc), param=refusal.param, code=refusal.code, headers=FINAL)


async def _too_large(_: Request, exc: Exception) -> Response:
    """Answer 413, like the middleware: a message is larger than the demo allows."""
    problem = f"{exc}: see --max-message-bytes"
    return error_response(413, problem, param="messages", code="message_too_large")


async def _not_supported(_: Request, exc: Exception) -> Response:
    """Answer 501: the store does not have the operation."""
    return error_response(501, str(exc), code="not_supported")


async def _store_error(_: Request, exc: Exception) -> Response:
    """Answer 503: the turn was not stored, or may not be, so the answer is not sent either."""
    headers = {"Retry-After": "1"}
    return error_response(503, str(exc), error_type="server_error", headers=headers)


async def _model_failed(_: Request, exc: Exception) -> Response:
    """Answer with the status and the error of the model's failure."""
    assert isinstance(exc, ModelFailed)
    return JSONResponse(exc.body, exc.status, exc.headers)


async def _http_error(_: Request, exc: Exception) -> Response:
    """Answer with the status that was raised."""
    status = getattr(exc, "status_code", 500)
    headers = getattr(exc, "headers", None)
    return error_response(status, getattr(exc, "detail", ""), headers=headers)


async def _server_error(_: Request, _exc: Exception) -> Response:
    """Answer 500, without the cause."""
    return error_response(500, "The server failed to answer.", error_type="server_error")


# The middleware answers the others, such as SessionBusy.
HANDLERS = {
    InvalidRequest: _bad_request,
    MessageTooLarge: _too_large,
    SessionConflict: _final,
    SessionDeleted: _final,
    SessionFull: _final,
    SessionTaken: _final,
    TurnConflict: _final,
    NotSupported: _not_supported,
    StoreError: _store_error,
    ModelFailed: _model_failed,
    HTTPException: _http_error,
    Exception: _server_error,
}
