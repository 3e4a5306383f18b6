"""A request to /v1/chat/completions: the fields that the demo reads."""

from dataclasses import dataclass
from typing import Any

from demo_app.bodies import json_object, optional, text
from hermes_session_mw import request_digest
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest, unsupported

SYSTEM_ROLES = ("system", "developer")

_OURS = ("messages", "stream", "stream_options")
"""Fields that the demo handles itself; the others are passed to the model."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The fields of a request's body that the demo reads.

    Attributes:
        system: the system and developer messages, which are never stored.
        told: the other messages: the whole conversation, or a part of it.
        stream: answer with server-sent events.
        include_usage: send a chunk with the usage at the stream's end.
        options: the body's other fields, which are passed to the model.
        digest: the body's digest, by which a repeated request is known.
    """

    system: list[Message]
    told: list[Message]
    stream: bool
    include_usage: bool
    options: dict[str, Any]
    digest: str

    @classmethod
    def parse(cls, body: bytes) -> "ChatRequest":
        """Read a request's body.

        Raises:
            InvalidRequest: it is not JSON, a field has a wrong type, or there is nothing to answer.
            InvalidRequest: it asks for what is not supported.
        """
        data = json_object(body)
        messages = _messages(data.get("messages"))
        told = [message for message in messages if message["role"] not in SYSTEM_ROLES]
        if not any(message["role"] in ("user", "tool") for message in told):
            raise InvalidRequest("there is no user message in 'messages'", "messages")
        if optional(data, "n", int, 1) != 1:
            raise InvalidRequest("'n' is not 1: a conversation continues from one answer", "n")
        options = optional(data, "stream_options", dict, {})
        for name, value in options.items():
            if value and name != "include_usage":
                raise unsupported(f"stream_options.{name}")
        text(data, "model")
        return cls(
            system=[message for message in messages if message["role"] in SYSTEM_ROLES],
            told=told,
            stream=optional(data, "stream", bool, default=False),
            include_usage=bool(options.get("include_usage")),
            options={name: value for name, value in data.items() if name not in _OURS},
            digest=request_digest(data),
        )


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest("'messages' is not a list with at least one message", "messages")
    for number, message in enumerate(value):
        _check_message(message, f"messages[{number}]")
    return value


def _check_message(message: Any, param: str) -> None:
    if not isinstance(message, dict):
        raise InvalidRequest(f"'{param}' is not an object", param)
    if not isinstance(message.get("role"), str):
        raise InvalidRequest(f"'{param}.role' is not a string", f"{param}.role")
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise InvalidRequest(f"'{param}.tool_call_id' is not a string", f"{param}.tool_call_id")
    content = message.get("content")
    if not isinstance(content, str | list | None):
        raise InvalidRequest(f"'{param}.content' is neither text nor a list", f"{param}.content")
    if message["role"] == "user" and content is None:
        raise InvalidRequest(f"'{param}.content' is missing", f"{param}.content")
    if isinstance(content, list) and not all(map(_is_part, content)):
        raise InvalidRequest(f"'{param}.content' has a part of a wrong shape", f"{param}.content")


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        return False
    return part["type"] != "text" or isinstance(part.get("text"), str)
