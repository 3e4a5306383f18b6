"""Read a request's JSON, and refuse invalid requests."""

import json
import math
from typing import Any


class BadRequest(Exception):
    """The request is invalid; ``param`` is the field at fault."""

    def __init__(
        self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code


def json_object(body: bytes) -> dict[str, Any]:
    """Return the body as a JSON object.

    Raises:
        BadRequest: the body is not a JSON object.
    """
    try:
        data = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(data, dict):
        raise BadRequest("the body is not a JSON object")
    return data


def optional(data: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a field, or ``default`` if it is missing or null.

    Raises:
        BadRequest: it is of another type than ``kind``.
    """
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise BadRequest(f"'{name}' is not of type {kind.__name__}", name)
    return value


def text(data: dict[str, Any], name: str) -> str | None:
    """Return a field that is sent back to the client, or None if it is missing or null.

    Raises:
        BadRequest: it is not a text, or has lone surrogates, which UTF-8 cannot encode.
    """
    value: str | None = optional(data, name, str, None)
    if value is not None and any("\ud800" <= char <= "\udfff" for char in value):
        raise BadRequest(f"'{name}' holds a lone surrogate", name)
    return value


def number(data: dict[str, Any], name: str) -> float | None:
    """Return a number that is sent back to the client, or None if it is missing or null.

    Raises:
        BadRequest: it is not a number.
    """
    value = data.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise BadRequest(f"'{name}' is not a number", name)


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):  # 1e999, which could not be serialized again
        raise BadRequest("the body has a number that is too large")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are Python's extension of JSON
