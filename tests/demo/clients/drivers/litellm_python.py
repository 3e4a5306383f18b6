"""LiteLLM's SDK."""

import json
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import litellm

from tests.demo.clients.drivers.openai_python import FUNCTION, output_item, tool_message, user
from tests.demo.clients.drivers.protocol import Ask, Seen, Weather, id_in, serve


def drive(ask: Ask, seen: Seen) -> None:
    history: list[Any] = []
    kept: dict[str, Any] = {}
    for text in ask.texts:
        history = [*(history if ask.whole else []), user(ask, text)]
        if ask.style == "chat":
            _chat(ask, seen, history)
        else:
            _respond(ask, seen, history, kept)


def _given(ask: Ask) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": "openai/scripted",
        "api_base": ask.url,
        "api_key": "unused",
        "num_retries": 0,
        "max_retries": 0,
        "extra_headers": ask.headers,
        "stream": ask.stream,
    }
    return given


def _chat(ask: Ask, seen: Seen, messages: list[Any]) -> None:
    given = _given(ask)
    if ask.tools:
        given["tools"] = [{"type": "function", "function": FUNCTION}]
    if ask.structured:
        given["response_format"] = Weather
    while True:
        answer: Any = litellm.completion(messages=messages, **given)
        seen.ids.append(id_in(answer._hidden_params["additional_headers"]))
        if ask.stream:
            chunks = list(answer)
            seen.pieces = sum(bool(chunk.choices[0].delta.content) for chunk in chunks)
            answer = litellm.stream_chunk_builder(chunks)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            break
        messages += map(tool_message, message.tool_calls)
    seen.texts.append(message.content)
    seen.value = json.loads(message.content) if ask.structured else None


def _respond(ask: Ask, seen: Seen, items: list[Any], kept: dict[str, Any]) -> None:
    given = _given(ask)
    if ask.tools:
        given["tools"] = [{"type": "function", **FUNCTION}]
    if ask.structured:
        given["text_format"] = Weather
    while True:
        answer: Any = litellm.responses(input=items, **given, **kept)
        if ask.stream:
            events = list(answer)
            seen.pieces = sum(event.type == "response.output_text.delta" for event in events)
            answer = events[-1].response
        seen.ids.append(id_in(answer._hidden_params.get("additional_headers")))
        output = [item if isinstance(item, dict) else item.model_dump() for item in answer.output]
        if ask.via:
            items.clear()
            kept["previous_response_id"] = answer.id
        else:
            items += output
        calls = [item for item in output if item["type"] == "function_call"]
        if not calls:
            break
        items += (output_item(SimpleNamespace(**call)) for call in calls)
    seen.texts.append(answer.output_text)
    seen.value = json.loads(answer.output_text) if ask.structured else None


if __name__ == "__main__":
    serve(f"litellm {version('litellm')}", drive)
