"""Pydantic AI."""

from importlib.metadata import version
from typing import Any

import openai
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.demo.clients.drivers.protocol import Ask, Seen, Weather, serve, weather_in


async def drive(ask: Ask, seen: Seen) -> None:
    kind = OpenAIChatModel if ask.style == "chat" else OpenAIResponsesModel
    async with openai.AsyncOpenAI(base_url=ask.url, api_key="unused", max_retries=0) as client:
        agent: Any = Agent(
            kind("scripted", provider=OpenAIProvider(openai_client=client)),
            output_type=NativeOutput(Weather) if ask.structured else str,
            tools=[get_weather] if ask.tools else [],
            model_settings={"extra_headers": ask.headers, **await _kept(ask, client)},
        )
        history: list[Any] = []
        for text in ask.texts:
            history = await _turn(agent, ask, seen, text, history if ask.whole or ask.via else [])


async def _kept(ask: Ask, client: openai.AsyncOpenAI) -> dict[str, Any]:
    if ask.background:
        return {"openai_background": True}
    if ask.via == "conversation":
        return {"openai_conversation_id": (await client.conversations.create()).id}
    return {"openai_previous_response_id": "auto"} if ask.via else {}


async def _turn(agent: Any, ask: Ask, seen: Seen, text: str, history: list[Any]) -> Any:
    """Ask, and return the history with the answer."""
    output: Any
    asked = [text, BinaryContent.from_data_uri(ask.picture)] if ask.picture else text
    if ask.stream:
        async with agent.run_stream(asked, message_history=history) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        seen.pieces, output = len(pieces), "".join(pieces)
    else:
        result = await agent.run(asked, message_history=history)
        output = result.output
    if ask.structured:
        seen.value = output.model_dump()
    seen.texts.append(str(output))
    seen.ids.append(None)  # it shows no headers
    return result.all_messages()


def get_weather(city: str) -> str:
    """Return the weather."""
    return weather_in(city)


if __name__ == "__main__":
    serve(f"pydantic-ai-slim {version('pydantic-ai-slim')}", drive)
