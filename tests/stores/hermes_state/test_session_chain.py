"""A conversation that was compressed goes on, under whichever of its ids a client holds."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hermes_session_mw import HermesStateStore, History, SessionBusy, SessionTaken
from tests.stores.hermes_state.agent import (
    COMPRESSED,
    TIP,
    WEATHER,
    ask,
    golden,
    hermes,
    without_times,
)

TURN: list[dict[str, Any]] = [
    {"role": "user", "content": "And day 3?"},
    {"role": "assistant", "content": "Cascais."},
]


async def test_an_append_under_the_old_id_goes_to_the_tip(
    state: HermesStateStore, state_db: Path
) -> None:
    """What is stored under a compressed session's id is where Hermes goes on, and nowhere else."""
    assert await state.append(COMPRESSED, TURN, expected_length=4) == 6
    with hermes(state_db) as agent:
        assert without_times(agent.conversation(TIP)[4:]) == TURN
        assert agent.conversation(COMPRESSED) == golden(COMPRESSED)
    assert await state.load(COMPRESSED) == await state.load(TIP)


async def test_a_compression_between_load_and_append_is_followed(
    state: HermesStateStore, state_db: Path
) -> None:
    """Where Hermes compresses meanwhile, the append goes to the new tip, or is told of it."""
    history = await state.load(WEATHER)
    with hermes(state_db) as agent:
        agent.call("end_session", WEATHER, "compression")
        agent.call("create_session", "next", "api_server", parent_session_id=WEATHER)
        agent.append("next", {"role": "user", "content": "[SUMMARY]"})
        assert await state.append(WEATHER, TURN) == 3
        assert without_times(agent.conversation("next")[1:]) == TURN
        assert agent.conversation(WEATHER) == history.messages


async def test_a_conversation_that_is_being_compressed_is_busy(
    state: HermesStateStore, state_db: Path
) -> None:
    """While Hermes summarizes, an append that the summary would miss is refused, not lost."""
    with hermes(state_db) as agent:
        assert agent.call("try_acquire_compression_lock", TIP, "me", ttl_seconds=60)
        with pytest.raises(SessionBusy) as caught:
            await state.append(COMPRESSED, TURN)
        assert 50 < caught.value.retry_after <= 60
        assert (await state.load(COMPRESSED)).length == 4
        agent.call("release_compression_lock", TIP, "me")
        assert await state.append(COMPRESSED, TURN) == 6
        assert agent.call("try_acquire_compression_lock", TIP, "me", ttl_seconds=-1)
        assert await state.append(COMPRESSED, TURN) == 8


REASONS = st.sampled_from([None, "compression", "branched", "ws_orphan_reap"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "parent": st.none() | st.integers(0, 7),
            "end_reason": REASONS,
            "ended_at": st.none() | st.floats(1, 5),
            "started_at": st.floats(1, 5),
            "source": st.sampled_from(["cli", "tool", "telegram"]),
            "model_config": st.sampled_from(
                [None, "{}", '{"_branched_from": "x"}', '{"_delegate_from": "x"}', "[1]"]
            ),
            "said_at": st.none() | st.floats(1, 5),
        }
    ),
    min_size=8,
    max_size=8,
)


async def test_every_lineage_leads_where_hermes_says(
    state: HermesStateStore, state_db: Path
) -> None:
    """In generated families of sessions, circles among them, every id leads to Hermes' own tip."""
    families: list[list[dict[str, Any]]] = []

    @settings(
        max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(ROWS)
    def collect(rows: list[dict[str, Any]]) -> None:
        families.append(rows)

    collect()
    for family, rows in enumerate(families):
        _store_family(state_db, family, rows)
    with hermes(state_db) as agent:
        for family, rows in enumerate(families):
            for number in range(len(rows)):
                tip = agent.call("get_compression_tip", f"f{family}-{number}")
                history = await state.load(f"f{family}-{number}")
                assert history == History(agent.conversation(tip), history.length, exists=True)
                spoken = rows[int(tip.split("-")[1])]["said_at"] is not None
                assert history.length == spoken


def _store_family(path: Path, family: int, rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        ask(
            path,
            "INSERT INTO sessions (id, source, started_at, ended_at, end_reason, model_config)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            f"f{family}-{number}",
            *(row[name] for name in ("source", "started_at", "ended_at", "end_reason")),
            row["model_config"],
        )
        if row["said_at"] is not None:
            ask(
                path,
                "INSERT INTO messages (session_id, role, content, timestamp)"
                " VALUES (?, 'user', ?, ?)",
                *(f"f{family}-{number}", f"I am {number}", row["said_at"]),
            )
    for number, row in enumerate(rows):
        if row["parent"] is not None:
            parent = f"f{family}-{row['parent']}"
            ask(
                path,
                "UPDATE sessions SET parent_session_id = ? WHERE id = ?",
                *(parent, f"f{family}-{number}"),
            )


async def test_a_chain_without_end_ends_where_hermes_stops(
    state: HermesStateStore, state_db: Path
) -> None:
    """A chain is followed for as many steps as Hermes takes, and no further."""
    _chain(state_db, 120)
    with hermes(state_db) as agent:
        assert agent.call("get_compression_tip", "c0") == "c100"
    assert (await state.load("c0")).messages[0]["content"] == "I am c100"


def _chain(path: Path, length: int) -> None:
    for number in range(length):
        ask(
            path,
            "INSERT INTO sessions (id, source, started_at, ended_at, end_reason,"
            " parent_session_id) VALUES (?, 'cli', ?, ?, 'compression', ?)",
            *(f"c{number}", number, number, f"c{number - 1}" if number else None),
        )
        ask(
            path,
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, 'user', ?, 1)",
            *(f"c{number}", f"I am c{number}"),
        )


async def test_an_owner_has_the_sessions_of_that_user(state: HermesStateStore) -> None:
    """An owner is Hermes' user: what another user has, or nobody, is unknown and not written to."""
    assert (await state.load(WEATHER, owner="user-42")).length == 8
    assert (await state.load(COMPRESSED, owner="u7")).messages == golden(TIP)
    for session_id, owner in (
        (WEATHER, "u7"),
        (COMPRESSED, "user-42"),
        ("api_1790000200_deadbeef", "u7"),
    ):
        assert await state.load(session_id, owner=owner) == History([], 0, exists=False)
        with pytest.raises(SessionTaken):
            await state.append(session_id, TURN, owner=owner)
    assert await state.append("mine", TURN, owner="u7") == 2
    assert await state.append("mine", TURN, owner="u7") == 4
    assert (await state.info("mine", owner="user-42")) is None


async def test_a_continuation_is_its_conversations_owners(
    state: HermesStateStore, state_db: Path
) -> None:
    """Hermes names no user in a continuation: it is the one's whose conversation it continues."""
    with hermes(state_db) as agent:
        agent.call("end_session", WEATHER, "compression")
        agent.call("create_session", "next", "api_server", parent_session_id=WEATHER)
        agent.append("next", {"role": "user", "content": "[SUMMARY]"})
        agent.call("end_session", "next", "compression")
        agent.call("create_session", "last", "api_server", parent_session_id="next")
    for session_id in (WEATHER, "next", "last"):
        assert (await state.load(session_id, owner="user-42")).exists
        assert not (await state.load(session_id, owner="u7")).exists
    assert await state.append("next", TURN, owner="user-42") == 2
    ask(state_db, "UPDATE sessions SET user_id = 'u7' WHERE id = 'last'")
    assert not (await state.load(WEATHER, owner="user-42")).exists
    assert (await state.load("last", owner="u7")).exists


async def test_a_circle_belongs_to_nobody(state: HermesStateStore, state_db: Path) -> None:
    """Sessions that continue each other in a circle, without a user, are no owner's."""
    for each in ("a", "b"):
        ask(
            state_db,
            "INSERT INTO sessions (id, source, started_at, ended_at, end_reason)"
            " VALUES (?, 'cli', ?, 1, 'compression')",
            *(each, time.time()),
        )
    ask(state_db, "UPDATE sessions SET parent_session_id = 'b' WHERE id = 'a'")
    ask(state_db, "UPDATE sessions SET parent_session_id = 'a' WHERE id = 'b'")
    assert not (await state.load("a", owner="u7")).exists
    assert (await state.load("a")).exists
    _chain(state_db, 120)
    assert not (await state.load("c119", owner="u7")).exists
