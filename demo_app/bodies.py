"""Read a request's JSON, and refuse invalid requests."""

import json
import math
from typing import Any

from hermes_session_mw.openai_api.invalid_request import InvalidRequest


def json_object(body: bytes) -> dict[str, Any]:
    """Return the body as a JSON object.

    Raises:
        InvalidRequest: the body is not a JSON object.
    """
    try:
        data = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except InvalidRequest:
        raise
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(data, dict):
        raise InvalidRequest("the body is not a JSON object")
    return data


def optional(data: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a field, or ``default`` if it is missing or null.

    Raises:
        InvalidRequest: it is of another type than ``kind``.
    """
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidRequest(f"'{name}' is not of type {kind.__name__}", name)
    return value


def text(data: dict[str, Any], name: str) -> str | None:
    """Return a field that is sent back to the client, or None if it is missing or null.

    Raises:
        InvalidRequest: it is not a text, or has lone surrogates, which UTF-8 cannot encode.
    """
    value: str | None = optional(data, name, str, None)
    if value is not None and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidRequest(f"'{name}' holds a lone surrogate", name)
    return value


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):  # 1e999, which could not be serialized again
        raise InvalidRequest("the body has a number that is too large")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are Python's extension of JSON
