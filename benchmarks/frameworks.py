"""Frameworks: a whole turn through each one's own store, and through ours by its adapter.

The two have the same interpreter and packages, and take turns in processes of their own. A turn
loads the conversation and appends two messages, each through the framework's protocol; with
LangGraph it is a run of a graph.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from benchmarks.measuring import SHORT, Cell, Dose, compare
from benchmarks.peers.everyone import OURS, Entry
from benchmarks.peers.operations import APPEND, TURN
from benchmarks.peers.processes import Process, start
from benchmarks.peers.table import show

LEFT_OUT: dict[str, str] = {}
"""Why a framework is missing."""

_CONVERSATIONS = {20: 128, 80: 32, 200: 32}
"""How many there are of each length: so many that none grows much."""

_TURNS = 16  # in each round
_FILL_SECONDS = 120.0


@dataclass(frozen=True)
class Framework:
    """A framework, with the name of its own store.

    Attributes:
        limits: how many times the time of its own store ours may take, by the messages that the
            conversation has.
        operation: what a turn is.
    """

    name: str
    store: str
    limits: Mapping[int, float]
    operation: str = TURN

    @property
    def own(self) -> str:
        """Return what its own store is called in the cells."""
        return f"{self.name} {self.store}"

    @property
    def entries(self) -> tuple[Entry, Entry]:
        """Return our store and its own, in its environment."""
        module = f"adapted.{self.name.replace('-', '_')}"
        return (
            Entry(OURS, f"{module}:Ours", self.name),
            Entry(self.own, f"{module}:Own", self.name),
        )


FRAMEWORKS = (
    Framework("openai-agents", "SQLiteSession", {20: 1.0, 200: 0.8}),
    Framework("llama-index", "SQLAlchemyChatStore", {20: 0.5, 200: 0.5}),
    Framework("google-adk", "DatabaseSessionService", {20: 0.5, 200: 0.5}),
    Framework("agent-framework", "FileHistoryProvider", {20: 0.5, 200: 0.5}),
    Framework("langgraph", "AsyncSqliteSaver", {80: 1.0}, APPEND),
)


def measure(dose: Dose) -> list[Cell]:
    """Measure each framework whose environment is installed."""
    LEFT_OUT.clear()
    return [cell for one in FRAMEWORKS for cell in asyncio.run(_measure(one, dose))]


async def _measure(framework: Framework, dose: Dose) -> list[Cell]:
    if not all(entry.python.exists() for entry in framework.entries):
        LEFT_OUT[framework.own] = "its environment is not installed"
        return []
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(start(entry)) for entry in framework.entries]
        lengths = framework.limits if dose.full else [min(framework.limits)]
        for process in processes:
            await _fill(process, lengths, stack)
        return [await _cell(framework, processes, length, dose) for length in lengths]


async def _fill(process: Process, lengths: Iterable[int], stack: AsyncExitStack) -> None:
    directory = stack.enter_context(TemporaryDirectory())
    appended = [(length, _CONVERSATIONS[length]) for length in lengths]
    loaded = [(length, 0) for length in lengths]
    await process.ask("open", "", directory, loaded, appended)
    done = await process.ask("fill", _FILL_SECONDS)
    if missing := {*lengths} - {*done}:
        raise RuntimeError(f"{process.name}: no conversations of {max(missing)} in time")


async def _cell(framework: Framework, processes: list[Process], length: int, dose: Dose) -> Cell:
    failures: dict[str, int] = {}
    for process in processes:
        await process.ask("prepare", framework.operation, length)
    subjects = [process.as_subject(failures) for process in processes]
    conditions = {"framework": framework.name, "messages": length}
    cell = await compare("frameworks", conditions, subjects, dose=dose, count=_TURNS)
    for name, failed in failures.items():
        cell.sample(name).figures["failed"] = failed
    return cell


if __name__ == "__main__":
    show(measure(SHORT))
