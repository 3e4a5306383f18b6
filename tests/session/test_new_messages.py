"""What is new in the messages that a request's body tells."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import (
    HermesSession,
    HistoryNotLoaded,
    InvalidMessage,
    MemoryStore,
    SessionConflict,
    StoreUnavailable,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.session import new_messages
from hermes_session_mw.session.new_messages import NewMessages, find_new, is_same
from hermes_session_mw.session.store_client import StoreClient

CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"a": 1}'}}
MESSAGES: dict[str, Message] = {
    **{letter: {"role": "user", "content": f"I say {letter}"} for letter in "uvwe"},
    **{letter: {"role": "assistant", "content": f"I answer {letter}"} for letter in "ab"},
    "i": {"role": "assistant", "content": "I bro", "status": "incomplete"},
    "j": {"role": "assistant", "content": "I b"},
    "c": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "r": {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
}


def spelt(letters: str) -> list[Message]:
    return [MESSAGES[letter] for letter in letters if letter != "-"]


def cases() -> list[Any]:
    """Return the rows of the module's two tables, and whether the history in the request counts."""
    rows: list[Any] = []
    for told_counts, table in enumerate((new_messages.__doc__ or "").split("    stored  told")[1:]):
        for line in table.splitlines()[1:]:
            cells = line.split()
            if len(cells) >= 6 and cells[5] in ("adds", "repeats", "edits", "continues"):
                rows.append(pytest.param(*cells[:6], bool(told_counts), id=line.strip()))
    return rows


@pytest.mark.parametrize(("stored", "told", "keeps", "adds", "begins", "kind", "counts"), cases())
def test_the_table_of_cases(
    stored: str, told: str, keeps: str, adds: str, begins: str, kind: str, counts: bool
) -> None:
    """Every row of the table at the module's head is what comes out."""
    new = find_new(spelt(stored), spelt(told), told_counts=counts)
    assert (spelt(stored)[: new.keep], new.messages) == (spelt(keeps), spelt(adds))
    assert (new.kind, new.begun) == (kind, MESSAGES.get(begins))
    assert new.replace_from == (None if new.keep == len(spelt(stored)) else new.keep)


TEXT = "What is the time?"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SAME: list[tuple[str, Message, Message]] = [
    (
        "a text and one text part",
        {"role": "user", "content": TEXT},
        {"role": "user", "content": [{"type": "text", "text": TEXT}]},
    ),
    (
        "a text part of the Responses API",
        {"role": "user", "content": TEXT},
        {"role": "user", "content": [{"type": "input_text", "text": TEXT}]},
    ),
    (
        "white space at an answer's end",
        {"role": "assistant", "content": "12:00\n"},
        {"role": "assistant", "content": "12:00"},
    ),
    (
        "what a server adds to an answer",
        {"role": "assistant", "content": "12:00"},
        {"role": "assistant", "content": "12:00", "annotations": [], "reasoning_content": "Hm."},
    ),
    (
        "what a server adds to a part",
        {"role": "assistant", "content": "12:00"},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "12:00", "annotations": [{"url": "u"}]}],
        },
    ),
    (
        "where a client caches a prompt",
        {"role": "user", "content": [{"type": "text", "text": TEXT}, PICTURE]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}},
                dict(reversed(PICTURE.items())),
            ],
        },
    ),
    (
        "no content and none",
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ),
    (
        "the order of keys in a call's arguments",
        {"role": "assistant", "tool_calls": [CALL]},
        {
            "role": "assistant",
            "tool_calls": [
                CALL | {"index": 0, "function": {"arguments": '{ "a":1 }', "name": "clock"}}
            ],
        },
    ),
    (
        "a call's arguments as an object",
        {"role": "assistant", "tool_calls": [CALL]},
        {
            "role": "assistant",
            "tool_calls": [CALL | {"function": {"name": "clock", "arguments": {"a": 1}}}],
        },
    ),
    (
        "a refusal and a refusal's part",
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ),
]
OTHER: list[tuple[str, Message, Message]] = [
    ("another text", {"role": "user", "content": "a"}, {"role": "user", "content": "b"}),
    ("another role", {"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}),
    (
        "white space of a user's",
        {"role": "user", "content": "a "},
        {"role": "user", "content": "a"},
    ),
    (
        "true and 1",
        {"role": "user", "content": [{"type": "x", "value": True}]},
        {"role": "user", "content": [{"type": "x", "value": 1}]},
    ),
    (
        "another picture",
        {"role": "user", "content": [PICTURE]},
        {"role": "user", "content": [PICTURE | {"image_url": {"url": "data:,"}}]},
    ),
    (
        "the result of another call",
        {"role": "tool", "tool_call_id": "c1", "content": "a"},
        {"role": "tool", "tool_call_id": "c2", "content": "a"},
    ),
    (
        "other arguments",
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "clock"}}]},
    ),
    (
        "arguments that are no JSON",
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    ),
]


ODD: list[Message] = [
    {"role": "assistant", "tool_calls": [None]},
    {"role": "assistant", "tool_calls": [{"id": "c1", "function": "clock"}]},
    {"role": "assistant", "tool_calls": 1},
    {"role": "user", "content": [None, 1, {"type": "text"}]},
]


def named(rows: list[tuple[str, Message, Message]]) -> list[Any]:
    return [pytest.param(one, other, id=name) for name, one, other in rows]


@pytest.mark.parametrize(("one", "other"), named(SAME))
def test_what_means_the_same_is_the_same(one: Message, other: Message) -> None:
    """Messages that differ in what servers and clients add or drop are one message."""
    assert is_same(one, other)
    assert is_same(other, one)


@pytest.mark.parametrize(("one", "other"), named(OTHER))
def test_what_means_something_else_is_not_the_same(one: Message, other: Message) -> None:
    """Messages that say different things are different messages."""
    assert not is_same(one, other)
    assert not is_same(other, one)


@pytest.mark.parametrize("message", ODD)
def test_a_message_of_any_shape_is_compared(message: Message) -> None:
    """What no API defines is the same as itself, and nothing else."""
    assert is_same(message, dict(message))
    assert not any(is_same(message, other) for other in (*MESSAGES.values(), {}))


@pytest.mark.parametrize(("stored", "told"), [("ucravb", "ucr"), ("ucravb", "r")])
def test_a_result_that_was_answered_long_ago_is_no_news(stored: str, told: str) -> None:
    """A client that repeats a call's result after the conversation went on has an old view."""
    with pytest.raises(SessionConflict):
        find_new(spelt(stored), spelt(told))


@pytest.mark.parametrize("depth", [90, 300, 950, 955, 960, 2000])
def test_arguments_may_nest_as_they_like(depth: int) -> None:
    """A stored call whose arguments nest deep is compared as any other."""
    arguments = "[" * depth + "]" * depth
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    stored = [MESSAGES["u"], {"role": "assistant", "tool_calls": [call]}, MESSAGES["r"]]
    assert find_new(stored, [*stored, MESSAGES["v"]]).messages == spelt("v")


@pytest.mark.parametrize("depth", [950, 955, 960])
def test_a_message_that_nests_too_deep_is_invalid(depth: int) -> None:
    """What the encoder cannot write is refused as a message, wherever its limit is."""
    content: Any = "x"
    for _ in range(depth):
        content = [content]
    with suppress(InvalidMessage):
        find_new(spelt("ua"), [*spelt("ua"), {"role": "user", "content": content}])
    with pytest.raises(InvalidMessage):
        find_new(spelt("ua"), [*spelt("ua"), {"role": "user", "content": nested(content)}])


def nested(value: Any) -> Any:
    for _ in range(5_000):
        value = [value]
    return value


def test_instructions_are_no_part_of_the_history() -> None:
    """System and developer messages of a request are left out, wherever they stand."""
    told = [{"role": "system", "content": "Be brief."}, MESSAGES["u"]]
    assert find_new([], [*told, {"role": "developer", "content": "Or not."}]).messages == spelt("u")
    with pytest.raises(ValueError, match="no message"):
        find_new(spelt("ua"), told[:1])


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("uavb", "ua"),  # another client has gone on
        ("uavb", "uava"),  # another client's answer to the same question
        ("ua", "ub"),  # made up
        ("ua", "b"),
    ],
)
def test_an_answer_that_is_not_the_last_one_is_not_continued(stored: str, told: str) -> None:
    """A client whose view is old neither replaces a complete answer nor asks its question again."""
    with pytest.raises(SessionConflict):
        find_new(spelt(stored), spelt(told))


def test_more_of_an_answer_that_broke_off_may_be_told() -> None:
    """The client saw pieces that the store did not, or fewer; its own beginning is continued."""
    new = find_new(spelt("uavi"), spelt("uavb"))
    assert (new.keep, new.kind, new.begun, new.replace_from) == (3, "continues", MESSAGES["b"], 3)


@pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": "\n"}]])
def test_an_empty_answer_at_the_end_is_none(content: Any) -> None:
    """Clients put a place for the answer there, which neither continues nor replaces one."""
    empty = {"role": "assistant", "content": content}
    new = find_new(spelt("ua"), [*spelt("uav"), empty])
    assert new == find_new(spelt("ua"), spelt("uav"))


def test_calls_at_the_end_are_no_beginning_of_an_answer() -> None:
    """A message that calls tools is followed by their results, and by nothing else."""
    with pytest.raises(ValueError, match="calls tools"):
        find_new(spelt("u"), spelt("uc"))


@pytest.mark.parametrize(
    ("stored", "told", "keep"),
    [
        ("uavb", "b", 3),
        ("uavb", "vb", 3),
        ("uavb", "avb", 3),
        ("uauavb", "uavbw", 6),  # the newest part begins as the whole does
    ],
)
def test_the_newest_part_alone_keeps_the_rest(stored: str, told: str, keep: int) -> None:
    """Where the request's history counts and is only a part, what is before it stays."""
    assert find_new(spelt(stored), spelt(told), told_counts=True).keep == keep


def test_an_unknown_answer_in_the_middle_proves_nothing() -> None:
    """One short answer that is in both, far from their ends, does not make the rest new."""
    ok: Message = {"role": "assistant", "content": "ok"}
    told = [MESSAGES["w"], ok, MESSAGES["e"], MESSAGES["b"], MESSAGES["v"]]
    new = find_new([*spelt("ua"), MESSAGES["u"], ok], told)
    assert (new.keep, new.messages) == (4, spelt("v"))


# Few words, so that questions and answers recur.
words = st.sampled_from(["yes", "no", "ok"])
turns = st.lists(
    st.tuples(
        words.map(lambda text: {"role": "user", "content": text}),
        words.map(lambda text: {"role": "assistant", "content": text}),
    ).map(list),
    max_size=8,
).map(lambda found: [message for turn in found for message in turn])
question = words.map(lambda text: {"role": "user", "content": text})


@given(turns, question)
def test_the_whole_talk_adds_its_last_message(stored: list[Message], asked: Message) -> None:
    """Told all that is stored and one message more, that one is added, however alike they are."""
    for told_counts in (False, True):
        new = find_new(stored, [*stored, asked], told_counts=told_counts)
        assert (new.keep, new.messages, new.kind) == (len(stored), [asked], "adds")


@given(turns, question)
def test_a_new_message_alone_is_added(stored: list[Message], asked: Message) -> None:
    """A client that tells its new message alone adds it, though it was said before."""
    new = find_new(stored, [asked])
    assert (new.keep, new.messages, new.kind) == (len(stored), [asked], "adds")


@given(turns, question, st.booleans())
def test_a_question_without_an_answer_is_stored_once(
    stored: list[Message], asked: Message, broke_off: bool
) -> None:
    """The same request again takes the place of its first attempt, told whole or in part."""
    cut = [{"role": "assistant", "content": "I th", "status": "incomplete"}] if broke_off else []
    for told in ([*stored, asked], [asked]):
        new = find_new([*stored, asked, *cut], told)
        assert (new.keep, new.messages, new.kind) == (len(stored), [asked], "repeats")


@given(turns, question, st.data())
def test_an_edit_keeps_what_comes_before_it(
    stored: list[Message], asked: Message, data: st.DataObject
) -> None:
    """Where the request's history counts, what it tells differently replaces the rest."""
    at = data.draw(st.integers(0, len(stored) // 2)) * 2
    edited = asked | {"content": "Rather this."}
    new = find_new(stored, [*stored[:at], edited], told_counts=True)
    assert (new.keep, new.messages) == (at, [edited])
    assert new.kind == ("adds" if at == len(stored) else "edits")


@given(turns, turns)
def test_whatever_is_told_keeps_what_there_is(stored: list[Message], told: list[Message]) -> None:
    """Whatever is told of whatever is stored, as many messages stay as there are, or fewer."""
    for told_counts in (False, True):
        # An answer that is not the last one is no answer to continue.
        with suppress(SessionConflict):
            new = find_new(stored, told or [MESSAGES["u"]], told_counts=told_counts)
            assert 0 <= new.keep <= len(stored)
            assert all(message in [*told, MESSAGES["u"]] for message in new.messages)


async def made(letters: str, limit: int | None = None, **options: Any) -> HermesSession:
    """Return a loaded session in which the messages are stored."""
    store = MemoryStore()
    if letters:
        await store.append("mine", spelt(letters))
    session = HermesSession(StoreClient(store, limit=limit), "mine", **options)
    await session.load()
    return session


async def test_a_session_says_what_is_new_in_its_conversation() -> None:
    """The stored history counts, unless the client's does or the session is new."""
    session = await made("uavb")
    assert session.new_messages(spelt("uaw")) == NewMessages(4, spelt("w"), "adds")
    session = await made("uavb", history_source="request")
    assert session.new_messages(spelt("uaw")) == NewMessages(2, spelt("w"), "edits", None, 2)
    session = HermesSession(MemoryStore(), "mine", is_new=True)
    assert session.new_messages(spelt("uaw")) == NewMessages(0, spelt("uaw"), "adds")


async def test_what_is_new_can_be_recorded_as_it_is_told() -> None:
    """A turn that takes another's place is stored where new_messages says."""
    session = await made("uavi")
    new = session.new_messages(spelt("v"))
    async with session.record(*new.messages, replace_from=new.replace_from) as recording:
        recording.write("Done.")
    answer = {"role": "assistant", "content": "Done."}
    assert session.history == [*spelt("uav"), answer]


async def test_places_count_what_is_not_loaded() -> None:
    """With a limit places count all that is stored; the client's history is refused."""
    session = await made("uavbw", limit=2)
    assert session.new_messages(spelt("w")) == NewMessages(4, spelt("w"), "repeats", None, 4)
    session = await made("uavbua", limit=2, history_source="request")
    with pytest.raises(HistoryNotLoaded, match="first 4 messages"):
        session.new_messages(spelt("uaw"))


async def test_a_degraded_session_takes_what_is_new_and_edits_nothing() -> None:
    """Where the store failed the newest question is answered; an edit is refused."""
    session = await made("")
    session.degraded = True
    assert session.new_messages(spelt("uav")) == NewMessages(0, spelt("v"), "adds")
    for letters in ("uavb", "ua", "a"):  # it is not known whether the answer is stored
        with pytest.raises(StoreUnavailable):
            session.new_messages(spelt(letters))
    session.history_source = "request"
    with pytest.raises(StoreUnavailable):
        session.new_messages(spelt("uav"))


async def test_an_answer_of_parts_is_continued_as_a_text() -> None:
    """The texts of an answer that is a list of parts are its beginning, and its other keys stay."""
    parts = [{"type": "text", "text": "I th"}, {"type": "text", "text": "ink"}, "odd"]
    begun = {
        "role": "assistant",
        "content": parts,
        "reasoning_content": "Hm.",
        "status": "incomplete",
    }
    session = HermesSession(MemoryStore(), "mine", is_new=True)
    async with session.record(MESSAGES["u"], begun=begun) as recording:
        recording.write(" so.")
    answer = {"role": "assistant", "content": "I think so.", "reasoning_content": "Hm."}
    assert session.history == [MESSAGES["u"], answer]
