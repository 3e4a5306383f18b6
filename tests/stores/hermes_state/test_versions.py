"""Files of every schema version: the rules go by the file (`make hermes-versions` shows whose)."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import (
    HermesStateStore,
    InvalidMessage,
    StoreMisconfigured,
)
from hermes_session_mw.stores.hermes_state.rules import NEWEST_RUN, RELEASES, RULES
from tests.stores.hermes_state.agent import COMPRESSED, REWOUND, TIP, WEATHER, ask, without_times
from tests.stores.hermes_state.versions import ADDED, turn_into

SCHEMAS = [*ADDED, 11, 30]
QUESTION: dict[str, Any] = {"role": "user", "content": "Which day?"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Day 2."}
REVIEW = "Review the conversation above and update the skill library"


@pytest.fixture
def anyio_backend() -> str:
    """The rules are SQL and pure functions, which no event loop changes."""
    return "asyncio"


@pytest.fixture(params=sorted(SCHEMAS))
def schema(request: pytest.FixtureRequest, state_db: Path) -> int:
    """A schema version; the file is turned into one of it."""
    turn_into(state_db, request.param)
    return int(request.param)


async def test_a_file_of_any_version_is_read_written_and_listed(
    state: HermesStateStore, schema: int, state_db: Path
) -> None:
    """Each version's file is continued at its tip, with times from 0.17 on, and lists the same."""
    assert await state.append(COMPRESSED, [QUESTION, ANSWER], turn_id="t") == 6
    assert await state.append(COMPRESSED, [QUESTION, ANSWER], turn_id="t") == 6
    newest = (await state.load(COMPRESSED, limit=2)).messages
    assert without_times(newest) == [QUESTION, ANSWER]
    assert ["timestamp" in message for message in newest] == [schema >= 16] * 2
    assert (await state.load(TIP)).messages == (await state.load(COMPRESSED)).messages
    ids = [each.id for each in (await state.list()).sessions]
    assert ids == [COMPRESSED, REWOUND, WEATHER]
    turn = await state.find_turn(COMPRESSED, "t")
    assert turn is not None
    assert (turn.messages, turn.start) == ([QUESTION, ANSWER], 4)
    if schema >= 14:
        assert await state.append(COMPRESSED, [QUESTION], replace_from=4) == 5
    else:
        with pytest.raises(StoreMisconfigured, match=r"messages\.active"):
            await state.rewind(COMPRESSED, 4)
    counts = "SELECT message_count, tool_call_count FROM sessions WHERE id = ?"
    kept = 5 if schema > NEWEST_RUN else 7 if schema >= 14 else 6
    assert ask(state_db, counts, TIP)[0][0] == kept


async def test_reviews_are_hidden_by_versions_that_hide_them(
    state: HermesStateStore, schema: int, state_db: Path
) -> None:
    """Up to 0.17 a review and its answer are shown; then both are hidden, the second once only."""
    for role, content in (("user", REVIEW), ("user", REVIEW), ("assistant", "Done.")):
        insert(state_db, WEATHER, role, content)
    length = (await state.load(WEATHER)).length
    assert length == (11 if schema < 19 else 8 if schema <= NEWEST_RUN else 9)
    assert (await state.load(WEATHER, limit=0)).length == length
    review = [{"role": "user", "content": REVIEW}]
    if schema < 19:
        assert await state.append(WEATHER, review) == length + 1
    else:
        with pytest.raises(InvalidMessage, match="maintenance"):
            await state.append(WEATHER, review)


async def test_messages_are_ordered_as_the_version_orders_them(
    state: HermesStateStore, schema: int, state_db: Path
) -> None:
    """Where a clock ran back, 0.17 orders by time, the others by row; ours are last in both."""
    insert(state_db, WEATHER, "user", "early", 1.0)
    insert(state_db, WEATHER, "user", "late", 4e9)
    insert(state_db, WEATHER, "user", "last")
    assert await state.append(WEATHER, [QUESTION, ANSWER]) == 13
    contents = [message["content"] for message in (await state.load(WEATHER)).messages]
    by_time = schema == 16
    place = ("early", *contents[1:9], "last", "late") if by_time else None
    rows = (*contents[:8], "early", "late", "last")
    assert contents == [*(place or rows), "Which day?", "Day 2."]
    assert [m["content"] for m in (await state.load(WEATHER, limit=3)).messages] == contents[-3:]
    assert await state.append("new", [QUESTION, ANSWER]) == 2
    earlier = [{**QUESTION, "timestamp": 2.0}]
    if schema < 16:
        with pytest.raises(InvalidMessage, match="timestamp"):
            await state.append(WEATHER, earlier)
    elif by_time:
        with pytest.raises(InvalidMessage, match="another order"):
            await state.append(WEATHER, earlier)
        assert await state.append(WEATHER, [{**QUESTION, "timestamp": 4.1e9}]) == 14
    else:
        assert await state.append(WEATHER, earlier) == 14


async def test_a_child_continues_by_the_versions_rule(
    state: HermesStateStore, schema: int, state_db: Path
) -> None:
    """Up to 0.17 a continuation begins after its parent's end; later ones look at its markers."""
    before, after = 0.0, 9e9
    for child, started_at, config in (
        ("begun before", before, None),
        ("branch", after, '{"_branched_from": "%s"}'),
        ("helper", after, '{"_delegate_from": "%s"}'),
        ("inherited", after, '{"_branched_from": "another"}'),
    ):
        parent = f"of {child}"
        session(state_db, parent, started_at=1, ended_at=2, end_reason="compression")
        marked = config and config.replace("%s", parent)
        session(state_db, child, started_at, parent_session_id=parent, model_config=marked)
        insert(state_db, child, "user", child)
    continued = {
        name for name in ("begun before", "branch", "helper", "inherited")
        if (await state.load(f"of {name}")).length
    }  # fmt: skip
    if schema < 19:
        assert continued == {"branch", "helper", "inherited"}
    else:
        assert continued == {"begun before"} | ({"inherited"} if schema > NEWEST_RUN else set())
    listed = {each.id for each in (await state.list()).sessions}
    branches = {"branch"} | ({"inherited"} if schema <= NEWEST_RUN else set())
    assert listed & {"begun before", "branch", "helper", "inherited"} == (
        branches if schema >= 14 else set()
    )


async def test_newer_versions_read_and_count_otherwise(
    state: HermesStateStore, state_db: Path
) -> None:
    """After 0.19 a marker as a text beside calls is blank, and a rewind counts what is left."""
    turn_into(state_db, 30)
    calls: list[dict[str, Any]] = [{"id": "c"}, {"id": "d"}]
    called = {"role": "assistant", "content": "[memory]", "tool_calls": calls}
    shown = {"display_kind": "hidden", "display_metadata": {"by": "gateway"}}
    await state.append("s", [QUESTION | shown, called, called, called, ANSWER])
    read = without_times((await state.load("s")).messages)
    assert read == [QUESTION | shown, *[called | {"content": ""}] * 3, ANSWER]
    for number, stored in enumerate(("{", '{"id": "c"}', json.dumps(calls))):
        at = f"id = (SELECT min(id) + {number} + 1 FROM messages WHERE session_id = 's')"
        ask(state_db, f"UPDATE messages SET tool_calls = ? WHERE {at}", stored)
    assert await state.rewind("s", 4) == 4
    counts = "SELECT message_count, tool_call_count FROM sessions WHERE id = 's'"
    assert ask(state_db, counts) == [(4, 3)]


async def test_newer_versions_follow_longer_chains(state: HermesStateStore, state_db: Path) -> None:
    """After 0.19 more than a hundred continuations are followed."""
    turn_into(state_db, 30)
    with closing(sqlite3.connect(state_db)) as connection, connection:
        for number in range(130):
            parent = f"c{number - 1}" if number else None
            connection.execute(
                "INSERT INTO sessions (id, source, started_at, ended_at, end_reason,"
                " parent_session_id) VALUES (?, 'cli', ?, 200, 'compression', ?)",
                (f"c{number}", number, parent),
            )
    insert(state_db, "c129", "user", "I am the last")
    assert (await state.load("c0")).messages[0]["content"] == "I am the last"


async def test_newer_versions_hide_sessions_and_list_what_began_after_a_reset(
    state: HermesStateStore, schema: int, state_db: Path
) -> None:
    """After 0.19 a hidden session is not listed, and what a reset began is, by marker or key."""
    reset = {"ended_at": 2, "end_reason": "session_reset"}
    keys = {"session_key": "k"} if schema >= 19 else {}
    session(state_db, "before", 1, **reset, **keys)
    config = '{"_reset_from": "before"}'
    session(state_db, "marked", 3, parent_session_id="before", model_config=config)
    session(state_db, "keyed", 3, parent_session_id="before", **keys)
    if schema > NEWEST_RUN:
        session(state_db, "hidden", 3, hidden=1)
    listed = {each.id for each in (await state.list()).sessions}
    expected = {"before", "marked", "keyed"} if schema > NEWEST_RUN else {"before"}
    assert listed - {COMPRESSED, REWOUND, WEATHER} == expected
    if schema > NEWEST_RUN:
        assert await state.info("hidden") is not None


async def test_a_newer_file_is_told_of_once(
    state_db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names the newest version that this was run with, whoever opens the file."""
    turn_into(state_db, 30)
    with caplog.at_level(logging.WARNING, "hermes_session_mw"):
        for _ in range(2):
            store = HermesStateStore(state_db)
            length = (await store.load(WEATHER)).length
            assert await store.append(WEATHER, [QUESTION]) == length + 1
            await store.aclose()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"Hermes' database has schema version 30, and this was run with up to {NEWEST_RUN}"
    )


async def test_a_version_that_is_raised_is_noticed(state: HermesStateStore, state_db: Path) -> None:
    """Hermes may raise the version after it has changed the tables, under an open store."""
    turn_into(state_db, 16)
    for role, content in (("user", REVIEW), ("assistant", "Done.")):
        insert(state_db, WEATHER, role, content)
    assert (await state.load(WEATHER)).length == 10
    ask(state_db, "UPDATE schema_version SET version = 19")
    assert (await state.load(WEATHER)).length == 8


def test_the_rules_are_those_of_versions_that_were_run() -> None:
    """Each rule begins with a version that was run, but for what came after the newest."""
    *run, newer = (rules.schema for rules in RULES)
    assert run == sorted(set(run) & {schema for _, schema in RELEASES})
    assert newer > NEWEST_RUN


def insert(path: Path, session_id: str, role: str, content: str, timestamp: float = 2e9) -> None:
    ask(
        path,
        "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, ?, ?, ?)",
        *(session_id, role, content, timestamp),
    )


def session(path: Path, session_id: str, started_at: float, **columns: Any) -> None:
    values = {"id": session_id, "source": "cli", "started_at": started_at, **columns}
    ask(
        path,
        f"INSERT INTO sessions ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
        *values.values(),
    )
