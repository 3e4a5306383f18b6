"""What a store may hold that no framework has written: messages as clients send them."""

from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import pytest
from agent_framework import Content
from agent_framework import Message as FrameworkMessage
from google.adk.events import Event
from google.genai import types

from hermes_session_mw import InvalidMessage, MemoryStore
from hermes_session_mw.adapters.agent_framework import StoredHistoryProvider
from hermes_session_mw.adapters.google_adk import StoredSessionService
from tests.adapters.frameworks.participants import (
    ADK,
    ID,
    OWNER,
    PARTICIPANTS,
    Participant,
    a_call,
)

# Items of the other two are any objects.
FORMATS = ("pydantic_ai", "google_adk", "agent_framework", "llama_index", "langgraph")


def calling(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "I call.", "tool_calls": list(calls)}


def call(called: Any, arguments: Any, kind: str = "function") -> dict[str, Any]:
    given = "input" if kind == "custom" else "arguments"
    return {"id": called, "type": kind, kind: {"name": "find", given: arguments}}


def result(called: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": called, "content": "found"}


ODD: list[dict[str, Any]] = [
    {"role": "user", "content": 1},
    {**calling(), "tool_calls": 1},
    calling(1, {"id": "x"}, {"id": "x", "function": 1}, {"id": "x", "function": {"name": 1}}),
    calling(call(["x"], "{}")),
    result(["x"]),
    calling(call("c1", {"cat": "Tom"})),
    {**result("c1"), "name": 1},
    {"role": "assistant", "content": None, "refusal": {"text": "no"}, "model": 1},
]


@pytest.mark.parametrize("reader", PARTICIPANTS[:-1], ids=lambda each: each.name)
async def test_odd_messages_of_clients_are_read(reader: Participant) -> None:
    """What an endpoint has stored of a client's history, whatever it is, hides no other message.

    Arguments that are an object, as Ollama has them, are the call's.
    """
    store = MemoryStore()
    await store.append(ID, [*ODD, {"role": "user", "content": "Go on."}], OWNER)
    read = await reader.read(store)
    assert read[-1] == ("question", "Go on.")
    assert a_call("find", "c1", {"cat": "Tom"}) in read


@pytest.mark.parametrize("name", ["Claude Agent SDK", "Google ADK", "LangGraph"])
async def test_arguments_that_are_no_object_are_read(name: str) -> None:
    """Where a call has an object, any other text is its input, and the call stays with its result.

    So it is with an answer that broke off, and with the text that a custom tool is given.
    """
    (reader,) = (each for each in PARTICIPANTS if each.name == name)
    store, deep = MemoryStore(), "[" * 100_000
    texts = {"c1": "", "c2": '{"cat": "To', "c3": deep, "c4": "look"}
    kinds = ("function", "function", "function", "custom")
    calls = [call(*each, kind) for each, kind in zip(texts.items(), kinds, strict=True)]
    await store.append(ID, [calling(*calls), *map(result, texts)], OWNER)
    assert [said for said in await reader.read(store) if said[0] != "answer"] == [
        *(
            a_call("find", called, {"input": text} if text else {})
            for called, text in texts.items()
        ),
        *(("output", called, "found") for called in texts),
    ]


@pytest.mark.parametrize("reader", PARTICIPANTS[:-1], ids=lambda each: each.name)
@pytest.mark.parametrize("item", [1, {"id": "a"}, {"id": "a", "event": {"content": 1}}])
async def test_items_of_another_version_are_read_by_their_chat_form(
    reader: Participant, item: Any
) -> None:
    """An item that an adapter cannot read is the chat message beside it."""
    store = MemoryStore()
    await store.append(
        ID,
        [
            {"role": "user", "content": each, "hermes_item": {"format": each, "item": item}}
            for each in FORMATS
        ],
        OWNER,
    )
    assert await reader.read(store) == [("question", each) for each in FORMATS]


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


async def write_result(name: str, store: MemoryStore, value: Any) -> None:
    """Store the output of a tool that returns any value, and a call that was given it."""
    if name == "Google ADK":
        service = StoredSessionService(store, "shop")
        session = await service.create_session(**ADK)
        call = types.FunctionCall(id="c", name="f", args={"x": value})
        response = types.FunctionResponse(id="c", name="f", response={"x": value})
        parts = [types.Part(function_call=call), types.Part(function_response=response)]
        event = Event(author="shop", content=types.Content(role="model", parts=parts))
        await service.append_event(session, event)
        return
    contents = [
        Content.from_function_call("c", "f", arguments={"x": value}),
        Content.from_function_result("c", result="a text, as the framework makes of any"),
    ]
    message = FrameworkMessage("tool", contents, additional_properties={"x": value})
    await StoredHistoryProvider(store, OWNER).save_messages(ID, [message])


@pytest.mark.parametrize("name", ["Google ADK", "Agent Framework"])
async def test_what_tools_return_is_stored_or_refused(name: str) -> None:
    """A number or a key that JSON lacks is stored, and what nests too deep is an InvalidMessage."""
    for value in (10**5000, {(1, 2): datetime(2020, 1, 1, tzinfo=UTC)}, {date(2020, 1, 1): 1}):
        store = MemoryStore()
        with suppress(InvalidMessage):
            await write_result(name, store, value)
            assert (await store.load(ID, OWNER)).length > 0
    for depth in (200, 5000):
        with pytest.raises(InvalidMessage):
            await write_result(name, MemoryStore(), nested(depth))
