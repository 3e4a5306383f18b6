"""The openai Python SDK."""

import json
from typing import Any

import openai

from tests.demo.clients.drivers.protocol import Ask, Seen, Weather, id_in, serve, weather_in

MODEL = "scripted"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "parameters": CITY, "strict": True}


def drive(ask: Ask, seen: Seen) -> None:
    client = openai.OpenAI(base_url=ask.url, api_key="unused", max_retries=0)
    history: list[Any] = []
    kept: dict[str, Any] = {}
    with client:
        if ask.via == "conversation":
            kept["conversation"] = client.conversations.create().id
        for text in ask.texts:
            history = [*(history if ask.whole else []), user(ask, text)]
            if ask.style == "chat":
                _chat(client, ask, seen, history)
            else:
                _respond(client, ask, seen, history, kept)


def user(ask: Ask, text: str) -> dict[str, Any]:
    if ask.picture is None:
        return {"role": "user", "content": text}
    if ask.style == "chat":
        told, shown = {"type": "text", "text": text}, {"type": "image_url"}
        return {"role": "user", "content": [told, {**shown, "image_url": {"url": ask.picture}}]}
    picture = {"type": "input_image", "image_url": ask.picture, "detail": "auto"}
    return {"role": "user", "content": [{"type": "input_text", "text": text}, picture]}


def _chat(client: openai.OpenAI, ask: Ask, seen: Seen, messages: list[Any]) -> None:
    given: dict[str, Any] = {"model": MODEL, "extra_headers": ask.headers}
    if ask.tools:
        given["tools"] = [{"type": "function", "function": FUNCTION}]
    message = _completed(client, ask, seen, {**given, "messages": messages})
    while message.tool_calls:
        messages += [message, *map(tool_message, message.tool_calls)]
        message = _completed(client, ask, seen, {**given, "messages": messages})
    messages.append({"role": "assistant", "content": message.content})
    seen.texts.append(message.content)
    seen.value = message.parsed.model_dump() if ask.structured else None


def _completed(client: openai.OpenAI, ask: Ask, seen: Seen, given: dict[str, Any]) -> Any:
    completions = client.chat.completions
    if ask.structured:
        raw = completions.with_raw_response.parse(**given, response_format=Weather)
    elif ask.stream:
        with completions.stream(**given) as stream:
            seen.pieces = sum(event.type == "content.delta" for event in stream)
            seen.ids.append(id_in(stream._response.headers))
            return stream.get_final_completion().choices[0].message
    else:
        raw = completions.with_raw_response.create(**given)
    seen.ids.append(id_in(raw.headers))
    return raw.parse().choices[0].message


def tool_message(call: Any) -> dict[str, Any]:
    arguments = json.loads(call.function.arguments)
    return {"role": "tool", "tool_call_id": call.id, "content": weather_in(**arguments)}


def _respond(
    client: openai.OpenAI, ask: Ask, seen: Seen, items: list[Any], kept: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"model": MODEL, "extra_headers": ask.headers}
    if ask.tools:
        given["tools"] = [{"type": "function", **FUNCTION}]
    if ask.background:
        given["background"] = True
    while True:
        response = _responded(client, ask, seen, {**given, **kept, "input": items})
        if ask.via:  # the server has all of that
            items.clear()
        else:
            items += response.output
        if ask.via == "previous_response_id":
            kept["previous_response_id"] = response.id
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            break
        items += map(output_item, calls)
    seen.texts.append(response.output_text)
    seen.value = response.output_parsed.model_dump() if ask.structured else None


def _responded(client: openai.OpenAI, ask: Ask, seen: Seen, given: dict[str, Any]) -> Any:
    responses = client.responses
    raw: Any
    if ask.structured:
        raw = responses.with_raw_response.parse(**given, text_format=Weather)
    elif ask.stream:
        with responses.stream(**given) as stream:
            seen.pieces = sum(event.type == "response.output_text.delta" for event in stream)
            seen.ids.append(id_in(stream._response.headers))
            streamed = stream.get_final_response()
        return _followed(client, streamed) if ask.background else streamed
    else:
        raw = responses.with_raw_response.create(**given)
    seen.ids.append(id_in(raw.headers))
    response = raw.parse()
    while response.status in ("queued", "in_progress"):
        response = responses.retrieve(response.id)
    return response


def _followed(client: openai.OpenAI, response: Any) -> Any:
    """Follow a response that is made in the background again, from its third event on."""
    with client.responses.stream(response_id=response.id, starting_after=2) as stream:
        numbers = [event.sequence_number for event in stream]
        assert numbers[0] == 3
        return stream.get_final_response()


def output_item(call: Any) -> dict[str, Any]:
    output = weather_in(**json.loads(call.arguments))
    return {"type": "function_call_output", "call_id": call.call_id, "output": output}


if __name__ == "__main__":
    serve(f"openai {openai.__version__}", drive)
