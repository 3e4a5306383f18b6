"""What is loaded is what Hermes itself reads, key for key, from a database that Hermes wrote."""

import json
from pathlib import Path

import pytest

from hermes_session_mw import HermesStateStore, History
from tests.stores.hermes_state.agent import (
    COMPRESSED,
    GOLDEN,
    REWOUND,
    SESSIONS,
    TIP,
    WEATHER,
    ask,
    golden,
    hermes,
)


@pytest.mark.parametrize("session_id", SESSIONS)
async def test_every_session_reads_as_hermes_reads_it(
    state: HermesStateStore, session_id: str
) -> None:
    """Each session's messages, their keys and the keys' order are Hermes'; so is the live tip."""
    messages = golden(SESSIONS[session_id]["compression_tip"])
    history = await state.load(session_id)
    assert json.dumps(history.messages) == json.dumps(messages)
    assert (history.length, history.exists) == (len(messages), True)


@pytest.mark.parametrize("session_id", SESSIONS)
@pytest.mark.parametrize("limit", [0, 1, 2, 7, 2**70])
async def test_a_limit_gives_the_newest_of_hermes_messages(
    state: HermesStateStore, session_id: str, limit: int
) -> None:
    """The newest part is the end of what Hermes reads, and the length is that of the whole."""
    messages = golden(SESSIONS[session_id]["compression_tip"])
    newest = messages[max(len(messages) - limit, 0) :]
    assert await state.load(session_id, limit=limit) == History(newest, len(messages), exists=True)


def test_hermes_still_reads_what_it_read(state_db: Path) -> None:
    """Hermes' own code, over the same file, gives what the golden file says."""
    with hermes(state_db) as agent:
        for session_id, said in SESSIONS.items():
            assert json.dumps(agent.conversation(session_id)) == json.dumps(golden(session_id))
            assert agent.call("get_compression_tip", session_id) == said["compression_tip"]
        (version,) = ask(state_db, "SELECT version FROM schema_version")
    assert version == (GOLDEN["schema_version"],)


async def test_an_unknown_session_is_unknown_as_to_hermes(
    state: HermesStateStore, state_db: Path
) -> None:
    """An id without a row has no messages, leads to itself, and is not made by being asked for."""
    said = GOLDEN["unknown_session"]
    history = await state.load("nope")
    assert history == History(said["get_messages_as_conversation"], 0, exists=False)
    assert await state.info("nope") is said["get_session"]
    assert ask(state_db, "SELECT 1 FROM sessions WHERE id = 'nope'") == []


async def test_an_append_to_an_unknown_session_makes_it_first(
    state: HermesStateStore, state_db: Path
) -> None:
    """Where Hermes' own append fails for want of a session's row, the row is written first."""
    with hermes(state_db) as agent:
        agent.begin("append_message", "nope", "user", "hello")
        assert agent.end() == {"error": GOLDEN["append_unknown"]}
        assert await state.append("nope", [{"role": "user", "content": "hello"}]) == 1
        agent.append("nope", {"role": "assistant", "content": "hi"})
        row = agent.call("get_session", "nope")
    assert (row["source"], row["user_id"], row["message_count"]) == ("api_server", None, 2)
    assert (await state.load("nope")).length == 2


async def test_a_session_without_messages_exists(state: HermesStateStore, state_db: Path) -> None:
    """A row that Hermes has made, and not written to yet, is a session."""
    with hermes(state_db) as agent:
        agent.call("create_session", "empty", "telegram")
    assert await state.load("empty") == History([], 0, exists=True)
    assert await state.load("empty", limit=3) == History([], 0, exists=True)


def test_the_golden_sessions_are_the_ones_that_matter() -> None:
    """There is one of each kind: plain, compressed, its continuation, rewound."""
    assert {WEATHER, COMPRESSED, TIP, REWOUND} == set(SESSIONS)
