"""The OpenAI Agents SDK over a store of ours."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    Session,
    SessionSettings,
    Usage,
    function_tool,
)
from agents.extensions.memory import EncryptedSession
from agents.memory import OpenAIResponsesCompactionSession
from agents.models.chatcmpl_converter import Converter
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from hermes_session_mw import (
    HermesSession,
    InvalidMessage,
    MemoryStore,
    OwnerRequired,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.adapters.chat_messages import chat_messages, store_item
from hermes_session_mw.adapters.openai_agents import StoredSession
from hermes_session_mw.session.prompts import prompt_of

Item = Any
Store = MemoryStore | SQLAlchemyStore


def user(text: str) -> Item:
    return {"role": "user", "content": text}


def said(text: str, number: int = 1) -> Item:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    fields = {"id": f"msg_{number}", "type": "message", "status": "completed"}
    return {**fields, "role": "assistant", "content": [part]}


def call(number: int) -> Item:
    names = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": "look"}
    return {"type": "function_call", **names, "arguments": "{}", "status": "completed"}


def output(number: int, text: Any = "5") -> Item:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": text}


def chat_call(number: int) -> Item:
    function = {"name": "look", "arguments": "{}"}
    return {"id": f"call_{number}", "type": "function", "function": function}


PAGE = Path(__file__).parents[3] / "docs" / "adapters" / "openai-agents.md"
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
HOSTED = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}}
CUSTOM = {"type": "custom_tool_call", "id": "ct_1", "call_id": "c1", "name": "sql", "input": "x"}
CUSTOM_OUTPUT = {"type": "custom_tool_call_output", "call_id": "c1", "output": "rows"}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}
TEXT = {"type": "input_text", "text": "What is this?"}
ITEMS: list[Item] = [
    user("Hi"),
    user(""),
    said("Hello"),
    {"role": "assistant", "content": "plain"},
    {"role": "assistant", "content": ""},
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [TEXT, PICTURE]},
    {"role": "user", "content": [TEXT, {"type": "input_file", "file_url": "https://a.example/b"}]},
    {"role": "user", "content": "x", "hermes_item": {"format": "openai_agents", "item": 1}},
    REASONING,
    HOSTED,
    call(1),
    {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
    output(1, [TEXT, PICTURE]),
    output(2, "half a pair: \ud83d"),
    CUSTOM,
    CUSTOM_OUTPUT,
    {
        "type": "mcp_approval_request",
        "id": "m",
        "name": "n",
        "arguments": "{}",
        "server_label": "l",
    },
    {"type": "compaction", "id": "cmp", "encrypted_content": "gAAA"},
    {"role": "user", "content": "NUL \0 and \ud800", "number": 2**70, "odd": [math.inf, b"\xff"]},
    {"__enc__": 1, "v": 1, "kid": "k", "payload": "p"},
    {"role": "strange", "content": 5, "hermes_escaped": ["text", "x"]},
]


class ScriptedModel(Model):
    """A model that gives one list of outputs after the other, and notes what it was given."""

    def __init__(self, *answers: Any, wait: Callable[[], Any] | None = None) -> None:
        self.given: list[list[Item]] = []
        self._answers = list(answers)
        self._wait = wait

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        self.given.append(list(args[1] if len(args) > 1 else options["input"]))
        if self._wait is not None:
            await self._wait()
        return ModelResponse(output=self._answers.pop(0), usage=Usage(), response_id="resp_1")

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


def answer(text: str) -> list[Any]:
    part = ResponseOutputText(text=text, type="output_text", annotations=[], logprobs=[])
    return [ResponseOutputMessage.model_validate({**said(text), "content": [part]})]


def calls(*numbers: int) -> list[Any]:
    return [ResponseFunctionToolCall(**call(number)) for number in numbers]


@function_tool
def look() -> str:
    """Look."""
    return "5"


async def test_every_item_comes_back_as_it_was(store: Store) -> None:
    """Items are equal, in one add or in one for each, and after the other's conversation."""
    session = StoredSession(store, "a")
    await session.add_items(ITEMS)
    assert await session.get_items() == ITEMS
    for item in ITEMS:
        await session.add_items([item])
    await session.add_items([])
    assert await session.get_items() == [*ITEMS, *ITEMS]
    assert await StoredSession(store, "b").get_items() == []
    with pytest.raises(InvalidMessage):
        await session.add_items([{"role": "user", "content": object()}])


def chat_answer(content: str | None, *numbers: int) -> Item:
    tool_calls = {"tool_calls": [chat_call(number) for number in numbers]} if numbers else {}
    return {"role": "assistant", "content": content, **tool_calls}


def result(number: int) -> Item:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": "5"}


@pytest.mark.parametrize(
    ("items", "chat"),
    [
        ([user("q"), said("a")], [user("q"), chat_answer("a")]),
        (
            [user("q"), REASONING, call(1), call(2), output(1), output(2), said("a")],
            [user("q"), chat_answer(None, 1, 2), result(1), result(2), chat_answer("a")],
        ),
        (
            [said("a"), call(1), output(1), call(2), output(2), said("b")],
            [chat_answer("a", 1), result(1), chat_answer(None, 2), result(2), chat_answer("b")],
        ),
        ([call(1), said("a"), output(1)], [chat_answer("a", 1), result(1)]),
        ([HOSTED, said("a"), REASONING, said("b")], [chat_answer("a"), chat_answer("b")]),
        (
            [CUSTOM, CUSTOM_OUTPUT],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "x"}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "rows"},
            ],
        ),
        (
            [{"role": "user", "content": [TEXT, {"type": "input_image", "file_id": "f"}]}],
            [user("What is this?")],
        ),
        ([output(1, "\ud83d")], [result(1) | {"content": "\ufffd"}]),
    ],
)
async def test_others_read_a_chat(items: list[Item], chat: list[Item]) -> None:
    """Each item is a message, and what has a chat form is one that a model accepts."""
    store = MemoryStore()
    await StoredSession(store, "a").add_items(items)
    history = await store.load("a")
    assert history.length == len(items)
    assert chat_messages(history.messages) == chat
    if chat[0]["role"] != "tool":
        assert prompt_of(history.messages) == chat


CHAT: list[Item] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "name": "ann", "content": [{"type": "text", "text": "Two things."}]},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
            {"type": "video_url", "video_url": {}},
        ],
    },
    {**chat_answer("Let me see.", 1, 2), "reasoning_content": "Hm."},
    result(1),
    result(2),
    store_item("other", {"hidden": 1}),
    store_item("other", {"shown": 1}, chat_answer("It is 5.")),
    {"role": "assistant", "content": None, "refusal": "I won't."},
    {"note": "of another shape"},
    {"role": "assistant", "content": "", "status": "incomplete"},
]
READ: list[Item] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "input_text", "text": "Two things."}]},
    {
        "role": "user",
        "content": [
            {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "auto"}
        ],
    },
    {"role": "assistant", "content": "Let me see."},
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
    {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
    output(1),
    output(2),
    {"role": "assistant", "content": "It is 5."},
    {"role": "assistant", "content": "I won't."},
]


async def test_a_chat_of_others_is_read(store: Store) -> None:
    """Messages of endpoints and other frameworks are items that the SDK's models accept."""
    await store.append("a", CHAT)
    session = StoredSession(store, "a")
    assert await session.get_items() == READ
    converted = Converter.items_to_messages(READ)
    assert [each["role"] for each in converted][3:7] == ["assistant"] * 2 + ["tool"] * 2
    model = ScriptedModel(answer("Fine."))
    await Runner.run(Agent(name="a", model=model), "And now?", session=session)
    assert model.given == [[*READ, user("And now?")]]


async def test_limits_count_items(store: Store) -> None:
    """A limit is that many of the newest items, whatever messages they are in."""
    await store.append("a", [*CHAT, *[store_item("other", n) for n in range(5)]])
    session = StoredSession(store, "a", session_settings=SessionSettings(limit=3))
    for limit in range(len(READ) + 2):
        assert await session.get_items(limit) == (READ[-limit:] if limit else [])
    assert await session.get_items() == READ[-3:]
    assert await session.get_items(-1) == READ


async def test_items_are_popped_one_by_one(store: Store) -> None:
    """Each pop takes one item, also out of a message with several, and leaves others' items."""
    await store.append("a", CHAT)
    session = StoredSession(store, "a")
    await session.add_items([user("q"), call(3)])
    popped = [await session.pop_item() for _ in range(len(READ) + 3)]
    assert popped == [call(3), user("q"), *reversed(READ), None]
    history = await store.load("a")
    assert not chat_messages([each for each in history.messages if "role" in each][:-1])
    assert store_item("other", {"hidden": 1}) in history.messages
    await session.add_items([user("again")])
    assert await session.get_items() == [user("again")]


async def test_two_pops_never_return_the_same(store: Store) -> None:
    """Pops at once take different items, and an append between them is kept."""
    sessions = [StoredSession(store, "a"), StoredSession(store, "a")]
    await store.append("a", [chat_answer("t", *range(4))])
    await sessions[0].add_items([user(str(number)) for number in range(6)])
    async with asyncio.TaskGroup() as tasks:
        popping = [tasks.create_task(sessions[at % 2].pop_item()) for at in range(8)]
        tasks.create_task(sessions[0].add_items([user("new")]))
    left = await sessions[0].get_items()
    popped = [task.result() for task in popping]
    every = [chat_answer("t"), *(user(str(number)) for number in range(6)), user("new")]
    every += [{"type": "function_call", "call_id": f"call_{n}", "name": "look"} for n in range(4)]
    names = [item.get("call_id") or item["content"] for item in [*popped, *left]]
    assert sorted(names) == sorted(item.get("call_id") or item["content"] for item in every)


async def test_a_cleared_session_is_used_again(store: Store) -> None:
    """Nothing remains of it, not in the archive either; another owner's is another session."""
    session = StoredSession(store, "a", "ann")
    other = StoredSession(store, "a", "bob")
    await session.add_items([user("q"), said("a")])
    await session.pop_item()
    assert await other.get_items() == []
    await other.clear_session()
    assert await other.pop_item() is None
    await session.clear_session()
    assert (await session.get_items(), await store.archived("a", "ann")) == ([], [])
    await session.add_items([user("q2")])
    assert await session.get_items() == [user("q2")]


async def test_items_that_are_added_at_once_are_not_mixed(store: Store) -> None:
    """What one call adds stands together."""
    sessions = [StoredSession(store, "a") for _ in range(2)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            both = [user(str(number)), said(str(number))]
            tasks.create_task(sessions[number % 2].add_items(both))
    items = await sessions[0].get_items()
    assert len(items) == 40
    pairs = zip(items[::2], items[1::2], strict=True)
    assert all(each["content"] == other["content"][0]["text"] for each, other in pairs)


async def test_a_cancelled_add_is_whole(tmp_path: Path) -> None:
    """A run that is cancelled while it stores has stored when the cancellation is raised."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/cancelled.db")
    session = StoredSession(store, "a")
    await session.add_items([user("q")])
    task = asyncio.create_task(session.add_items([said("a")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await session.get_items() == [user("q"), said("a")]
    await store.aclose()


async def test_runs_continue_a_conversation(store: Store) -> None:
    """A run with parallel tool calls is given back whole, to the SDK and to a chat endpoint."""
    model = ScriptedModel(calls(1, 2), answer("It is 5."), answer("Yes."))
    agent = Agent(name="a", model=model, tools=[look])
    session = StoredSession(store, "a")
    assert isinstance(session, Session)
    await Runner.run(agent, "What is it?", session=session)
    await Runner.run(agent, "Sure?", session=session)
    assert len(model.given[-1]) == 7
    request = HermesSession(store, "a")
    await request.load()
    assert request.prompt() == [
        user("What is it?"),
        chat_answer(None, 1, 2),
        result(1),
        result(2),
        chat_answer("It is 5."),
        user("Sure?"),
        chat_answer("Yes."),
    ]


async def test_a_request_brings_owner_key_and_lease(store: Store) -> None:
    """Inside a request its session counts, and a run that lost the turn stores nothing more."""
    request = HermesSession(store, "a", owner="ann", idempotency_key="k")
    session = StoredSession(request)
    agent = Agent(name="a", model=ScriptedModel(answer("Hello.")))
    async with request.turn() as turn:
        await Runner.run(agent, "Hi", session=session)
        found = await store.find_turn("a", "k", "ann")
        assert found is not None
        assert found.messages == [user("Hi")]
        await store.release("a", turn.fence or 0, "ann")
        await store.acquire("a", 60, "ann")
        for work in (session.add_items([user("q")]), session.pop_item(), session.clear_session()):
            with pytest.raises(TurnLost):
                await work
    assert len(await StoredSession(store, "a", "ann").get_items()) == 2
    with pytest.raises(OwnerRequired):
        await StoredSession(HermesSession(store, "a", owner=None)).get_items()


SUMMARY = {"type": "compaction", "id": "cmp", "encrypted_content": "gAAA"}


def compacting(session: Session, while_waiting: Any = None) -> OpenAIResponsesCompactionSession:
    """Return a session that compacts after each run; another writes while it waits for that."""

    async def compact(**_: Any) -> Any:
        if while_waiting is not None:
            await while_waiting()
        return SimpleNamespace(output=[SUMMARY])

    client = MagicMock()
    client.responses.compact = AsyncMock(side_effect=compact)
    return OpenAIResponsesCompactionSession(
        "a",
        session,
        client=client,
        compaction_mode="input",
        should_trigger_compaction=lambda _: True,
    )


async def test_a_conversation_is_compacted_in_one_step(store: Store) -> None:
    """Only the end that the model has seen is replaced, and what is replaced is archived."""
    session = StoredSession(store, "a")
    await session.add_items([user("old"), said("older")])
    model = ScriptedModel(answer("Yes."))
    config = RunConfig(session_settings=SessionSettings(limit=1))
    agent = Agent(name="a", model=model)
    await Runner.run(agent, "Sure?", session=compacting(session), run_config=config)
    assert await session.get_items() == [user("old"), said("older"), SUMMARY]
    assert len(await store.archived("a")) == 2


async def test_a_compaction_gives_way_to_what_is_new(store: Store) -> None:
    """A run's own compaction is dropped if another has written meanwhile."""
    session = StoredSession(store, "a")
    newer = StoredSession(store, "a")
    waiting = compacting(session, lambda: newer.add_items([user("newer")]))
    model = ScriptedModel(answer("Yes."))
    await Runner.run(Agent(name="a", model=model), "Sure?", session=waiting)
    assert len(await session.get_items()) == 3
    assert (await session.get_items())[-1] == user("newer")


async def test_a_derived_class_is_compacted_through_its_own_methods(store: Store) -> None:
    """A class that changes items on their way is not passed by, and is given the run's context."""
    contexts: list[Any] = []

    class Loud(StoredSession):
        async def add_items(self, items: list[Item], *, wrapper: Any = None) -> None:
            contexts.append(wrapper and wrapper.context)
            await super().add_items([{**item, "loud": True} for item in items])

    session = Loud(store, "a")
    model = ScriptedModel(answer("Yes."))
    await Runner.run(Agent(name="a", model=model), "Hi", session=session, context="mine")
    assert contexts == ["mine", "mine"]
    await compacting(session).run_compaction({"force": True})
    assert await session.get_items() == [{**SUMMARY, "loud": True}]


async def test_part_of_a_message_is_compacted(store: Store) -> None:
    """A suffix may begin in another framework's message, whose other items stay."""
    await store.append("a", [chat_answer("t", 1, 2), result(1), result(2)])
    session = StoredSession(store, "a")
    items = await session.get_items()
    snapshot = await session._get_compaction_snapshot(4)
    assert snapshot is not None
    assert (snapshot.items, snapshot.complete) == (items, True)
    assert not await snapshot.replace_suffix(5, [])
    assert await snapshot.replace_suffix(2, [SUMMARY])
    assert await session.get_items() == [*items[:2], SUMMARY]
    assert not await snapshot.replace_suffix(1, [])


async def test_an_encrypted_session_expires(store: Store) -> None:
    """The SDK's encryption works over it, and its compaction removes what has expired."""
    clear = StoredSession(store, "a")
    session = EncryptedSession("a", clear, encryption_key="synthetic", ttl=60)
    await session.add_items([user("q"), said("a")])
    assert await session.get_items(1) == [said("a")]
    assert "content" not in str((await store.load("a")).messages)
    assert await session.pop_item() == said("a")
    snapshot = await clear._get_compaction_snapshot(1, prune_prefix=lambda _: False)
    assert snapshot is not None
    await session.add_items([user("q2")])
    snapshot = await clear._get_compaction_snapshot(1, prune_prefix=lambda item: "v" in item)
    assert snapshot is not None
    assert await snapshot.replace_suffix(0, [SUMMARY])
    assert await clear.get_items() == [SUMMARY]


def test_the_page_runs() -> None:
    """The program on the docs page runs."""
    code = PAGE.read_text().split("```python conversation.py\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
