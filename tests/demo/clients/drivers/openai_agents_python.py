"""OpenAI's Agents SDK for Python."""

from importlib.metadata import version
from typing import Any

import agents
import openai

from tests.demo.clients.drivers.protocol import Ask, Seen, Weather, serve, weather_in

agents.set_tracing_disabled(disabled=True)


@agents.function_tool
def get_weather(city: str) -> str:
    """Return the weather."""
    return weather_in(city)


async def drive(ask: Ask, seen: Seen) -> None:
    client = openai.AsyncOpenAI(base_url=ask.url, api_key="unused", max_retries=0)
    kind = agents.OpenAIChatCompletionsModel if ask.style == "chat" else agents.OpenAIResponsesModel
    agent = agents.Agent(
        name="A",
        model=kind("scripted", client),
        model_settings=agents.ModelSettings(
            extra_headers=ask.headers, extra_args={"background": True} if ask.background else None
        ),
        tools=[get_weather] if ask.tools else [],
        output_type=Weather if ask.structured else None,
    )
    options: dict[str, Any] = {}
    if ask.via == "session":
        options["session"] = agents.OpenAIConversationsSession(openai_client=client)
    elif ask.via == "conversation":
        options["conversation_id"] = (await client.conversations.create()).id
    async with client:
        await _talk(agent, ask, seen, options)


async def _talk(agent: Any, ask: Ask, seen: Seen, options: dict[str, Any]) -> None:
    history: list[Any] = []
    for text in ask.texts:
        asked: Any = text if ask.via else [*(history if ask.whole else []), _user(ask, text)]
        if ask.stream:
            result = agents.Runner.run_streamed(agent, asked, **options)
            seen.pieces = 0
            async for event in result.stream_events():
                seen.pieces += getattr(getattr(event, "data", None), "type", "").endswith(
                    "_text.delta"
                )
        else:
            result = await agents.Runner.run(agent, asked, **options)
        history = result.to_input_list()
        if ask.via == "previous_response_id":
            options["previous_response_id"] = result.last_response_id
        if ask.structured:
            seen.value = result.final_output.model_dump()
        seen.texts.append(str(result.final_output))
        seen.ids.append(None)  # it shows no headers
    if ask.via == "session":
        seen.value = len(await options["session"].get_items())


def _user(ask: Ask, text: str) -> dict[str, Any]:
    if ask.picture is None:
        return {"role": "user", "content": text}
    picture = {"type": "input_image", "image_url": ask.picture, "detail": "auto"}
    return {"role": "user", "content": [{"type": "input_text", "text": text}, picture]}


if __name__ == "__main__":
    serve(f"openai-agents {version('openai-agents')}", drive)
