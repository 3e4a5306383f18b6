"""One conversation that goes back and forth between pydantic-ai and ADK."""

from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.genai import types
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hermes_session_mw import HermesSession, MemoryStore, SQLAlchemyStore
from hermes_session_mw.adapters.google_adk import StoredSessionService
from hermes_session_mw.adapters.pydantic_ai import StoredConversations


def look(where: str) -> str:
    """Look somewhere."""
    return f"a cat {where}"


async def by_pydantic_ai(conversations: StoredConversations, question: str) -> str:
    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse(parts=[TextPart(f"{last.content}, {len(messages)}")])
        return ModelResponse(parts=[ToolCallPart("look", {"where": "here"}, f"p{len(messages)}")])

    agent = Agent(FunctionModel(reply), tools=[look])
    conversation = await conversations.load("s1") or Conversation(conversation_id="s1")
    result = await agent.run(question, conversation=conversation)
    await conversations.save(result)
    return str(result.output)


class Model(BaseLlm):
    """A model that calls a function, and then says how much it was given."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        contents = llm_request.contents
        last = contents[-1].parts[-1].function_response
        call = types.FunctionCall(name="look", args={"where": "there"})
        part = types.Part(function_call=call)
        if last is not None:
            part = types.Part(text=f"{last.response['result']}, {len(contents)}")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def by_adk(service: StoredSessionService, question: str) -> str:
    agent = LlmAgent(name="agent", model=Model(model="mock"), tools=[look], output_key="last")
    runner = Runner(app_name="shop", agent=agent, session_service=service)
    content = types.Content(role="user", parts=[types.Part(text=question)])
    run = runner.run_async(user_id="alice", session_id="s1", new_message=content)
    events = [event async for event in run]
    return str(events[-1].content.parts[0].text)


async def test_a_conversation_goes_back_and_forth(store: MemoryStore | SQLAlchemyStore) -> None:
    """Each framework's model is given what the other's was told, and each keeps its own state."""
    conversations = StoredConversations(store, "alice")
    service = StoredSessionService(store, "shop", agent_name="agent")
    assert await by_pydantic_ai(conversations, "one") == "a cat here, 3"
    assert await by_adk(service, "two") == "a cat there, 7"
    assert await by_pydantic_ai(conversations, "three") == "a cat here, 11"
    assert await by_adk(service, "four") == "a cat there, 15"
    session = HermesSession(store, "s1", owner="alice")
    await session.load()
    roles = [each["role"] for each in session.prompt()]
    assert roles == ["user", "assistant", "tool", "assistant"] * 4
    found = await service.get_session(app_name="shop", user_id="alice", session_id="s1")
    assert found is not None
    assert found.state == {"last": "a cat there, 15"}
    conversation = await conversations.load("s1")
    assert conversation is not None
    assert conversation.usage.requests == 4
    fork = await conversations.fork("s1", at=6)
    forked = await store.load(fork.conversation_id, "alice")
    assert [each["role"] for each in forked.messages][-2:] == ["user", "assistant"]
