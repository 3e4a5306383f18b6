"""Forks, exports, deletions and keys, in Hermes' own tables."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from starlette.applications import Starlette

from hermes_session_mw import (
    HermesSessionMiddleware,
    HermesStateStore,
    History,
    InvalidMessage,
    MemoryStore,
    SessionConflict,
    SessionDeleted,
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
)
from hermes_session_mw.openai_api.conversations import conversation_routes
from tests.stores.hermes_state.agent import (
    COMPRESSED,
    REWOUND,
    TIP,
    TURN,
    UPKEEP,
    WEATHER,
    ask,
    golden,
    hermes,
    without_times,
)
from tests.stores.hermes_state.versions import turn_into
from tests.support.asgi import http_scope, request

DELETED = History([], 0, exists=False, deleted=True)


async def test_a_fork_is_a_branch_of_hermes(state: HermesStateStore, state_db: Path) -> None:
    """Hermes reads and lists it as a conversation of its own, with the same user."""
    with hermes(state_db) as agent:
        agent.append(WEATHER, {"role": "user", "content": UPKEEP}, *TURN)
        assert await state.fork(WEATHER, "fork", length=7) == 7
        assert agent.conversation("fork") == golden(WEATHER)[:7]
        assert await state.append("fork", TURN) == 9
        row = agent.call("get_session", "fork")
        assert (row["user_id"], row["message_count"]) == ("user-42", 9)
        assert row["parent_session_id"] == WEATHER
        listed = {each["id"] for each in agent.call("list_sessions_rich")}
        assert {"fork", WEATHER} <= listed
        # Neither is the other's continuation, whatever becomes of them.
        agent.call("end_session", WEATHER, "compression")
        assert agent.call("get_compression_tip", WEATHER) == WEATHER
    assert await state.fork(WEATHER, "whole") == (await state.load(WEATHER)).length
    info = await state.info("fork", owner="user-42")
    assert info is not None
    assert (info.parent_id, info.length) == (WEATHER, 9)


@pytest.mark.parametrize("schema", [11, 14, 16, 30])
async def test_a_fork_stays_apart_in_every_version(
    state: HermesStateStore, state_db: Path, schema: int
) -> None:
    """Also where any later child of a compressed session would continue it."""
    turn_into(state_db, schema)
    ask(state_db, "UPDATE sessions SET end_reason = 'compression', ended_at = 5 WHERE id = ?", TIP)
    assert await state.fork(COMPRESSED, "fork", length=1) == 1
    assert (await state.load(COMPRESSED)).length == 4
    assert "fork" in [each.id for each in (await state.list()).sessions]


async def test_what_cannot_be_forked(state: HermesStateStore) -> None:
    """Unknown sessions and another's are not found, and an id that is or was in use is refused."""
    await state.append("gone", TURN)
    assert await state.delete("gone")
    for session_id, owner in (("nope", ""), (WEATHER, "u7"), ("gone", "")):
        with pytest.raises(SessionNotFound):
            await state.fork(session_id, "fork", owner)
    for taken in (REWOUND, "gone"):
        with pytest.raises(SessionConflict):
            await state.fork(WEATHER, taken)
    with pytest.raises(ValueError, match="negative"):
        await state.fork(WEATHER, "fork", length=-1)
    assert await state.fork(WEATHER, "empty", length=0) == 0
    assert await state.load("empty") == History([], 0, exists=True)


async def test_an_export_is_imported_elsewhere(state: HermesStateStore) -> None:
    """Each question begins a turn; another store has the same messages afterwards."""
    text = await state.export(COMPRESSED)
    head, *rows = map(json.loads, text.splitlines())
    assert (head["id"], head["title"]) == (COMPRESSED, "Lisbon trip")
    questions = [row for row in rows if row["message"]["role"] == "user"]
    assert len({row["turn_id"] for row in rows}) == len(questions) > 1
    other = MemoryStore()
    assert await other.import_(text) == COMPRESSED
    assert (await other.load(COMPRESSED)).messages == golden(TIP)
    for session_id, owner in (("nope", ""), (COMPRESSED, "user-42")):
        with pytest.raises(SessionNotFound):
            await state.export(session_id, owner)


async def test_a_lone_surrogate_of_hermes_is_written_as_json(
    state: HermesStateStore, state_db: Path
) -> None:
    """Hermes' JSON may have one; an export and a conversation's items escape it, in UTF-8."""
    calls = [{"id": "c\ud800", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    ask(state_db, "UPDATE messages SET tool_calls = ? WHERE id = 2", json.dumps(calls))
    assert (await state.load(WEATHER)).messages[1]["tool_calls"] == calls
    exported = (await state.export(WEATHER)).encode()
    assert b'"c\\ud800"' in exported
    assert "☔".encode() in exported
    app = HermesSessionMiddleware(Starlette(routes=conversation_routes(state)), state)
    log = await request(app, scope=http_scope(path=f"/v1/conversations/{WEATHER}/items"))
    assert log[0]["status"] == 200
    items = json.loads(log[1]["body"])["data"]
    assert "c\ud800" in [each.get("call_id") for each in items]


@pytest.mark.parametrize("session_id", [COMPRESSED, TIP])
async def test_a_deletion_takes_the_whole_conversation(
    state: HermesStateStore, state_db: Path, session_id: str
) -> None:
    """All its sessions and helpers go, under any of its ids; branches stay, and others too."""
    with hermes(state_db) as agent:
        for child, marks in (
            ("helper", {"_delegate_from": TIP}),
            ("branch", {"_branched_from": TIP}),
        ):
            agent.call("create_session", child, "cli", parent_session_id=TIP, model_config=marks)
            agent.append(child, {"role": "user", "content": "kakapo"})
        await state.move_key("mine", session_id)
        await state.move_key("another", WEATHER)
        assert not await state.delete(session_id, owner="user-42")
        assert await state.delete(session_id)
        assert not await state.delete(session_id)
        for gone in (COMPRESSED, TIP, "helper"):
            assert agent.call("get_session", gone) is None
        assert agent.call("get_session", "branch")["parent_session_id"] is None
        assert {hit["session_id"] for hit in agent.call("search_messages", "kakapo")} == {"branch"}
        assert await state.load(session_id) == DELETED
        for refused in (state.append(session_id, TURN), state.acquire(session_id, 30)):
            with pytest.raises(SessionDeleted):
                await refused
        assert (await state.find_key("mine"), await state.find_key("another")) == (None, WEATHER)
        # Hermes knows of no deleted ids: what it begins is there.
        agent.call("create_session", session_id, "telegram")
        assert await state.append(session_id, TURN) == 2
    assert (await state.load(WEATHER)).length == 8
    assert ask(state_db, "PRAGMA foreign_key_check") == []
    ask(state_db, "INSERT INTO messages_fts (messages_fts) VALUES ('integrity-check')")


async def test_an_older_file_forks_and_deletes_what_it_can(
    state: HermesStateStore, state_db: Path
) -> None:
    """Without users, markers or keys and values a fork has no user, and a deletion no helpers."""
    turn_into(state_db, 14)
    ask(state_db, "ALTER TABLE sessions DROP COLUMN user_id")
    assert await state.fork(WEATHER, "fork") == 8
    ask(state_db, "DROP TABLE state_meta")
    assert await state.delete("fork")
    assert await state.load("fork") == History([], 0, exists=False)
    assert await state.append("fork", TURN) == 2


async def test_a_key_leads_to_its_session(state: HermesStateStore, state_db: Path) -> None:
    """A key is bound once, moved and dropped, for its owner alone; the file has no key's text."""
    assert await state.bind_key("my chat", WEATHER, "user-42") == WEATHER
    assert await state.bind_key("my chat", "other", "user-42") == WEATHER
    assert await state.find_key("my chat", "u7") is None
    await state.move_key("my chat", "other", "user-42")
    assert await state.find_key("my chat", "user-42") == "other"
    assert not await state.drop_key("my chat")
    assert await state.drop_key("my chat", "user-42")
    assert await state.find_key("my chat", "user-42") is None
    assert ask(state_db, "SELECT 1 FROM state_meta WHERE key || value LIKE '%my chat%'") == []
    ask(state_db, "DROP TABLE state_meta")
    with pytest.raises(StoreMisconfigured, match=r"state_meta\.key"):
        await state.find_key("my chat")


async def test_a_responses_metadata_is_beside_its_turn(
    state: HermesStateStore, state_db: Path
) -> None:
    """With a turn id `metadata` is stored, and found with the turn, outside of its messages."""
    answer = {**TURN[1], "metadata": {"response": {"id": "resp_1"}}}
    state.check([TURN[0], answer])
    assert await state.append("s", [TURN[0], answer], turn_id="t") == 2
    assert await state.append("s", [TURN[0], answer], turn_id="t") == 2
    turn = await state.find_turn("s", "t")
    assert turn is not None
    assert turn.messages == [TURN[0], answer]
    assert without_times((await state.load("s")).messages) == TURN
    with pytest.raises(InvalidMessage, match="'metadata'"):
        await state.append("s", [answer])
    exact = HermesStateStore(state_db, exact=True)
    with pytest.raises(InvalidMessage, match="'metadata'"):
        await exact.append("s", [answer], turn_id="u")
    await exact.aclose()


async def test_a_trigger_that_only_hermes_can_run_is_told_before_anything_is_written(
    state_db: Path,
) -> None:
    """Where the index needs a tokenizer of Hermes', reading goes on, and nothing is written."""
    ask(state_db, "PRAGMA wal_checkpoint(TRUNCATE)")
    changed = (
        "UPDATE sqlite_master SET sql = replace(sql, 'trigram''', 'hermes_cjk''')"
        " WHERE name = 'messages_fts_trigram'"
    )
    script(state_db, f"PRAGMA writable_schema = ON; {changed}; PRAGMA writable_schema = RESET")
    store = HermesStateStore(state_db)
    assert (await store.load(WEATHER)).length == 8
    writes = (
        store.append("new", TURN),
        store.rewind(WEATHER, 1),
        store.fork(WEATHER, "fork"),
        store.delete(WEATHER),
    )
    for write in writes:
        with pytest.raises(StoreMisconfigured, match="no such tokenizer: hermes_cjk"):
            await write
    assert not (await store.load("new")).exists
    assert (await store.load(WEATHER)).length == 8
    await store.aclose()


@pytest.mark.parametrize(
    "event",
    [
        "INSERT ON sessions",
        "UPDATE ON sessions",
        "DELETE ON sessions",
        "UPDATE OF active ON messages",
    ],
)
async def test_any_trigger_that_a_write_would_run_is_tried_first(
    state: HermesStateStore, state_db: Path, event: str
) -> None:
    """A trigger of either table, or of one column, may need what only Hermes has."""
    ask(state_db, f"CREATE TRIGGER late AFTER {event} BEGIN SELECT hermes_only(1); END")
    for write in (state.append("new", TURN), state.rewind(WEATHER, 1), state.delete(WEATHER)):
        with pytest.raises(StoreMisconfigured, match="no such function: hermes_only"):
            await write
    assert (await state.load(WEATHER)).length == 8


async def test_a_damaged_index_is_left_to_hermes(state_db: Path) -> None:
    """Where the index cannot be opened, reading goes on, and an append fails as a whole."""
    ask(state_db, "DROP TABLE messages_fts_config")
    store = HermesStateStore(state_db)
    assert (await store.load(WEATHER)).length == 8
    with pytest.raises(StoreError):
        await store.append("new", TURN)
    assert not (await store.load("new")).exists
    await store.aclose()


def script(path: Path, statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
