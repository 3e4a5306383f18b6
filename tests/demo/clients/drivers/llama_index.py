"""LlamaIndex."""

from importlib.metadata import version
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses

from tests.demo.clients.drivers.protocol import Ask, Seen, Weather, serve, weather_in


def drive(ask: Ask, seen: Seen) -> None:
    kind = OpenAILike if ask.style == "chat" else OpenAILikeResponses
    llm: Any = kind(
        model="scripted",
        api_base=ask.url,
        api_key="unused",
        max_retries=0,
        default_headers=ask.headers,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        **({} if ask.style == "chat" else {"store": True}),  # which is False else
        **({"track_previous_responses": True} if ask.via else {}),
    )
    history: list[Any] = []
    for text in ask.texts:
        history = [*(history if ask.whole else []), _user(ask, text)]
        if ask.structured:
            answer = llm.as_structured_llm(Weather).chat(history)
            seen.value = answer.raw.model_dump()
        else:
            _turn(llm, ask, seen, history)


def _turn(llm: Any, ask: Ask, seen: Seen, history: list[Any]) -> None:
    """Ask until no more tools are called."""
    while calls := _answer(llm, ask, seen, history):
        for call in calls:
            told = weather_in(**call.tool_kwargs)
            about = {"tool_call_id": call.tool_id}
            history.append(ChatMessage(told, role=MessageRole.TOOL, additional_kwargs=about))
    seen.texts.append(history[-1].content)
    seen.ids.append(None)  # it shows no headers


def _answer(llm: Any, ask: Ask, seen: Seen, history: list[Any]) -> list[Any]:
    """Append an answer to the history, and return its calls."""
    tools = {"tools": [get_weather]} if ask.tools else {}
    if ask.stream:
        answer, seen.pieces = None, 0
        for answer in (llm.stream_chat_with_tools if tools else llm.stream_chat)(
            **tools, **{"chat_history" if tools else "messages": history}
        ):
            seen.pieces += bool(answer.delta)
    elif tools:
        answer = llm.chat_with_tools(**tools, chat_history=history)
    else:
        answer = llm.chat(history)
    assert answer is not None, "no answer"
    history.append(answer.message)
    return list(llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False))


def _user(ask: Ask, text: str) -> ChatMessage:
    blocks: list[Any] = [TextBlock(text=text)]
    if ask.picture:
        blocks.append(ImageBlock(url=ask.picture))
    return ChatMessage(role=MessageRole.USER, blocks=blocks)


def _get_weather(city: str) -> str:
    """Return the weather."""
    return weather_in(city)


get_weather = FunctionTool.from_defaults(_get_weather, name="get_weather")


if __name__ == "__main__":
    serve(f"llama-index-llms-openai-like {version('llama-index-llms-openai-like')}", drive)
