"""`SQLiteSession` of the OpenAI Agents SDK, and ours."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agents import (
    Agent,
    RunConfig,
    Runner,
    Session,
    SessionSettings,
    SQLiteSession,
    function_tool,
)

from hermes_session_mw import HermesSession, SQLAlchemyStore
from hermes_session_mw.adapters.openai_agents import StoredSession
from tests.adapters.frameworks.own_stores.defect import Defect
from tests.adapters.frameworks.test_openai_agents import (
    Item,
    ScriptedModel,
    answer,
    call,
    calls,
    compacting,
    output,
    said,
    user,
)


class Place(NamedTuple):
    """A conversation.

    Attributes:
        session: it.
        archived: returns what was replaced and is still there.
        entered: gives the session to a run.
        wait: what a run's model waits for, of two that run at once.
    """

    session: Session
    archived: Callable[[], Any]
    entered: Callable[[], AbstractAsyncContextManager[Session]]
    wait: Callable[[], Any]


@asynccontextmanager
async def own(folder: Path) -> AsyncIterator[Place]:
    session = SQLiteSession("c", folder / "theirs.db")

    async def archived() -> list[Item]:
        return []

    yield Place(session, archived, lambda: nullcontext(session), asyncio.Barrier(2).wait)
    session.close()


def over(store: SQLAlchemyStore) -> Place:
    async def archived() -> list[Item]:
        return [each.message for each in await store.archived("c")]

    @asynccontextmanager
    async def entered() -> AsyncIterator[Session]:
        request = HermesSession(store, "c")
        async with request.turn():
            yield StoredSession(request)

    return Place(StoredSession(store, "c"), archived, entered, partial(asyncio.sleep, 0))


def shapes(items: Sequence[Item]) -> str:
    """Return what the items are."""
    names = {"function_call": "call", "function_call_output": "output"}
    roles = {"user": "question", "assistant": "answer"}
    return ", ".join(names.get(each.get("type", "")) or roles[each["role"]] for each in items)


TURN = [user("q"), call(1), output(1), said("a")]


async def limit(place: Place) -> str:
    await place.session.add_items(TURN)
    return shapes(await place.session.get_items(2))


async def limit_in_a_run(place: Place, has_callback: bool) -> str:
    await place.session.add_items(TURN)
    model = ScriptedModel(answer("Yes."))
    config = RunConfig(
        session_settings=SessionSettings(limit=2),
        session_input_callback=(lambda history, new: [*history, *new]) if has_callback else None,
    )
    agent = Agent(name="a", model=model)
    await Runner.run(agent, "Sure?", session=place.session, run_config=config)
    return shapes(model.given[0])


async def cancelled(place: Place, in_the_second_call: bool) -> str:
    begun = asyncio.Event()

    async def hang() -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    async def look() -> str:
        """Look."""
        return "5" if in_the_second_call else await hang()

    async def wait() -> None:
        if len(model.given) == 2:
            await hang()

    model = ScriptedModel(calls(1), answer("a"), wait=wait)
    agent = Agent(name="a", model=model, tools=[function_tool(look)])
    running = asyncio.create_task(Runner.run(agent, "q", session=place.session))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    return shapes(await place.session.get_items())


async def two_runs(place: Place) -> str:
    async def run(text: str) -> None:
        model = ScriptedModel(answer(f"A to {text}"), wait=place.wait)
        async with place.entered() as session:
            await Runner.run(Agent(name="a", model=model), text, session=session)

    async with asyncio.TaskGroup() as tasks:
        for text in ("Q1", "Q2"):
            tasks.create_task(run(text))
    return shapes(await place.session.get_items())


async def forced_compaction(place: Place) -> str:
    await place.session.add_items([user("q"), said("a")])
    others = [user("other's")]
    waiting = compacting(place.session, lambda: place.session.add_items(others))
    await waiting.run_compaction({"force": True})
    if others[0] in await place.session.get_items():
        return "kept"
    return "in the archive" if others[0] in await place.archived() else "gone"


OpenAI = partial(Defect, own=own, over=over, framework="OpenAI Agents SDK, `SQLiteSession`")
DEFECTS = [
    OpenAI(
        "two runs at once; ours in a request's `turn()`",
        two_runs,
        theirs="question, question, answer, answer",
        ours="question, answer, question, answer",
    ),
    OpenAI(
        "another worker adds an item while a forced compaction waits for the model",
        forced_compaction,
        theirs="gone",
        ours="in the archive",
    ),
    OpenAI(
        "a run is cancelled in a tool",
        partial(cancelled, in_the_second_call=False),
        theirs="question",
        ours="question",
    ),
    OpenAI(
        "a run is cancelled while the model has the tool's output",
        partial(cancelled, in_the_second_call=True),
        theirs="question, call, output",
        ours="question, call, output",
    ),
    OpenAI(
        "the newest two items of a question, a call, its output and an answer",
        limit,
        theirs="output, answer",
        ours="output, answer",
    ),
    OpenAI(
        "what a model is given with that limit",
        partial(limit_in_a_run, has_callback=False),
        theirs="answer, question",
        ours="answer, question",
    ),
    OpenAI(
        "what a model is given with that limit and a `session_input_callback`",
        partial(limit_in_a_run, has_callback=True),
        theirs="output, answer, question",
        ours="output, answer, question",
    ),
]
