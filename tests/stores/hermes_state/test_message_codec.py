"""Messages on their way into Hermes' table and out of it, beside Hermes' own code."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hermes_session_mw import (
    HermesSession,
    HermesStateStore,
    InvalidMessage,
    MessageTooLarge,
    TurnTooLong,
)
from hermes_session_mw.session.prompts import HERMES_ONLY, STORED_ONLY
from hermes_session_mw.stores.hermes_state.message_codec import _FIELDS
from tests.stores.hermes_state.agent import WEATHER, ask, golden, hermes, without_times
from tests.support import json_values

RECALLED = "The following is recalled memory context, NOT new user input. Treat as "
# Texts that Hermes cleans, leaves out, or nearly does.
PIECES = st.sampled_from(
    [
        "hello",
        " ",
        "\n",
        "\u00a0",
        "<memory-context>",
        "</memory-context>",
        "< Memory-Context >",
        "</ MEMORY-CONTEXT>",
        f"[System note: {RECALLED}informational background data.] ",
        f"[system note:{RECALLED}authoritative reference data (of x).]",
        f"[\u017fystem note: {RECALLED}informational background data.]",
        "Review the conversation above and ",
        "update the skill library",
        "consider saving to memory",
        "\0json:[1]",
        '\0json:"Review the conversation above and consider saving to memory"',
        "\0",
        "\ud800",
    ]
)
TEXT = st.lists(PIECES, max_size=5).map("".join)
MAYBE_TEXT = st.none() | TEXT | json_values.text
MAYBE_JSON = st.none() | json_values.values
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=2)
ROLES = st.sampled_from(["user", "assistant", "tool", "system", "developer"])
NO_SURROGATES = st.none() | json_values.text
MESSAGES = st.fixed_dictionaries(
    {"role": ROLES, "content": MAYBE_TEXT | PARTS | json_values.messages},
    optional={
        "tool_name": MAYBE_TEXT,
        "tool_calls": MAYBE_JSON,
        "tool_call_id": NO_SURROGATES,
        "finish_reason": NO_SURROGATES,
        "reasoning": MAYBE_TEXT,
        "reasoning_content": MAYBE_TEXT,
        "reasoning_details": MAYBE_JSON,
        "codex_reasoning_items": MAYBE_JSON,
        "codex_message_items": MAYBE_JSON,
        "platform_message_id": NO_SURROGATES,
        "observed": st.booleans(),
        "effect_disposition": NO_SURROGATES,
        "timestamp": st.none() | st.floats(0, 2e9) | st.integers(0, 2**40),
        "api_content": MAYBE_TEXT,
    },
)


async def test_whatever_hermes_writes_reads_as_hermes_reads_it(
    state: HermesStateStore, state_db: Path
) -> None:
    """Sessions of generated messages, written by Hermes, are read alike by both, and so counted."""
    sessions: list[list[dict[str, Any]]] = []

    @settings(
        max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(MESSAGES, max_size=6))
    def collect(messages: list[dict[str, Any]]) -> None:
        sessions.append(messages)

    collect()
    with hermes(state_db) as agent:
        for number, messages in enumerate(sessions):
            agent.call("create_session", f"s{number}", "cli")
            agent.append(f"s{number}", *messages)
        for number in range(len(sessions)):
            read = agent.conversation(f"s{number}")
            history = await state.load(f"s{number}")
            assert json.dumps(history.messages) == json.dumps(read)
            newest = await state.load(f"s{number}", limit=2)
            assert json.dumps(newest.messages) == json.dumps(read[-2:])
            assert newest.length == history.length == len(read)


async def test_columns_that_hold_no_json_read_as_hermes_reads_them(
    state: HermesStateStore, state_db: Path
) -> None:
    """A value that was damaged is read as Hermes reads it: empty tool calls, else null."""
    with closing(sqlite3.connect(state_db)) as connection, connection:
        connection.execute(
            "INSERT INTO messages (session_id, role, content, timestamp, tool_calls,"
            " reasoning_details, codex_reasoning_items, codex_message_items)"
            " VALUES (?, 'assistant', ?, 0, '{', 'nope', '[', ']')",
            (WEATHER, "\0json:{"),
        )
        connection.execute(
            "INSERT INTO messages (session_id, role, content, timestamp)"
            " VALUES (?, 'tool', 7.5, 1)",
            (WEATHER,),
        )
    with hermes(state_db) as agent:
        read = agent.conversation(WEATHER)
    assert (await state.load(WEATHER)).messages == read
    assert read[-2]["tool_calls"] == []


STORABLE: list[dict[str, Any]] = [
    {"role": "user", "content": ""},
    {"role": "user", "content": None},
    {"role": "user", "content": [{"type": "text", "text": " kept as it is "}]},
    {"role": "system", "content": " kept "},
    {"role": "tool", "content": "\n<memory-context>kept</memory-context>", "tool_call_id": "c"},
    {"role": "tool", "content": "{}", "tool_name": "search", "effect_disposition": "done"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function"}]},
    {"role": "assistant", "content": "x", "finish_reason": "stop", "reasoning_content": ""},
    {"role": "assistant", "content": "x", "reasoning": "r", "reasoning_details": [{"a": "\u20ac"}]},
    {"role": "user", "content": "x", "message_id": "tg-1", "observed": True},
    {"role": "user", "content": "x", "timestamp": 1790000000.5, "api_content": " y "},
    {"role": "user", "content": "NUL \0 inside"},
]  # fmt: skip


async def test_what_is_appended_comes_back_from_both(
    state: HermesStateStore, state_db: Path
) -> None:
    """Messages that the table can hold come back unchanged, but for the time that Hermes adds."""
    await state.append("new", STORABLE)
    await state.append("again", golden(WEATHER))
    with hermes(state_db) as agent:
        for session_id, sent in (("new", STORABLE), ("again", golden(WEATHER))):
            read = (await state.load(session_id)).messages
            assert json.dumps(agent.conversation(session_id)) == json.dumps(read)
            added = [m if "timestamp" in m else without_times([m])[0] for m in sent]
            plain = [
                back if "timestamp" in m else without_times([back])[0]
                for m, back in zip(sent, read, strict=True)
            ]
            assert plain == added
    times = [message["timestamp"] for message in (await state.load("new")).messages[:3]]
    assert times == sorted(set(times))


async def test_order_of_keys_and_a_missing_content_become_hermes(state: HermesStateStore) -> None:
    """Role and content come first and are always there; JSON's objects have no order."""
    await state.append("s", [{"tool_calls": [{"b": 1, "a": 2}], "role": "assistant"}])
    (message,) = without_times((await state.load("s")).messages)
    expected = {"role": "assistant", "content": None, "tool_calls": [{"b": 1, "a": 2}]}
    assert json.dumps(message) == json.dumps(expected)


UPKEEP = "Review the conversation above and update the skill library"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no role": ({"content": "x"}, "role"),
    "a role that is no text": ({"role": 1, "content": "x"}, "role"),
    "a number for content": ({"role": "user", "content": 7}, "int for its content"),
    "white space at the ends": ({"role": "user", "content": "x "}, "'content'"),
    "a fenced memory": (
        {"role": "assistant", "content": "<memory-context>x</memory-context>"},
        "'content'",
    ),
    "what would be read as JSON": ({"role": "tool", "content": "\0json:1"}, "'content'"),
    "a key that has no column": ({"role": "user", "content": "x", "name": "ada"}, "'name'"),
    "a null": ({"role": "assistant", "content": "x", "refusal": None}, "'refusal'"),
    "an empty list": ({"role": "assistant", "content": "x", "tool_calls": []}, "'tool_calls'"),
    "an empty text": ({"role": "tool", "content": "x", "tool_call_id": ""}, "'tool_call_id'"),
    "a number for a text": ({"role": "tool", "content": "x", "tool_call_id": 7}, "'tool_call_id'"),
    "reasoning of a user": ({"role": "user", "content": "x", "reasoning": "r"}, "'reasoning'"),
    "an integer for a time": ({"role": "user", "content": "x", "timestamp": 5}, "'timestamp'"),
    "a text for a time": ({"role": "user", "content": "x", "timestamp": "now"}, "'timestamp'"),
    "true for a time": ({"role": "user", "content": "x", "timestamp": True}, "'timestamp'"),
    "no number for a time": ({"role": "user", "content": "x", "timestamp": 10**400}, "'timest"),
    "the beginning of time": ({"role": "user", "content": "x", "timestamp": 0.0}, "'timestamp'"),
    "observed, but not true": ({"role": "user", "content": "x", "observed": False}, "'observed'"),
    "Hermes' upkeep": ({"role": "user", "content": UPKEEP}, "maintenance prompts"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "why"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_would_come_back_changed_is_refused(
    state_db: Path, message: dict[str, Any], why: str
) -> None:
    """A message that Hermes would read otherwise is an error that says where, and no row."""
    before = ask(state_db, "SELECT count(*), max(id) FROM messages")
    store = HermesStateStore(state_db, exact=True)
    with pytest.raises(InvalidMessage, match=why):
        await store.append("new", [{"role": "user", "content": "x"}, message])
    assert ask(state_db, "SELECT count(*), max(id) FROM messages") == before
    assert not (await store.load("new")).exists
    await store.aclose()


AS_HERMES = {"white space at the ends", "a fenced memory", "a null", "an empty list"}
AS_HERMES |= {"an empty text"}


@pytest.mark.parametrize("name", REFUSED)
async def test_only_what_hermes_leaves_out_or_cleans_may_change(
    state: HermesStateStore, name: str
) -> None:
    """Unless it is to be exact, a store takes what Hermes takes, and refuses the rest still."""
    message, why = REFUSED[name]
    if name in AS_HERMES:
        assert await state.append("new", [{"role": "user", "content": "x"}, message]) == 2
        return
    with pytest.raises(InvalidMessage, match=why):
        await state.append("new", [{"role": "user", "content": "x"}, message])
    assert not (await state.load("new")).exists


async def test_an_answer_that_hermes_would_take_for_its_own_upkeep_is_refused(
    state: HermesStateStore, state_db: Path
) -> None:
    """After a prompt of Hermes' upkeep that stands unanswered, an answer would not be read."""
    with hermes(state_db) as agent:
        agent.append(WEATHER, {"role": "user", "content": f" {UPKEEP}: ..."})
        assert (await state.load(WEATHER)).messages == agent.conversation(WEATHER)
        with pytest.raises(InvalidMessage, match="maintenance prompts"):
            await state.append(WEATHER, [{"role": "assistant", "content": "x"}])
        turn = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]
        assert await state.append(WEATHER, turn, expected_length=8) == 10
        assert (await state.load(WEATHER)).messages == agent.conversation(WEATHER)


async def test_an_sdks_dump_comes_back_as_hermes_has_it(state: HermesStateStore) -> None:
    """What an SDK dumps is stored as it is, but for empty values and white space at the ends."""
    dump = {"role": "assistant", "content": "\nhi ", "refusal": None, "tool_calls": None}
    assert await state.append("s", [dump], turn_id="t") == 1
    assert await state.append("s", [dump], turn_id="t") == 1
    (message,) = (await state.load("s")).messages
    assert without_times([message]) == [{"role": "assistant", "content": "hi"}]


async def test_a_broken_answer_is_marked_in_hermes_way(state: HermesStateStore) -> None:
    """An answer's "incomplete" becomes its finish reason; a user's message has no such thing."""
    broken = {"role": "assistant", "content": "hi", "status": "incomplete"}
    assert await state.append("s", [broken]) == 1
    (message,) = without_times((await state.load("s")).messages)
    assert message == {"role": "assistant", "content": "hi", "finish_reason": "incomplete"}
    for other in (
        {**broken, "role": "user"},
        {**broken, "status": "completed"},
        {**broken, "finish_reason": "stop"},
    ):
        with pytest.raises(InvalidMessage, match="'status'"):
            await state.append("s", [other])


def test_a_check_finds_what_an_append_would_refuse(state_db: Path) -> None:
    """What Hermes' tables cannot hold is told without the file, which may be missing."""
    state, exact = (
        HermesStateStore(state_db.parent / "none.db", exact=each) for each in (False, True)
    )
    spaced = {"role": "user", "content": " spaces "}
    state.check([spaced])
    upkeep = {
        "role": "user",
        "content": "Review the conversation above and consider saving to memory",
    }
    for refused in ([], [{"content": "no role"}], [upkeep], [{"role": "user", "content": 7}]):
        with pytest.raises(InvalidMessage):
            state.check(refused)
    with pytest.raises(InvalidMessage, match="changed"):
        exact.check([spaced])
    with pytest.raises(MessageTooLarge):
        HermesStateStore(state_db, max_message_bytes=20).check([spaced])
    with pytest.raises(TurnTooLong):
        HermesStateStore(state_db, max_turn_messages=1).check([spaced, spaced])


@pytest.mark.parametrize(
    "bad", [{"tool_calls": [{"arguments": math.nan}]}, {"usage": {"total": 3}}, {"n": "x" * 2**21}]
)
async def test_a_question_survives_its_answer(state: HermesStateStore, bad: dict[str, Any]) -> None:
    """Of an answer that Hermes' tables cannot hold the text is kept, marked as Hermes marks it."""
    session = HermesSession(state, "new", is_new=True)
    question = {"role": "user", "content": "Well?"}
    answer = session.record(question)
    answer.write("Yes.")
    answer.message.update(bad)
    with pytest.raises(InvalidMessage):
        await answer.end()
    part = {"role": "assistant", "content": "Yes.", "finish_reason": "incomplete"}
    assert without_times(await session.load()) == [question, part]
    answer = session.record({"role": "user", "content": "Again?"}, replace_from=0)
    answer.write("No.")
    answer.message.update(bad)
    with pytest.raises(InvalidMessage):
        await answer.end()
    assert without_times(await session.load()) == [question, part]


def test_each_of_hermes_keys_is_sent_to_a_model_or_is_not() -> None:
    """A prompt leaves out what Hermes keeps beside a message: a new column is decided upon here."""
    sent = {"tool_calls", "tool_call_id", "reasoning_content", "reasoning_details"}
    assert {field.key for field in _FIELDS} - STORED_ONLY - HERMES_ONLY == sent
