"""LangChain for Python."""

from importlib.metadata import version
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.demo.clients.drivers.protocol import Ask, Seen, Weather, id_in, serve, weather_in


@tool
def get_weather(city: str) -> str:
    """Return the weather."""
    return weather_in(city)


def drive(ask: Ask, seen: Seen) -> None:
    llm: Any = ChatOpenAI(
        model="scripted",
        base_url=ask.url,
        api_key="unused",
        max_retries=0,
        default_headers=ask.headers,
        include_response_headers=True,
        use_responses_api=ask.style == "responses",
        use_previous_response_id=bool(ask.via),  # of its own history's last answer
    )
    if ask.structured:
        seen.value = llm.with_structured_output(Weather).invoke(ask.texts[0]).model_dump()
        return
    if ask.tools:
        llm = llm.bind_tools([get_weather])
    if ask.background:
        llm = llm.bind(background=True)
    history: list[Any] = []
    for text in ask.texts:
        history = [*(history if ask.whole or ask.via else []), _user(ask, text)]
        _turn(llm, ask, seen, history)


def _turn(llm: Any, ask: Ask, seen: Seen, history: list[Any]) -> None:
    """Ask until no more tools are called."""
    history.append(_answer(llm, ask, seen, history))
    while history[-1].tool_calls:
        history += map(_result, history[-1].tool_calls)
        history.append(_answer(llm, ask, seen, history))
    seen.texts.append(history[-1].text)


def _answer(llm: Any, ask: Ask, seen: Seen, history: list[Any]) -> Any:
    if ask.stream:
        chunks = list(llm.stream(history))
        answer = sum(chunks[1:], chunks[0])
        seen.pieces = sum(bool(chunk.text) for chunk in chunks)
    else:
        answer = llm.invoke(history)
    seen.ids.append(id_in(answer.response_metadata.get("headers")))
    return answer


def _result(call: Any) -> ToolMessage:
    return ToolMessage(weather_in(**call["args"]), tool_call_id=call["id"])


def _user(ask: Ask, text: str) -> HumanMessage:
    if ask.picture is None:
        return HumanMessage(text)
    kind, _, data = ask.picture.removeprefix("data:").partition(";base64,")
    picture = {"type": "image", "base64": data, "mime_type": kind}
    return HumanMessage([{"type": "text", "text": text}, picture])


if __name__ == "__main__":
    serve(f"langchain-openai {version('langchain-openai')}", drive)
