"""Convert an upstream's chunks to pieces of an answer."""

from typing import Any

from demo_app.failures import upstream_failed
from demo_app.model import Delta, Usage
from demo_app.upstream_errors import failure_in_stream, parsed
from hermes_session_mw.messages import Message

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def delta_of(data: bytes | str) -> Delta:
    """Return the piece of a chunk, or of a completion that was not streamed.

    Raises:
        ModelFailed: it is an error, or not such an object.
    """
    value = parsed(data)
    if isinstance(value, dict) and value.get("error"):
        raise failure_in_stream(value)
    try:
        return _delta(value)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise upstream_failed("the upstream did not send a chat completion") from None


def _delta(value: dict[str, Any]) -> Delta:
    usage, model = _usage(value.get("usage")), _text(value.get("model"))
    choice: Message = next((each for each in value["choices"] if each.get("index", 0) == 0), {})
    message = choice.get("delta") or choice.get("message") or {}
    fields = {
        name: field
        for name, field in message.items()
        if name not in ("role", "content") and field not in (None, "", [])
    }
    if "tool_calls" in fields:
        calls = fields["tool_calls"]
        fields["tool_calls"] = [_call(place, call) for place, call in enumerate(calls)]
    return Delta(
        text=_text(message.get("content")) or "",
        fields=fields,
        finish_reason=_text(choice.get("finish_reason")),
        usage=usage,
        model=model,
    )


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value or None


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict) or not all(isinstance(value.get(n), int) for n in _COUNTS):
        return None
    return value


def _call(place: int, call: Message) -> Message:
    """Return a piece of a tool call, with the index by which clients add it to the call."""
    function = call.get("function") or {}
    for text in (call.get("id"), function.get("name"), function.get("arguments")):
        _text(text)
    index = call.get("index", place)
    if not isinstance(index, int):
        raise TypeError
    return {**call, "index": index}
