"""langgraph: checkpointers, under a graph of one node that answers.

A run of the graph is a whole turn: it loads the thread's state, and stores checkpoints and writes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from benchmarks.peers.adapted import our_store
from benchmarks.peers.conversations import conversation
from benchmarks.peers.langgraph import LangGraph, config_of
from benchmarks.peers.peer import Message
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.langgraph import StoredCheckpointer

_ANSWER = conversation(2)[1]["content"]


class Own(LangGraph):
    """``AsyncSqliteSaver``."""

    def __init__(self) -> None:
        super().__init__()
        self._graph: Any = None

    async def open(self, url: str, directory: Path) -> None:
        """Connect, and compile the graph."""
        await super().open(url, directory)
        self._compile()

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Run the graph for each question."""
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            await self.append(session_id, [question, answer])

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get the state's messages."""
        state = await self._graph.aget_state(config_of(session_id))
        messages: Sequence[Any] = state.values.get("messages", ())
        return messages

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Run the graph for the turn's question."""
        question = HumanMessage(turn[0]["content"])
        await self._graph.ainvoke({"messages": [question]}, config_of(session_id))

    def _compile(self) -> None:
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda _: {"messages": [AIMessage(_ANSWER)]})
        builder.add_edge(START, "model")
        builder.add_edge("model", END)
        self._graph = builder.compile(checkpointer=self._saver)


class Ours(Own):
    """``StoredCheckpointer``."""

    def __init__(self) -> None:
        super().__init__()
        self._store: SQLAlchemyStore

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # SQLite only
        """Name the file, and compile the graph."""
        self._store = our_store(directory)
        self._saver = StoredCheckpointer(self._store)
        self._compile()

    async def aclose(self) -> None:
        """Close the store."""
        await self._store.aclose()
