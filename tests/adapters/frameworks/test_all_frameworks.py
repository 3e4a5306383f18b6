"""What all frameworks are run for together: the defects of their own stores, and turns in common.

A defect is looked for in a store of ours too. docs/framework-stores.md has a row for each test:
after a change that is meant, write it anew with ``make frameworks``.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_session_mw import HermesSession, MemoryStore, SQLAlchemyStore
from tests.adapters.frameworks.own_stores import (
    agent_framework,
    claude_agent,
    google_adk,
    langgraph,
    llama_index,
    openai_agents,
    pydantic_ai,
)
from tests.adapters.frameworks.own_stores.defect import Defect
from tests.adapters.frameworks.participants import (
    ID,
    OWNER,
    PARTICIPANTS,
    AnyStore,
    Participant,
    Turn,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*is experimental")  # Agent Framework's files

DEFECTS = [
    *openai_agents.DEFECTS,
    *claude_agent.DEFECTS,
    *langgraph.DEFECTS,
    *pydantic_ai.DEFECTS,
    *google_adk.DEFECTS,
    *agent_framework.DEFECTS,
    *llama_index.DEFECTS,
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.framework}: {defect.done}")
async def test_a_defect(
    defect: Defect, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each store does what the page says that it does."""
    theirs = await defect.seen_in_own(tmp_path)
    ours = await defect.seen_in_ours(tmp_path)
    told = {"framework": defect.framework, "defect": defect.done, "theirs": theirs, "ours": ours}
    for name, value in told.items():
        record_property(name, value)
    assert (theirs, ours) == (defect.theirs, defect.ours)


async def write(store: AnyStore, writer: Participant, turn: Turn) -> None:
    """Have one store a turn in a request."""
    session = HermesSession(store, ID, owner=OWNER)
    async with session.turn():
        await writer.write(session, turn)


@pytest.mark.parametrize("writer", PARTICIPANTS, ids=lambda each: each.name)
async def test_a_turn_with_two_calls_at_once(
    writer: Participant, record_property: Callable[[str, object], None]
) -> None:
    """What one has written, each reads in its own terms: question, calls, outputs and answer."""
    store = MemoryStore()
    await write(store, writer, Turn(1))
    read = {reader.name: await reader.read(store) for reader in PARTICIPANTS}
    record_property("writer", writer.name)
    for name, said in read.items():
        record_property(name, "yes" if said == Turn(1).said() else "no")
    assert read == dict.fromkeys(read, Turn(1).said())


async def test_turns_of_all_at_once(tmp_path: Path) -> None:
    """Everyone writes to one conversation at once: each turn is whole, and there once, for all."""
    stores = [SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db") for _ in range(2)]
    turns = [Turn(number) for number in range(2 * len(PARTICIPANTS))]
    writers = zip(PARTICIPANTS * 2, turns, strict=True)
    async with asyncio.TaskGroup() as tasks:
        for number, (writer, turn) in enumerate(writers):
            tasks.create_task(write(stores[number // len(PARTICIPANTS)], writer, turn))
    length = len(turns[0].said())
    for reader in PARTICIPANTS:
        said = await reader.read(stores[0])
        whole = [said[at : at + length] for at in range(0, len(said), length)]
        assert sorted(whole) == sorted(turn.said() for turn in turns), reader.name
    for store in stores:
        await store.aclose()
