"""A request to /v1/responses: the fields that the demo reads."""

from dataclasses import dataclass
from typing import Any

from demo_app.bodies import BadRequest, json_object, number, optional, text
from demo_app.chat_request import SYSTEM_ROLES
from hermes_session_mw import is_session_id, request_digest
from hermes_session_mw.messages import Message

_ROLES = ("user", "assistant", *SYSTEM_ROLES)
_OPTIONS = {
    "model": "model",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_completion_tokens",
    "user": "user",
}
"""A response's fields for the model, with their names in Chat Completions."""

NUMBERS = {name: _OPTIONS[name] for name in ("temperature", "top_p", "max_output_tokens")}
"""The fields that the response repeats, with their names in Chat Completions."""

_TEXT_PARTS = ("input_text", "output_text", "text")


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """The fields of a request's body that the demo reads.

    Attributes:
        instructions: a system message for this response only.
        system: the instructions and the system messages, which are never stored.
        new: the input's other messages, in the shape of Chat Completions, as they are stored.
        previous: the response to continue from.
        conversation: the session to continue.
        store: store the response, and the turn.
        stream: answer with server-sent events.
        options: the body's other fields for the model, by their names in Chat Completions.
        digest: the body's digest, by which a repeated request is known.
    """

    instructions: str | None
    system: list[Message]
    new: list[Message]
    previous: str | None
    conversation: str | None
    store: bool
    stream: bool
    options: dict[str, Any]
    digest: str

    @classmethod
    def parse(cls, body: bytes) -> "ResponseRequest":
        """Read a request's body.

        Raises:
            BadRequest: it is not JSON, a field has a wrong type, or there is no user message.
        """
        data = json_object(body)
        messages = _messages(data.get("input"))
        if not any(message["role"] == "user" for message in messages):
            raise BadRequest("there is no user message in 'input'", "input")
        instructions = text(data, "instructions")
        told = [] if instructions is None else [{"role": "system", "content": instructions}]
        previous = optional(data, "previous_response_id", str, None)
        conversation = _conversation(data.get("conversation"))
        if previous is not None and conversation is not None:
            problem = "give 'previous_response_id' or 'conversation', and not both"
            raise BadRequest(problem, "previous_response_id")
        text(data, "model")
        for name in NUMBERS:
            number(data, name)
        return cls(
            instructions=instructions,
            system=[*told, *(m for m in messages if m["role"] in SYSTEM_ROLES)],
            new=[message for message in messages if message["role"] not in SYSTEM_ROLES],
            previous=previous,
            conversation=conversation,
            store=optional(data, "store", bool, default=True),
            stream=optional(data, "stream", bool, default=False),
            options={
                name: data[key] for key, name in _OPTIONS.items() if data.get(key) is not None
            },
            digest=request_digest(data),
        )


def _conversation(value: Any) -> str | None:
    session_id = value.get("id") if isinstance(value, dict) else value
    if value is None:
        return None
    if not isinstance(session_id, str) or not is_session_id(session_id):
        raise BadRequest("'conversation' is not a session id", "conversation")
    return session_id


def _messages(value: Any) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise BadRequest("'input' is neither text nor a list", "input")
    return [_message(item, f"input[{number}]") for number, item in enumerate(value)]


def _message(item: Any, param: str) -> Message:
    if not isinstance(item, dict) or item.get("type", "message") != "message":
        raise BadRequest(f"'{param}' is not a message", param)
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise BadRequest(f"'{param}.role' is none of {', '.join(_ROLES)}", f"{param}.role")
    if isinstance(content, list):
        content = [_part(part, f"{param}.content[{at}]") for at, part in enumerate(content)]
    elif not isinstance(content, str):
        raise BadRequest(f"'{param}.content' is neither text nor a list", f"{param}.content")
    return {"role": role, "content": content}


def _part(part: Any, param: str) -> dict[str, str]:
    kind, text = (part.get("type"), part.get("text")) if isinstance(part, dict) else (None, None)
    if kind not in _TEXT_PARTS or not isinstance(text, str):
        raise BadRequest(f"'{param}' is not text, the only kind that this model reads", param)
    return {"type": "text", "text": text}
