"""`AsyncSqliteSaver` of LangGraph, and ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.langgraph import StoredCheckpointer, stored_messages
from tests.adapters.frameworks.own_stores.defect import Defect
from tests.adapters.frameworks.test_langgraph import (
    CALL,
    THREAD,
    Model,
    answer,
    ask,
    graph_of,
)


class Place(NamedTuple):
    """Where graphs are run.

    Attributes:
        saver: keeps their checkpoints.
        history: returns what was said in a thread, beside the state of its graph.
    """

    saver: BaseCheckpointSaver[Any]
    history: Callable[[], Awaitable[list[BaseMessage]]]


@asynccontextmanager
async def own(folder: Path) -> AsyncIterator[Place]:
    async def history() -> list[BaseMessage]:
        return []

    async with AsyncSqliteSaver.from_conn_string(str(folder / "theirs.db")) as saver:
        yield Place(saver, history)


def over(store: SQLAlchemyStore) -> Place:
    return Place(StoredCheckpointer(store), partial(stored_messages, store, "t"))


def shapes(messages: list[BaseMessage]) -> str:
    """Return what the messages are."""
    names = {"human": "question", "tool": "output", "ai": "answer"}
    return ", ".join(
        "call" if getattr(each, "tool_calls", None) else names[each.type] for each in messages
    )


async def two_runs(place: Place) -> str:
    both = asyncio.Barrier(2)

    async def model(state: Any) -> Any:
        await both.wait()
        return {"messages": [answer("to " + state["messages"][-1].content)]}

    graph = graph_of(place.saver, model)
    await asyncio.gather(*(graph.ainvoke(ask(each), THREAD) for each in ("Q1", "Q2")))
    head = (await graph.aget_state(THREAD)).values["messages"]
    told = [each.content for each in await place.history()]
    seen = f"{shapes(head)} in the state"
    if sorted([told[:2], told[2:]]) == [["Q1", "to Q1"], ["Q2", "to Q2"]]:
        return f"{seen}; both turns, each whole, in the session's history"
    return "; ".join([seen, *told])


async def cancelled(place: Place) -> str:
    begun = asyncio.Event()

    async def tool(state: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    model = Model(AIMessage("", tool_calls=[CALL]), answer("a"))
    graph = graph_of(place.saver, model, tool)
    running = asyncio.create_task(graph.ainvoke(ask("q"), THREAD))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    await graph.ainvoke(ask("q2"), THREAD)
    return shapes(model.asked[-1])


async def values(place: Place, value: Any) -> str:
    builder = StateGraph(dict)
    builder.add_node("n", lambda _: {"value": value})
    builder.add_edge(START, "n")
    builder.add_edge("n", END)
    graph = builder.compile(checkpointer=place.saver)
    try:
        await graph.ainvoke({"value": None}, THREAD)
    except Exception as exc:  # noqa: BLE001  # the serializer's
        return f"`{type(exc).__name__}`"
    found = (await graph.aget_state(THREAD)).values
    return f"`{found['value']!a}`"


LangGraph = partial(Defect, own=own, over=over, framework="LangGraph, `AsyncSqliteSaver`")
STATE = "question, answer in the state"
DEFECTS = [
    LangGraph(
        "two runs of one thread at once",
        two_runs,
        theirs=STATE,
        ours=f"{STATE}; both turns, each whole, in the session's history",
    ),
    LangGraph(
        "what a model is given after a run that was cancelled in a tool",
        cancelled,
        theirs="question, call, question",
        ours="question, call, question",
    ),
    LangGraph(
        "an int of 71 bits in the state",
        partial(values, value=2**70),
        theirs="`TypeError`",
        ours="`TypeError`",
    ),
    LangGraph(
        "half of a surrogate pair in the state",
        partial(values, value="\ud83d"),
        theirs="`'?'`",
        ours="`'?'`",
    ),
    LangGraph(
        "a tuple in a list in the state",
        partial(values, value=[(1, 2)]),
        theirs="`[[1, 2]]`",
        ours="`[[1, 2]]`",
    ),
]
