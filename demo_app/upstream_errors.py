"""Convert an upstream's failures to responses of the demo."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from demo_app.failures import ModelFailed, ModelRefused, error_body, upstream_failed
from hermes_session_mw.openai_api.characters import whole
from hermes_session_mw.openai_api.chunks import InvalidChunk, parse_json
from hermes_session_mw.openai_api.retry_after import read_retry_after

_OF_THIS_SERVER = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
)
"""Statuses and codes that mean that the demo's own key or account is rejected."""

_OF_FRAMEWORKS = ("Not Found", "Method Not Allowed")

_STATUS = re.compile(r"[45][0-9][0-9]")


def failure_of(status: int, body: Any, headers: Mapping[str, str]) -> ModelFailed:
    """Return the failure for an HTTP status of 3xx to 5xx and its parsed body.

    A refusal of the request is passed on unchanged. An error between the demo and the upstream is
    not: the client cannot do anything about it, and its text may not be meant for the client.
    """
    wait = read_retry_after(headers.get("Retry-After", ""))
    retry = {"Retry-After": wait} if wait else {}
    if (problem := _misconfigured(status, body)) is not None:
        return upstream_failed(problem)
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        return timed_out()
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ModelFailed(_told(body, status), status, retry)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return ModelRefused(_told(body, status), status, retry)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        told = "The model's server is overloaded. Try again in a moment."
        error = error_body(told, "server_error", code="upstream_error")
        return ModelFailed(error, status, retry)
    return upstream_failed(f"The model's server failed (status {status}). Try again later.")


def _misconfigured(status: int, body: Any) -> str | None:
    """Return what whoever runs the demo has to mend; None for nothing."""
    if status in _OF_THIS_SERVER:
        problem = f"The model's server does not accept this server's API key ({status})."
        return f"{problem} Whoever runs this server can set another."
    if is_no_api(status, body):
        problem = f"There is no chat API where this server looks for its model ({status})."
        return f"{problem} Its log has the address, for whoever runs it."
    return None


def is_no_api(status: int, body: Any) -> bool:
    """Return whether a 404 or 405 is a web server's own: its address is not that of an API.

    A model that is not found is told in an error's shape; a wrong path in a page, in nothing, or in
    a framework's words.
    """
    if status not in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return False
    return not isinstance(body, dict) or body.get("detail") in _OF_FRAMEWORKS


def failure_in_stream(error: Any) -> ModelFailed:
    """Return the failure for an error in an upstream's stream."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return failure_of(int(code) if _STATUS.fullmatch(code) else 500, {"error": error}, {})


def timed_out() -> ModelFailed:
    """Return the failure of an upstream that was silent for too long."""
    problem = "The model's server did not answer in time. Try again, or another model."
    return upstream_failed(problem, HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout")


def _told(body: Any, status: int) -> dict[str, Any]:
    """Convert an upstream's error to OpenAI's shape."""
    if isinstance(body, list) and len(body) == 1:
        (body,) = body  # as Google's servers send it
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        error = {"message": error}
    texts = (error.get(name) for name in ("message", "detail"))
    message = next(
        (text if isinstance(text, str) else json.dumps(text) for text in texts if text), ""
    )
    shape = error_body(
        message or f"The model's server refuses this ({status}).", "invalid_request_error"
    )
    fields = {name: error.get(name) for name in ("type", "param", "code")}
    known = {name: field for name, field in fields.items() if isinstance(field, str | int)}
    return {"error": shape["error"] | known}


def parsed(data: bytes | str) -> Any:
    """Return the JSON value that an upstream sent, or None if it is invalid."""
    try:
        return whole(parse_json(data))
    except InvalidChunk:
        return None
