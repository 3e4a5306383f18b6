"""Appends beside a running Hermes: what it reads, finds and counts of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import HermesStateStore, SessionConflict, SessionFull, TurnConflict
from tests.stores.hermes_state.agent import WEATHER, ask, hermes, without_times
from tests.support.server import ROOT

QUESTION = {"role": "user", "content": "Where do zebrafish (\u6771\u4eac\u306e\u9b5a) live?"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "axolotl_search", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "other", "arguments": "{}"}},
    ],
}
RESULT = {"role": "tool", "content": "In rivers", "tool_call_id": "c1", "tool_name": "pangolin"}
ANSWER = {"role": "assistant", "content": "In rivers of South Asia.", "finish_reason": "stop"}
TURN: list[dict[str, Any]] = [QUESTION, CALL, RESULT, ANSWER]


async def test_hermes_reads_finds_and_counts_a_turn(
    state: HermesStateStore, state_db: Path
) -> None:
    """A turn is in Hermes' conversation, in its full-text index, and in its counters."""
    with hermes(state_db) as agent:
        before = agent.call("get_session", WEATHER)
        assert await state.append(WEATHER, TURN, turn_id="t", expected_length=8) == 12
        assert without_times(agent.conversation(WEATHER)[8:]) == TURN
        after = agent.call("get_session", WEATHER)
        changed = {key for key in after if after[key] != before[key]}
        assert changed == {"message_count", "tool_call_count"}
        assert after["message_count"] - before["message_count"] == 4
        assert after["tool_call_count"] - before["tool_call_count"] == 2
        for word in ("zebrafish", "axolotl_search", "pangolin", "\u6771\u4eac\u306e"):
            hits = agent.call("search_messages", word)
            assert {hit["session_id"] for hit in hits} == {WEATHER}
        row = agent.call("get_messages", WEATHER)[-1]
        assert (row["active"], row["compacted"], row["observed"]) == (1, 0, 0)


WRITER = """
import sys, anyio
from hermes_session_mw import HermesStateStore

async def main():
    store = HermesStateStore(sys.argv[1], timeout=60)
    for turn in range(int(sys.argv[2])):
        messages = [
            {"role": "user", "content": f"ours {turn} quokka"},
            {"role": "assistant", "content": f"answer {turn}", "tool_calls": [{"id": str(turn)}]},
        ]
        await store.append(sys.argv[3], messages, turn_id=f"turn {turn}")
    await store.aclose()

anyio.run(main)
"""


def test_both_write_at_once(state_db: Path) -> None:
    """Hermes and two processes of ours write to one session: all is there, whole and in order."""
    turns = 40
    command = [sys.executable, "-W", "error", "-c", WRITER, str(state_db), str(turns), WEATHER]
    with hermes(state_db) as agent:
        other = [*command[:-1], "another"]
        ours = [subprocess.Popen(each, cwd=ROOT) for each in (command, other)]
        for turn in range(turns):
            agent.append(WEATHER, {"role": "user", "content": f"theirs {turn} wombat"})
        assert [process.wait(120) for process in ours] == [0, 0]
        texts = [message["content"] for message in agent.conversation(WEATHER)[8:]]
        assert [t for t in texts if t.startswith("theirs")] == [
            f"theirs {n} wombat" for n in range(turns)
        ]
        for turn in range(turns):
            at = texts.index(f"ours {turn} quokka")
            assert texts[at + 1] == f"answer {turn}"
        assert len(texts) == 3 * turns
        row = agent.call("get_session", WEATHER)
        assert (row["message_count"], row["tool_call_count"]) == (8 + 3 * turns, 1 + turns)
        assert agent.call("get_session", "another")["message_count"] == 2 * turns
        for word, hits in (("quokka", 2 * turns), ("wombat", turns)):
            assert len(agent.call("search_messages", word, limit=1000)) == hits
    assert ask(state_db, "PRAGMA integrity_check") == [("ok",)]
    assert ask(state_db, "PRAGMA foreign_key_check") == []
    ask(state_db, "INSERT INTO messages_fts (messages_fts) VALUES ('integrity-check')")


async def test_nothing_but_rows_is_changed(state: HermesStateStore, state_db: Path) -> None:
    """The schema, the journal mode and Hermes' version stay; no file is put beside the database."""
    schema = ask(state_db, "SELECT * FROM sqlite_master")
    await state.append(WEATHER, TURN, turn_id="t")
    await state.rewind(WEATHER, 9)
    assert ask(state_db, "SELECT * FROM sqlite_master") == schema
    assert ask(state_db, "PRAGMA journal_mode") == [("wal",)]
    assert ask(state_db, "SELECT version FROM schema_version") == [(22,)]
    names = {path.name for path in state_db.parent.iterdir()}
    assert names <= {"state.db", "state.db-wal", "state.db-shm"}


async def test_a_rollback_journal_stays_one(state_db: Path) -> None:
    """Where Hermes could not have WAL, as on a network disk, appends work and leave it so."""
    assert ask(state_db, "PRAGMA journal_mode = DELETE") == [("delete",)]
    store = HermesStateStore(state_db)
    assert await store.append(WEATHER, TURN) == 12
    await store.aclose()
    assert ask(state_db, "PRAGMA journal_mode") == [("delete",)]


async def test_closing_leaves_hermes_at_work(state: HermesStateStore, state_db: Path) -> None:
    """Hermes reads and writes on after the store has closed, and after it was the last to close."""
    with hermes(state_db) as agent:
        await state.append(WEATHER, TURN)
        await state.aclose()
        agent.append(WEATHER, ANSWER)
        assert len(agent.conversation(WEATHER)) == 13
    assert (await state.load(WEATHER)).length == 13
    await state.aclose()
    with hermes(state_db) as agent:
        assert len(agent.conversation(WEATHER)) == 13


async def test_a_turn_id_outlives_what_hermes_does(state: HermesStateStore, state_db: Path) -> None:
    """A repeated turn is stored once; after a summary its length is what is left before its end."""
    assert await state.append(WEATHER, TURN, turn_id="t") == 12
    with pytest.raises(TurnConflict):
        await state.append(WEATHER, [QUESTION], turn_id="t")
    with hermes(state_db) as agent:
        agent.call("archive_and_compact", WEATHER, [{"role": "user", "content": "[SUMMARY]"}])
        assert await state.append(WEATHER, TURN, turn_id="t", expected_length=8) == 0
        assert agent.call("get_session", WEATHER)["message_count"] == 1
        # A session that is deleted and begun anew has had no turns.
        agent.call("delete_session", WEATHER)
        assert await state.append(WEATHER, [QUESTION], turn_id="t") == 1
        assert await state.append(WEATHER, [QUESTION], turn_id="t") == 1
        assert len(agent.conversation(WEATHER)) == 1


async def test_a_failed_append_leaves_nothing(state: HermesStateStore, state_db: Path) -> None:
    """An append that is refused in the middle makes no session, message or turn."""
    counts = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM messages)"
    before = ask(state_db, counts)
    with pytest.raises(SessionConflict):
        await state.append("new", TURN, turn_id="t", expected_length=1)
    ask(
        state_db,
        "CREATE TRIGGER fails BEFORE INSERT ON state_meta BEGIN SELECT raise(FAIL, 'no'); END",
    )
    with pytest.raises(Exception, match="failed"):
        await state.append("new", TURN, turn_id="t")
    assert ask(state_db, counts) == before


async def test_questions_are_counted_as_turns(state_db: Path) -> None:
    """A conversation with as many questions as it may have takes no more."""
    store = HermesStateStore(state_db, max_turns=5)
    try:
        assert await store.append(WEATHER, TURN) == 12
        assert await store.append(WEATHER, [QUESTION]) == 13
        with pytest.raises(SessionFull):
            await store.append(WEATHER, [QUESTION])
    finally:
        await store.aclose()


async def test_a_tool_call_that_is_no_list_counts_as_one(
    state: HermesStateStore, state_db: Path
) -> None:
    """As Hermes counts it."""
    message = {"role": "assistant", "content": "x", "tool_calls": {"id": "c"}}
    await state.append("s", [message])
    with hermes(state_db) as agent:
        assert agent.call("get_session", "s")["tool_call_count"] == 1


async def test_a_locked_database_is_waited_for(state: HermesStateStore, state_db: Path) -> None:
    """While another holds the lock readers read on, and a writer waits its time."""
    hold = f"""
import sqlite3, sys, time
connection = sqlite3.connect({str(state_db)!r}, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(0.5)
connection.execute("COMMIT")
connection.close()
"""
    with subprocess.Popen(  # noqa: ASYNC220  # it starts at once
        [sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with anyio.fail_after(60):
            assert (await state.load(WEATHER)).length == 8
            assert await state.append(WEATHER, TURN) == 12
