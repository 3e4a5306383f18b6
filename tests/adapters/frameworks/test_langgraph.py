"""`StoredCheckpointer`, beside LangGraph itself and its own savers."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from hermes_session_mw import (
    ConfigurationError,
    HermesSession,
    MemoryStore,
    NotSupported,
    SessionConflict,
    SQLAlchemyStore,
    StoreUnavailable,
    TurnLost,
)
from hermes_session_mw.adapters.chat_messages import chat_messages
from hermes_session_mw.adapters.langgraph import StoredCheckpointer, stored_messages
from hermes_session_mw.messages import Message
from tests.support.no_threads import refuse_threads

AnyStore = MemoryStore | SQLAlchemyStore

DOCS = Path(__file__).parents[3] / "docs" / "adapters" / "langgraph.md"
CALL = {"name": "look", "args": {"at": "sky"}, "id": "c1", "type": "tool_call"}
THREAD: Any = {"configurable": {"thread_id": "t"}}


class Model:
    """A node that gives prepared answers, and keeps what it was asked."""

    def __init__(self, *answers: AIMessage | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[list[BaseMessage]] = []

    def __call__(self, state: Any) -> Any:
        self.asked.append(state["messages"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"messages": [answer]}


def answer(text: str) -> AIMessage:
    return AIMessage(text)


def graph_of(saver: Any, model: Any, tool: Any = None) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_edge(START, "model")
    if tool is None:
        builder.add_edge("model", END)
    else:
        builder.add_node("tool", tool)
        builder.add_conditional_edges(
            "model", lambda state: "tool" if state["messages"][-1].tool_calls else END
        )
        builder.add_edge("tool", "model")
    return builder.compile(checkpointer=saver)


def ask(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


async def chat(store: AnyStore, owner: str = "") -> list[Message]:
    return chat_messages((await store.load("t", owner)).messages)


def said(messages: list[Message]) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in messages]


@asynccontextmanager
async def opened(place: str, folder: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """Give LangGraph's own saver, or one over each of our stores."""
    if place == "theirs":
        async with AsyncSqliteSaver.from_conn_string(str(folder / "theirs.db")) as own:
            yield own
        return
    url = f"sqlite:///{folder}/ours.db"
    store = MemoryStore() if place == "memory" else SQLAlchemyStore(url)
    yield StoredCheckpointer(store)
    await store.aclose()


@pytest.mark.parametrize("place", ["theirs", "memory", "sqlite"])
async def test_langgraphs_conformance_suite(
    place: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Every test of langgraph-checkpoint-conformance passes, those of the optional methods too."""

    @checkpointer_test(name=place)
    async def saver() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        async with opened(place, tmp_path) as saver:
            yield saver

    results = (await validate(saver)).results
    passed, failed, skipped = (
        sum(getattr(each, f"tests_{outcome}") for each in results.values())
        for outcome in ("passed", "failed", "skipped")
    )
    counted = {name: each.tests_passed for name, each in results.items() if each.tests_passed}
    parts = ", ".join(f"{name} {count}" for name, count in counted.items())
    told = {"place": place, "passed": passed, "failed": failed, "skipped": skipped, "parts": parts}
    for name, value in told.items():
        record_property(name, value)
    assert [each.failures for each in results.values() if each.failures] == []
    assert place == "theirs" or (passed, skipped) == (81, 0)


async def test_a_conversation_is_the_sessions_too(store: AnyStore) -> None:
    """Whole answers are appended with what led to them, once, in the chat form and exactly."""
    calls = AIMessage("", tool_calls=[CALL])
    model = Model(calls, answer("Blue."), answer("Yes."))
    result = ToolMessage("blue", tool_call_id="c1", artifact={1: [2, b"\xff"]})
    graph = graph_of(
        StoredCheckpointer(store, "anna"), model, lambda _: {"messages": [result.model_copy()]}
    )
    await graph.ainvoke(ask("Which colour?"), THREAD)
    state = await graph.ainvoke(ask("Sure?"), THREAD)
    history = await store.load("t", "anna")
    plain = chat_messages(history.messages)
    roles = ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [each["role"] for each in plain] == roles
    assert plain[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": "sky"}'}
    assert plain[2]["tool_call_id"] == "c1"
    assert await stored_messages(store, "t", "anna") == state["messages"]
    assert (await store.load("t")).messages == []
    assert await StoredCheckpointer(store).aget_tuple(THREAD) is None


async def test_a_graph_begins_over_a_session_with_messages(store: AnyStore) -> None:
    """Its input may have the session's messages, which are not stored twice."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    await store.append("t", [{"role": "system", "content": "Be kind."}])
    await store.append(
        "t",
        [
            {"role": "user", "content": "Hello", "name": "Ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "sky"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": [{"type": "text", "text": "And?"}]},
            {"role": "assistant", "content": None, "tool_calls": [{**call, "id": "c2"}]},
            {"hermes_item": {"format": "another", "item": {}}},
        ],
    )
    model = Model(answer("Fine."))
    graph = graph_of(StoredCheckpointer(store), model)
    before = await stored_messages(store, "t")
    assert [type(each) for each in before] == [
        *(SystemMessage, HumanMessage, AIMessage, ToolMessage, AIMessage, HumanMessage)
    ]
    await graph.ainvoke({"messages": [*before, HumanMessage("How are you?")]}, THREAD)
    assert model.asked[0][:6] == before
    assert said(await chat(store))[-2:] == [("user", "How are you?"), ("assistant", "Fine.")]
    assert (await store.load("t")).length == 10


async def test_a_run_that_fails_stores_its_question_with_the_next_answer(store: AnyStore) -> None:
    """No question is in the history without its answer; the graph's own state has it."""
    graph = graph_of(StoredCheckpointer(store), Model(OSError("no"), answer("A2")))
    with pytest.raises(OSError, match="no"):
        await graph.ainvoke(ask("Q1"), THREAD)
    assert await chat(store) == []
    await graph.ainvoke(ask("Q2"), THREAD)
    assert said(await chat(store)) == [("user", "Q1"), ("user", "Q2"), ("assistant", "A2")]


async def test_a_shortened_state_takes_nothing_from_the_history(store: AnyStore) -> None:
    """Messages that a graph removes stay in the session, and its summary is stored once."""
    graph = graph_of(StoredCheckpointer(store), Model(answer("A1"), answer("A2")))
    await graph.ainvoke(ask("Q1"), THREAD)
    state = await graph.aget_state(THREAD)
    assert len(state.values["messages"]) == 2
    removed = [RemoveMessage(id=each.id) for each in state.values["messages"]]
    await graph.aupdate_state(THREAD, {"messages": [*removed, SystemMessage("S", id="s")]})
    await graph.ainvoke(ask("Q2"), THREAD)
    assert [content for _, content in said(await chat(store))] == ["Q1", "A1", "S", "Q2", "A2"]


async def test_inside_a_request_the_lease_counts(store: AnyStore) -> None:
    """A session's owner, lease and Idempotency-Key are the checkpointer's."""
    fence = await store.acquire("t", 60, "anna")
    await store.release("t", fence, "anna")
    session = HermesSession(store, "t", owner="anna", idempotency_key="key")
    with pytest.raises(TypeError):
        StoredCheckpointer(session, "bert")
    graph = graph_of(StoredCheckpointer(session), Model(answer("A1"), answer("A2")))
    async with session.turn() as turn:
        await graph.ainvoke(ask("Q1"), THREAD)
        await store.release("t", turn.fence or 0, "anna")
        await store.acquire("t", 60, "anna")
        with pytest.raises(TurnLost):
            await graph.ainvoke(ask("Q2"), THREAD)
    assert said(await chat(store, "anna")) == [("user", "Q1"), ("assistant", "A1")]
    found = await store.find_turn("t", "key", "anna")
    assert found is not None
    assert await session.append({"role": "user", "content": "Q3"}) == 3
    await session.rewind(2)
    aside = HermesSession(store, "t", owner="anna", is_turn=False)
    await graph_of(StoredCheckpointer(aside), Model(answer("Title"))).ainvoke(ask("T"), THREAD)
    repeated = HermesSession(store, "t", owner="anna", idempotency_key="key")
    graph = graph_of(StoredCheckpointer(repeated), Model(answer("A1 again")))
    await graph.ainvoke(ask("Q1"), THREAD)
    assert (await store.load("t", "anna")).length == 2


async def test_a_cancelled_put_ends_first(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cancelled while it stores has stored, under the key, which is used then."""
    session = HermesSession(store, "t", owner="anna", idempotency_key="key")
    kind, has_put, goes_on = type(store.checkpoints), asyncio.Event(), asyncio.Event()
    put: Any = kind.put

    async def hang(*args: Any, **options: Any) -> None:
        await put(*args, **options)
        has_put.set()
        await goes_on.wait()

    monkeypatch.setattr(kind, "put", hang)
    async with session.turn():
        saver, checkpoint = StoredCheckpointer(session), empty_checkpoint()
        checkpoint["channel_values"] = {"messages": [HumanMessage("Q1"), AIMessage("A1")]}
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        putting = asyncio.create_task(saver.aput(config, checkpoint, {}, {}))
        await has_put.wait()
        putting.cancel()
        asyncio.get_running_loop().call_soon(goes_on.set)
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await session.append({"role": "user", "content": "Q2"}) == 3
    assert await store.find_turn("t", "key", "anna")


async def test_threads_are_deleted_copied_and_used_again(store: AnyStore) -> None:
    """A deleted thread is gone with its messages, and a copied one goes on by itself."""
    saver = StoredCheckpointer(store)
    graph = graph_of(saver, Model(answer("A1"), answer("A2"), answer("A3")))
    await graph.ainvoke(ask("Q1"), THREAD)
    await saver.acopy_thread("t", "copy")
    with pytest.raises(SessionConflict):
        await saver.acopy_thread("t", "copy")
    await saver.adelete_thread("t")
    assert (await store.load("t")).length == 0
    await graph.ainvoke(ask("Q2"), THREAD)
    assert said(await chat(store)) == [("user", "Q2"), ("assistant", "A2")]
    state = await graph.ainvoke(ask("Q3"), {"configurable": {"thread_id": "copy"}})
    assert [each.content for each in state["messages"]] == ["Q1", "A1", "Q3", "A3"]
    assert (await store.load("copy")).length == 4
    await store.delete("t")
    await saver.adelete_thread("t")


async def test_pruning_keeps_what_delta_channels_need(store: AnyStore) -> None:
    """The newest checkpoint is whole after a prune, also if it is replayed from older ones."""

    def joined(before: list[str], writes: list[list[str]]) -> list[str]:
        return [*before, *(each for write in writes for each in write)]

    class State(TypedDict):
        log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=4)]

    builder = StateGraph(State)
    builder.add_node("n", lambda _: {"log": ["out"]})
    builder.add_edge(START, "n")
    builder.add_edge("n", END)
    saver = StoredCheckpointer(store)
    graph = builder.compile(checkpointer=saver)
    for number in range(5):
        await graph.ainvoke({"log": [str(number)]}, THREAD)
        before = (await graph.aget_state(THREAD)).values
        await saver.aprune(["t"])
        assert (await graph.aget_state(THREAD)).values == before
    assert len([each async for each in saver.alist(THREAD)]) < 15
    assert len(before["log"]) == 10


async def test_odd_values_and_ids_come_back(store: AnyStore) -> None:
    """Ids and metadata that no database holds are escaped, and lists are filtered and paged."""
    saver = StoredCheckpointer(store)
    odd: Any = {"configurable": {"thread_id": "\ud800\0", "checkpoint_ns": "n\u00e9st"}}
    metadata: Any = {"source": "loop", "step": 1, "odd": ["\udfff", float("inf"), b"\0", 2**70]}
    for step in range(25):
        at = await saver.aput(odd, empty_checkpoint(), {**metadata, "step": step % 2}, {})
    found = await saver.aget_tuple(at)
    assert found is not None
    assert found.config["configurable"]["thread_id"] == "\ud800\0"
    assert found.metadata["odd"] == metadata["odd"]
    assert len([each async for each in saver.alist(odd, filter={"step": 1})]) == 12
    assert len([each async for each in saver.alist(None, limit=21)]) == 21
    assert len([each async for each in saver.alist(None, filter={"step": 1}, limit=3)]) == 3


def test_a_graph_runs_without_an_event_loop(tmp_path: Path) -> None:
    """The sync methods do the same, from several threads too."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    saver = StoredCheckpointer(store)
    graph = graph_of(saver, Model(answer("A1"), answer("A2")))
    graph.invoke(ask("Q1"), THREAD)
    state = graph.invoke(ask("Q2"), THREAD)
    assert len(state["messages"]) == 4
    assert len(list(graph.get_state_history(THREAD))) == 6
    saver.copy_thread("t", "u")
    saver.prune(["t"])
    assert len(list(saver.list(THREAD))) == 1
    saver.delete_for_runs(["none"])
    saver.delete_thread("t")
    assert saver.get_tuple(THREAD) is None
    asyncio.run(store.aclose())


def test_without_a_thread_a_synchronous_method_says_what_to_await(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call says it, and the first thread that can be had serves."""
    saver = StoredCheckpointer(MemoryStore())
    refuse_threads(monkeypatch)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="await those whose names begin with a"):
            saver.get_tuple(THREAD)
    monkeypatch.undo()
    assert saver.get_tuple(THREAD) is None


def test_nothing_is_pickled_and_a_store_has_to_keep_checkpoints() -> None:
    """A serializer that may pickle is refused, and so is a store without checkpoints."""
    with pytest.raises(ConfigurationError, match="pickle"):
        StoredCheckpointer(MemoryStore(), serde=JsonPlusSerializer(pickle_fallback=True))

    class Least:
        async def load(self, *_: object, **__: object) -> None: ...

    with pytest.raises(NotSupported):
        StoredCheckpointer(Least())  # type: ignore[arg-type]


def test_the_pages_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on the page of the docs ends without an error."""
    (program,) = re.findall(r"```python langgraph\n(.*?)```", DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, str(DOCS), "exec"), {"__name__": "example"})
