"""`FileHistoryProvider` of Agent Framework, and ours."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agent_framework import (
    Agent,
    AgentSession,
    ChatResponse,
    Content,
    FileHistoryProvider,
    FileSessionStore,
    HistoryProvider,
    InMemoryHistoryProvider,
    Message,
    tool,
)

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.agent_framework import StoredHistoryProvider
from tests.adapters.frameworks.own_stores.defect import Defect, plainly
from tests.adapters.frameworks.test_agent_framework import Model, answer, ask, run, texts


class Place(NamedTuple):
    """A provider, and what cuts its next write between the first message and the second."""

    provider: HistoryProvider
    cut: Callable[[], None]


def own(folder: Path) -> Place:
    def cut() -> None:
        path = folder / "c.jsonl"
        path.write_bytes(path.read_bytes() + b'{"role": "assis')

    return Place(FileHistoryProvider(folder), cut)


def over(store: SQLAlchemyStore) -> Place:
    file = str(store._url.database)

    def cut() -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER cut BEFORE INSERT ON hermes_messages WHEN NEW.body LIKE '%half%' "
                "BEGIN SELECT RAISE(ABORT, 'cut'); END"
            )

    return Place(StoredHistoryProvider(store), cut)


async def the_same_twice(place: Place) -> str:
    for _ in range(2):
        stored = await run(place.provider, "hi", model=Model("hello"))
    return f"{len(stored)} messages"


async def cut_write(place: Place) -> str:
    provider = place.provider
    await provider.save_messages("c", [ask("q")])
    place.cut()
    with suppress(Exception):
        await provider.save_messages("c", [ask("q2"), answer("half")])
    try:
        before = texts(await provider.get_messages("c"))
        await provider.save_messages("c", [ask("q3")])
        after = texts(await provider.get_messages("c"))
    except ValueError:
        return "the conversation can be neither read nor added to"
    assert (before, after) == (["q"], ["q", "q3"])
    return "the conversation is what it was, and goes on"


async def cancelled(place: Place) -> str:
    begun = asyncio.Event()

    @tool(approval_mode="never_require")
    async def look() -> str:
        """Look."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    model = Model([Content.from_function_call("c1", "look", arguments="{}")], "a")
    running = asyncio.create_task(run(place.provider, "q", model=model, tools=[look]))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    return ", ".join(texts(await place.provider.get_messages("c"))) or "nothing"


async def half_a_pair(place: Place) -> str:
    try:
        stored = await run(place.provider, "q", model=Model("\ud83d"))
    except UnicodeEncodeError as exc:
        return f"`{type(exc).__name__}`"
    return "comes back" if stored == ["q", "\ud83d"] else str(stored)


async def data(place: Place) -> str:
    message = Message("user", ["q"], additional_properties={"key": b"\xff"})
    await place.provider.save_messages("c", [message])
    (found,) = await place.provider.get_messages("c")
    kept = found.additional_properties.get("key")
    return "come back" if kept == b"\xff" else f"come back as `{kept}`"


class Snapshots:
    """Conversations in the framework's `FileSessionStore`, whole sessions at a time."""

    def __init__(self, folder: Path) -> None:
        self._store = FileSessionStore(folder)

    async def run(self, model: Model, text: str) -> None:
        session = await self._store.get("c") or AgentSession(session_id="c")
        await Agent(model, context_providers=[InMemoryHistoryProvider()]).run(text, session=session)
        await self._store.set("c", session)

    async def stored(self) -> list[str]:
        session = await self._store.get("c")
        assert session is not None
        return texts(session.state[InMemoryHistoryProvider.DEFAULT_SOURCE_ID]["messages"])


class Histories:
    """Conversations in ours."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        self._provider = StoredHistoryProvider(store)

    async def run(self, model: Model, text: str) -> None:
        await run(self._provider, text, model=model)

    async def stored(self) -> list[str]:
        return texts(await self._provider.get_messages("c"))


class Meeting(Model):
    """A model that answers when two have been asked."""

    def __init__(self, both: asyncio.Barrier, *answers: str) -> None:
        super().__init__(*answers)
        self._both = both

    async def _inner_get_response(self, **options: Any) -> ChatResponse:
        await self._both.wait()
        return await super()._inner_get_response(**options)


async def two_runs(place: Any) -> str:
    both = asyncio.Barrier(2)
    names = ("1", "2")
    await asyncio.gather(*(place.run(Meeting(both, f"a{n}"), f"q{n}") for n in names))
    stored = await place.stored()
    turns = [stored[at : at + 2] for at in range(0, len(stored), 2)]
    assert all(turn in [[f"q{n}", f"a{n}"] for n in names] for turn in turns)
    return f"{len(turns)} of 2 turns, whole"


Files = partial(
    Defect, own=plainly(own), over=over, framework="Agent Framework, `FileHistoryProvider`"
)
DEFECTS = [
    Files(
        "the same question, with the same answer, twice in a row",
        the_same_twice,
        theirs="2 messages",
        ours="4 messages",
    ),
    Files(
        "a write is cut in its middle",
        cut_write,
        theirs="the conversation can be neither read nor added to",
        ours="the conversation is what it was, and goes on",
    ),
    Files("a run is cancelled in a tool", cancelled, theirs="nothing", ours="nothing"),
    Files(
        "half of a surrogate pair in an answer",
        half_a_pair,
        theirs="`UnicodeEncodeError`",
        ours="comes back",
    ),
    Files(
        "bytes in a message's properties",
        data,
        theirs="come back as `None`",
        ours="come back",
    ),
    Defect(
        "two runs at once",
        two_runs,
        theirs="1 of 2 turns, whole",
        ours="2 of 2 turns, whole",
        own=plainly(Snapshots),
        over=Histories,
        framework="Agent Framework, `FileSessionStore`",
    ),
]
