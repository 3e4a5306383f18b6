"""`InMemoryConversationStore` of pydantic-ai, the only one that it has, and ours."""

import asyncio
from functools import partial
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import FunctionModel

from hermes_session_mw.adapters.pydantic_ai import StoredConversations
from tests.adapters.frameworks.own_stores.defect import Defect, plainly
from tests.adapters.frameworks.test_pydantic_ai import answer, ask, loaded, saved

SHAPES = {
    "user-prompt": "question",
    "tool-call": "call",
    "tool-return": "output",
    "text": "answer",
}


def shapes(messages: list[ModelMessage]) -> str:
    """Return what the messages are."""
    return ", ".join(SHAPES[message.parts[0].part_kind] for message in messages)


async def two_runs(store: ConversationStore) -> str:
    await saved(store, ask("q"))
    one, other = await loaded(store), await loaded(store)
    for each in (one, other):
        each.messages += [ask("q2"), answer("a2")]
    await store.save(one)
    try:
        await store.save(other)
    except ConversationConflict as exc:
        return f"`{type(exc).__name__}`, and nothing of it is stored"
    return "both are stored"


async def cancelled(store: ConversationStore) -> str:
    begun = asyncio.Event()

    def reply(messages: list[ModelMessage], info: Any) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("look", {}, "c1")])

    agent = Agent(FunctionModel(reply))

    @agent.tool_plain
    async def look() -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    async def run() -> None:
        conversation = Conversation(conversation_id="c")
        await store.save(await agent.run("q", conversation=conversation))

    running = asyncio.create_task(run())
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    found = await store.load("c")
    return "nothing" if found is None else shapes(found.messages)


CALLING = ModelResponse(parts=[ToolCallPart("look", {}, "c1")])
RETURNED = ModelRequest(parts=[ToolReturnPart("look", "5", "c1")])


async def limit(store: ConversationStore) -> str:
    await saved(store, ask("q"), CALLING, RETURNED, answer("a"))
    return shapes((await loaded(store, limit=2)).messages)


async def limit_in_a_run(store: ConversationStore) -> str:
    given: list[ModelMessage] = []

    def reply(messages: list[ModelMessage], info: Any) -> ModelResponse:
        given.extend(messages)
        return answer("a2")

    await saved(store, ask("q"), CALLING, RETURNED, answer("a"))
    few = await loaded(store, limit=2)
    await Agent(FunctionModel(reply)).run("q2", conversation=few)
    return shapes(given)


PydanticAI = partial(
    Defect,
    own=plainly(lambda folder: InMemoryConversationStore()),
    over=StoredConversations,
    framework="pydantic-ai, `InMemoryConversationStore`",
)
CONFLICT = "`ConversationConflict`, and nothing of it is stored"
DEFECTS = [
    PydanticAI(
        "two runs at once: the one that saves last", two_runs, theirs=CONFLICT, ours=CONFLICT
    ),
    PydanticAI("a run is cancelled in a tool", cancelled, theirs="nothing", ours="nothing"),
    PydanticAI(
        "the newest two messages of a question, a call, its output and an answer",
        limit,
        theirs="output, answer",
        ours="output, answer",
    ),
    PydanticAI(
        "what a model is given with that limit",
        limit_in_a_run,
        theirs="answer, question",
        ours="answer, question",
    ),
]
