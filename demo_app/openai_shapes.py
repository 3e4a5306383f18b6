"""The wire shapes of OpenAI's Chat Completions, as far as the demo speaks them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from hermes_session_mw.messages import Message

_SYSTEM_ROLES = ("system", "developer")


class BadRequest(Exception):
    """The request's body is not one that can be answered; ``param`` is the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the demo reads of a request's body.

    Attributes:
        system: the system and developer messages, which are never stored.
        earlier: the conversation before ``user``, as the client tells it.
        user: the last user message, which is the new one.
        stream: answer with server-sent events.
        include_usage: send a chunk with the usage at the stream's end.
    """

    system: list[Message]
    earlier: list[Message]
    user: Message
    stream: bool
    include_usage: bool

    @classmethod
    def parse(cls, body: bytes) -> "ChatRequest":
        """Read a request's body.

        Raises:
            BadRequest: it is not JSON, a field has a wrong type, or there is no user message.
        """
        data = _load(body)
        messages = _messages(data.get("messages"))
        talk = [message for message in messages if message["role"] not in _SYSTEM_ROLES]
        last = max((at for at, m in enumerate(talk) if m["role"] == "user"), default=None)
        if last is None:
            raise BadRequest("there is no user message in 'messages'", "messages")
        options = _optional(data, "stream_options", dict, {})
        _optional(data, "model", str, "")
        return cls(
            system=[message for message in messages if message["role"] in _SYSTEM_ROLES],
            earlier=talk[:last],
            user=talk[last],
            stream=_optional(data, "stream", bool, default=False),
            include_usage=bool(options.get("include_usage")),
        )


def error_response(
    status: int,
    message: str,
    *,
    error_type: str = "invalid_request_error",
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error in OpenAI's shape."""
    return JSONResponse(error_body(message, error_type, param), status, headers)


def error_body(message: str, error_type: str, param: str | None = None) -> dict[str, Any]:
    """Return the JSON object of an error in OpenAI's shape."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": None}}


def _load(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(data, dict):
        raise BadRequest("the body is not a JSON object")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are Python's, not JSON's


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRequest("'messages' is not a list with at least one message", "messages")
    for number, message in enumerate(value):
        _check_message(message, f"messages[{number}]")
    return value


def _check_message(message: Any, param: str) -> None:
    if not isinstance(message, dict):
        raise BadRequest(f"'{param}' is not an object", param)
    if not isinstance(message.get("role"), str):
        raise BadRequest(f"'{param}.role' is not a string", f"{param}.role")
    content = message.get("content")
    if not isinstance(content, str | list | None):
        raise BadRequest(f"'{param}.content' is neither text nor a list", f"{param}.content")
    if message["role"] == "user" and content is None:
        raise BadRequest(f"'{param}.content' is missing", f"{param}.content")
    if isinstance(content, list) and not all(map(_is_part, content)):
        raise BadRequest(f"'{param}.content' has a part of a wrong shape", f"{param}.content")


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        return False
    return part["type"] != "text" or isinstance(part.get("text"), str)


def _optional(data: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise BadRequest(f"'{name}' is not of type {kind.__name__}", name)
    return value
