"""Who takes part in a conversation: each framework by its adapter, and an endpoint.

Each writes a turn in its own terms, inside a request, and reads in its own terms what is stored.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from agent_framework import Content as FrameworkContent
from agent_framework import Message as FrameworkMessage
from google.adk.events import Event
from google.genai import types
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from hermes_session_mw import HermesSession, MemoryStore, SQLAlchemyStore
from hermes_session_mw.adapters.agent_framework import StoredHistoryProvider
from hermes_session_mw.adapters.claude_agent import StoredSessionStore
from hermes_session_mw.adapters.google_adk import StoredSessionService
from hermes_session_mw.adapters.langgraph import StoredCheckpointer, stored_messages
from hermes_session_mw.adapters.llama_index import StoredChatStore
from hermes_session_mw.adapters.openai_agents import StoredSession
from hermes_session_mw.adapters.pydantic_ai import StoredConversations

AnyStore = MemoryStore | SQLAlchemyStore

OWNER = "alice"
ID = "5b2e3bd1-97d5-4a3e-8a6a-000000000001"  # Claude's are UUIDs
ADK: dict[str, Any] = {"app_name": "shop", "user_id": OWNER, "session_id": ID}
KEY: Any = {"project_key": "-srv-app", "session_id": ID}

Said = tuple[str, ...]
"""A question, a call, an output or an answer: which of them, and what is in it."""


def a_call(name: str, called: str, arguments: Any) -> Said:
    """Return a call with the arguments as they are, or as a text of JSON."""
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    return "call", called, name, json.dumps(given)


class Turn:
    """A question, an answer that calls a tool twice, the tool's outputs, and an answer."""

    def __init__(self, number: int) -> None:
        """Make a turn whose texts and ids no turn of another number has."""
        self.number = number
        self.question = f"Where are the cats of house {number}?"
        first, second = f"call_{number}_1", f"call_{number}_2"
        self.calls = [(first, "find", {"cat": "Tom"}), (second, "find", {"cat": "Kit"})]
        self.outputs = [(first, f"in room 1 of {number}"), (second, f"in room 2 of {number}")]
        self.answer = f"One is in each room of {number}."

    def said(self) -> list[Said]:
        """Return what a reader is to be given."""
        return [
            ("question", self.question),
            *(a_call(name, called, arguments) for called, name, arguments in self.calls),
            *(("output", called, text) for called, text in self.outputs),
            ("answer", self.answer),
        ]


class Participant(NamedTuple):
    """Who writes and reads.

    Attributes:
        name: as the page has it.
        write: stores a turn in a request's session.
        read: returns what is stored.
    """

    name: str
    write: Callable[[HermesSession, Turn], Awaitable[None]]
    read: Callable[[AnyStore], Awaitable[list[Said]]]


# OpenAI Agents SDK


async def write_openai(session: HermesSession, turn: Turn) -> None:
    part = {"type": "output_text", "text": turn.answer, "annotations": []}
    message = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    items: list[Any] = [{"role": "user", "content": turn.question}]
    for number, (called, name, arguments) in enumerate(turn.calls):
        call = {"type": "function_call", "id": f"fc_{number}", "call_id": called, "name": name}
        items.append({**call, "arguments": json.dumps(arguments), "status": "completed"})
    for called, text in turn.outputs:
        items.append({"type": "function_call_output", "call_id": called, "output": text})
    items.append({**message, "content": [part]})
    stored = StoredSession(session)
    for some in (items[:1], items[1:5], items[5:]):  # as a run stores them
        await stored.add_items(some)


async def read_openai(store: AnyStore) -> list[Said]:
    return [_openai(item) for item in await StoredSession(store, ID, OWNER).get_items()]


def _openai(item: Any) -> Said:
    match item.get("type"):
        case "function_call":
            return a_call(item["name"], item["call_id"], item["arguments"])
        case "function_call_output":
            return "output", item["call_id"], item["output"]
    content = item["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return {"user": "question", "assistant": "answer"}[item["role"]], text


# pydantic-ai


async def write_pydantic_ai(session: HermesSession, turn: Turn) -> None:
    calls = [ToolCallPart(name, arguments, called) for called, name, arguments in turn.calls]
    results = [ToolReturnPart("find", text, called) for called, text in turn.outputs]
    conversations = StoredConversations(session)
    conversation = await conversations.load(ID) or Conversation(conversation_id=ID)
    conversation.messages += [
        ModelRequest(parts=[UserPromptPart(turn.question)]),
        ModelResponse(parts=calls),
        ModelRequest(parts=results),
        ModelResponse(parts=[TextPart(turn.answer)]),
    ]
    await conversations.save(conversation)


async def read_pydantic_ai(store: AnyStore) -> list[Said]:
    conversation = await StoredConversations(store, OWNER).load(ID)
    assert conversation is not None
    return [_pydantic_ai(part) for message in conversation.messages for part in message.parts]


def _pydantic_ai(part: Any) -> Said:
    match part:
        case ToolCallPart():
            return a_call(part.tool_name, part.tool_call_id, part.args)
        case ToolReturnPart():
            assert part.tool_name == "find"
            return "output", part.tool_call_id, part.content
        case UserPromptPart():
            return "question", part.content
    return "answer", part.content


# Claude Agent SDK


def entry(turn: Turn, number: int, role: str, block: Any) -> Any:
    """Return a line of a transcript."""
    uuid = f"00000000-0000-4000-8000-{turn.number:06}{number:06}"
    message: dict[str, Any] = {"role": role, "content": [block]}
    if role == "assistant":
        message["id"] = f"msg_{turn.number}_{block['type']}"
    return {"type": role, "uuid": uuid, "sessionId": ID, "message": message}


async def write_claude(session: HermesSession, turn: Turn) -> None:
    uses = [
        {"type": "tool_use", "id": called, "name": name, "input": arguments}
        for called, name, arguments in turn.calls
    ]
    results = [
        {"type": "tool_result", "tool_use_id": called, "content": text}
        for called, text in turn.outputs
    ]
    lines = [
        entry(turn, 1, "user", {"type": "text", "text": turn.question}),
        *(entry(turn, 2 + number, "assistant", use) for number, use in enumerate(uses)),
        *(entry(turn, 4 + number, "user", result) for number, result in enumerate(results)),
        entry(turn, 6, "assistant", {"type": "text", "text": turn.answer}),
    ]
    await StoredSessionStore(session).append(KEY, lines)


async def read_claude(store: AnyStore) -> list[Said]:
    entries = await StoredSessionStore(store, owner=OWNER).load(KEY) or []
    return [said for each in entries for said in _claude(each["message"])]


def _claude(message: Any) -> Iterator[Said]:
    content = message["content"]
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        match block["type"]:
            case "tool_use":
                yield a_call(block["name"], block["id"], block["input"])
            case "tool_result":
                told = block["content"]
                text = told if isinstance(told, str) else "".join(each["text"] for each in told)
                yield "output", block["tool_use_id"], text
            case _:
                kind = "question" if message["role"] == "user" else "answer"
                yield kind, block["text"]


# Google ADK


async def write_adk(session: HermesSession, turn: Turn) -> None:
    service = StoredSessionService(session, "shop", agent_name="agent")
    own = await service.get_session(**ADK) or await service.create_session(**ADK)
    calls = [
        types.Part(function_call=types.FunctionCall(id=called, name=name, args=arguments))
        for called, name, arguments in turn.calls
    ]
    responses = [
        types.Part(
            function_response=types.FunctionResponse(
                id=called, name="find", response={"result": text}
            )
        )
        for called, text in turn.outputs
    ]
    for author, role, parts in (
        ("user", "user", [types.Part(text=turn.question)]),
        ("agent", "model", calls),
        ("agent", "user", responses),
        ("agent", "model", [types.Part(text=turn.answer)]),
    ):
        content = types.Content(role=role, parts=parts)
        await service.append_event(own, Event(author=author, content=content))


async def read_adk(store: AnyStore) -> list[Said]:
    service = StoredSessionService(store, "shop", agent_name="agent")
    session = await service.get_session(**ADK)
    assert session is not None
    contents = [event.content for event in session.events if event.content is not None]
    return [_adk(content.role, part) for content in contents for part in content.parts]


def _adk(role: str, part: Any) -> Said:
    if part.function_call is not None:
        call = part.function_call
        return a_call(call.name, call.id, call.args)
    if part.function_response is not None:
        assert part.function_response.name == "find"
        return "output", part.function_response.id, part.function_response.response["result"]
    return "question" if role == "user" else "answer", part.text


# Agent Framework


async def write_agent_framework(session: HermesSession, turn: Turn) -> None:
    calls = [
        FrameworkContent.from_function_call(called, name, arguments=arguments)
        for called, name, arguments in turn.calls
    ]
    results = [
        FrameworkContent.from_function_result(called, result=text) for called, text in turn.outputs
    ]
    await StoredHistoryProvider(session).save_messages(
        ID,
        [
            FrameworkMessage("user", [turn.question]),
            FrameworkMessage("assistant", calls),
            FrameworkMessage("tool", results),
            FrameworkMessage("assistant", [turn.answer]),
        ],
    )


async def read_agent_framework(store: AnyStore) -> list[Said]:
    messages = await StoredHistoryProvider(store, OWNER).get_messages(ID)
    return [_framework(message.role, each) for message in messages for each in message.contents]


def _framework(role: str, content: Any) -> Said:
    match content.type:
        case "function_call":
            return a_call(content.name, content.call_id, content.arguments)
        case "function_result":
            return "output", content.call_id, content.result
    return "question" if role == "user" else "answer", content.text


# LlamaIndex


async def write_llama_index(session: HermesSession, turn: Turn) -> None:
    calls = [
        ToolCallBlock(tool_call_id=called, tool_name=name, tool_kwargs=arguments)
        for called, name, arguments in turn.calls
    ]
    results = [
        ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": called})
        for called, text in turn.outputs
    ]
    await StoredChatStore(session).add_messages(
        ID,
        [
            ChatMessage(role="user", content=turn.question),
            ChatMessage(role="assistant", blocks=calls),
            *results,
            ChatMessage(role="assistant", content=turn.answer),
        ],
    )


async def read_llama_index(store: AnyStore) -> list[Said]:
    messages = await StoredChatStore(store, OWNER).get_messages(ID)
    return [_llama_index(message, block) for message in messages for block in message.blocks]


def _llama_index(message: ChatMessage, block: Any) -> Said:
    if isinstance(block, ToolCallBlock):
        return a_call(block.tool_name, block.tool_call_id, block.tool_kwargs)
    assert isinstance(block, TextBlock)
    role = message.role.value
    if role == "tool":
        return "output", message.additional_kwargs["tool_call_id"], block.text
    return {"user": "question", "assistant": "answer"}[role], block.text


# LangGraph


async def write_langgraph(session: HermesSession, turn: Turn) -> None:
    calls = [
        {"id": called, "name": name, "args": arguments, "type": "tool_call"}
        for called, name, arguments in turn.calls
    ]
    answers = [AIMessage("", tool_calls=calls), AIMessage(turn.answer)]
    results = [ToolMessage(text, tool_call_id=called) for called, text in turn.outputs]
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda _: {"messages": [answers.pop(0)]})
    builder.add_node("tools", lambda _: {"messages": results})
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", lambda _: "tools" if answers else END)
    builder.add_edge("tools", "model")
    graph = builder.compile(checkpointer=StoredCheckpointer(session))
    config: Any = {"configurable": {"thread_id": ID}}
    await graph.ainvoke({"messages": [HumanMessage(turn.question)]}, config)


async def read_langgraph(store: AnyStore) -> list[Said]:
    messages = await stored_messages(store, ID, OWNER)
    return [said for message in messages for said in _langgraph(message)]


def _langgraph(message: BaseMessage) -> Iterator[Said]:
    if isinstance(message, ToolMessage):
        yield "output", message.tool_call_id, message.text
        return
    if message.text:
        yield "question" if isinstance(message, HumanMessage) else "answer", message.text
    for call in getattr(message, "tool_calls", []):
        yield a_call(call["name"], call["id"], call["args"])


# An endpoint


async def write_endpoint(session: HermesSession, turn: Turn) -> None:
    calls = [
        {
            "id": called,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for called, name, arguments in turn.calls
    ]
    await session.append(
        {"role": "user", "content": turn.question},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *(
            {"role": "tool", "tool_call_id": called, "content": text}
            for called, text in turn.outputs
        ),
        {"role": "assistant", "content": turn.answer},
    )


async def read_endpoint(store: AnyStore) -> list[Said]:
    session = HermesSession(store, ID, owner=OWNER)
    await session.load()
    return list(_chat(session.prompt()))


def _chat(messages: Sequence[Any]) -> Iterator[Said]:
    for message in messages:
        if message["role"] == "tool":
            yield "output", message["tool_call_id"], message["content"]
            continue
        if message["content"]:
            yield "question" if message["role"] == "user" else "answer", message["content"]
        for call in message.get("tool_calls", []):
            yield a_call(call["function"]["name"], call["id"], call["function"]["arguments"])


PARTICIPANTS = [
    Participant("OpenAI Agents SDK", write_openai, read_openai),
    Participant("pydantic-ai", write_pydantic_ai, read_pydantic_ai),
    Participant("Claude Agent SDK", write_claude, read_claude),
    Participant("Google ADK", write_adk, read_adk),
    Participant("Agent Framework", write_agent_framework, read_agent_framework),
    Participant("LlamaIndex", write_llama_index, read_llama_index),
    Participant("LangGraph", write_langgraph, read_langgraph),
    Participant("an endpoint", write_endpoint, read_endpoint),
]
