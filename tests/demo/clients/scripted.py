"""An upstream that answers by what reaches it, so that a tool or a picture has to arrive."""

import hashlib
import json
from typing import Any

from tests.support.upstreams import Exchange

PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9aw"
    "AAAABJRU5ErkJggg=="
)
REFUSED = {"message": "This model answers no such question.", "type": "invalid_request_error"}


def scripted(exchange: Exchange) -> None:
    """Answer to the last message, as a stream; ``Fail.`` is refused, ``Break off.`` begun."""
    messages, last = exchange.body["messages"], exchange.body["messages"][-1]
    said = text_of(last)
    if said == "Fail.":
        exchange.answer(400, {"error": {**REFUSED, "code": "no_such_question"}})
        return
    exchange.head()
    exchange.delta(role="assistant", content="")
    if said == "Break off.":
        exchange.delta(content="half")
        exchange.event({"error": {**REFUSED, "type": "server_error", "code": "gone"}})
        return
    if exchange.body.get("tools") and last["role"] == "user":
        _call(exchange, said)
    else:
        for word in _answer(exchange.body, messages).split(" "):
            exchange.delta(content=f" {word}")
        exchange.delta(reason="stop")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    exchange.event({"object": "chat.completion.chunk", "choices": [], "usage": usage})
    exchange.event("[DONE]")


def _call(exchange: Exchange, said: str) -> None:
    """Call the tool for the last word, in two pieces."""
    arguments = json.dumps({"city": said.rpartition(" ")[2].rstrip("?")})
    name = exchange.body["tools"][0]["function"]["name"]
    call = {"index": 0, "id": f"call_{len(exchange.body['messages'])}", "type": "function"}
    exchange.delta(tool_calls=[{**call, "function": {"name": name, "arguments": arguments[:5]}}])
    exchange.delta(tool_calls=[{"index": 0, "function": {"arguments": arguments[5:]}}])
    exchange.delta(reason="tool_calls")


def _answer(body: Any, messages: list[Any]) -> str:
    last = messages[-1]
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return json.dumps({"city": "Oslo", "degrees": 7})
    if last["role"] == "tool":
        return f"It is {text_of(last)}."
    if pictures := pictures_in(last):
        return f"I see {digest(pictures[0])}."
    users = [text_of(message) for message in messages if message["role"] == "user"]
    return f"You said: {' / '.join(users)}"


def pictures_in(message: Any) -> list[str]:
    """Return the URLs of a message's pictures."""
    content = message["content"] if isinstance(message["content"], list) else []
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def digest(url: str) -> str:
    """Return what tells one picture from another."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]


def text_of(message: Any) -> str:
    """Return a message's text."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
