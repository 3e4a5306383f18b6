"""Convert an upstream's failures to responses of the demo."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from demo_app.failures import ModelFailed, ModelRefused, error_body, upstream_failed

_OF_THIS_SERVER = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
)
"""Statuses and codes that mean that the demo's own key or account is rejected."""

_STATUS = re.compile(r"[45][0-9][0-9]")
_WAIT = re.compile(r"[0-9]{1,9}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT")
"""A Retry-After, in seconds or as a date; another value is not passed to the client."""


def failure_of(status: int, body: Any, headers: Mapping[str, str]) -> ModelFailed:
    """Return the failure for an HTTP status of 3xx to 5xx and its parsed body.

    A refusal of the request is passed on unchanged. An error between the demo and the upstream is
    not: the client cannot do anything about it, and its text may not be meant for the client.
    """
    wait = headers.get("Retry-After", "")
    retry = {"Retry-After": wait} if _WAIT.fullmatch(wait) else {}
    if status in _OF_THIS_SERVER:
        return upstream_failed(f"the upstream does not accept this server's API key ({status})")
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        return timed_out()
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ModelFailed(_told(body, status), status, retry)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return ModelRefused(_told(body, status), status, retry)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        error = error_body("the upstream is overloaded", "server_error", code="upstream_error")
        return ModelFailed(error, status, retry)
    return upstream_failed(f"the upstream failed, with status {status}")


def failure_in_stream(body: Any) -> ModelFailed:
    """Return the failure for an error event in an upstream's stream."""
    error = body["error"]
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return failure_of(int(code) if _STATUS.fullmatch(code) else 500, body, {})


def timed_out() -> ModelFailed:
    """Return the failure of an upstream that was silent for too long."""
    return upstream_failed("the upstream timed out", HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout")


def _told(body: Any, status: int) -> dict[str, Any]:
    """Convert an upstream's error to OpenAI's shape."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        error = {"message": error}
    texts = (error.get(name) for name in ("message", "detail"))
    message = next((text for text in texts if isinstance(text, str) and text), None)
    shape = error_body(message or f"the upstream answered {status}", "invalid_request_error")
    fields = {name: error.get(name) for name in ("type", "param", "code")}
    known = {name: field for name, field in fields.items() if isinstance(field, str | int)}
    return {"error": shape["error"] | known}


def parsed(data: bytes | str) -> Any:
    """Return the JSON value that an upstream sent, or None if it is invalid.

    Lone surrogates make it invalid, since they could be neither stored nor sent.
    """
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        # Checked here: a number too large for a float, such as 1e999, is Infinity now.
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
