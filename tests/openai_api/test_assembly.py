"""A message assembled from a stream's deltas, however a server cuts and numbers them."""

import json
from copy import deepcopy
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import MessageAssembly, as_delta, text_of, texts_in
from tests.support import json_values


def assembly() -> MessageAssembly:
    """Return an assembly that makes the ids made_1, made_2, ..."""
    numbers = count(1)
    return MessageAssembly(lambda: f"made_{next(numbers)}")


def assembled(deltas: list[Message]) -> tuple[Message, list[Message]]:
    """Return the message of the deltas, and what is told of each."""
    before, made = deepcopy(deltas), assembly()
    told = [made.add(delta) for delta in deltas]
    told.append(made.end())
    assert deltas == before
    return made.message, told


def as_a_client_does(told: list[Message]) -> Message:
    """Return what openai's Python SDK assembles of what is told, without indices."""
    message: dict[Any, Any] = {}
    for delta in told:
        message = accumulate_delta(message, deepcopy(delta))  # type: ignore[arg-type]
    for call in message.get("tool_calls") or []:
        del call["index"]
    return message


TEXT_AND = {"content": "Hi"}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
FIELDS: dict[str, tuple[list[Message], Message]] = {
    "text": ([{"role": "assistant", "content": ""}, {"content": "H"}, {"content": "i"}], TEXT_AND),
    "nothing": ([{"role": "assistant"}, {"content": None}, {}], {"content": ""}),
    "a refusal": (
        [{"refusal": "N"}, {"refusal": "o."}, {"refusal": None}], {"content": "", "refusal": "No."},
    ),
    "reasoning": (
        [{"reasoning_content": "H"}, {"reasoning_content": "m"}, {"content": "Hi"}],
        TEXT_AND | {"reasoning_content": "Hm"},
    ),
    "no reasoning, said so": (
        [{"reasoning_content": ""}, TEXT_AND], TEXT_AND | {"reasoning_content": ""},
    ),
    "a framework's item": (
        [{"hermes_item": {"format": "x", "item": "forged"}}, TEXT_AND], TEXT_AND,
    ),
    "empty fields": ([TEXT_AND, {"annotations": [], "refusal": "", "audio": {}}], TEXT_AND),
    "reasoning details": (
        [
            {"reasoning_details": [
                {"type": "reasoning.text", "text": "H", "format": "f", "index": 0}]},
            {"reasoning_details": [
                {"type": "reasoning.text", "text": "m", "format": "f", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 0}]},
        ],
        {"content": "", "reasoning_details": [
            {"type": "reasoning.text", "text": "Hm", "format": "f", "index": 0, "signature": "s"},
            {"type": "reasoning.encrypted", "data": "x", "index": 0}]},
    ),
    "annotations": (
        [{"annotations": [{"type": "url_citation", "url_citation": {"url": "a"}}]},
         {"annotations": [{"type": "url_citation", "url_citation": {"url": "b"}}]}],
        {"content": "", "annotations": [{"type": "url_citation", "url_citation": {"url": "a"}},
                                        {"type": "url_citation", "url_citation": {"url": "b"}}]},
    ),
    "audio": (
        [{"audio": {"id": "a_1", "transcript": "H"}}, {"audio": {"id": "a_1", "data": "AA"}},
         {"audio": {"data": "BB", "transcript": "i"}}, {"audio": {"expires_at": 5}}],
        {"content": "",
         "audio": {"id": "a_1", "transcript": "Hi", "data": "AABB", "expires_at": 5}},
    ),
    "parts of text": (
        [{"content": [{"type": "text", "text": part}]} for part in "Hi"],
        TEXT_AND,
    ),
    "parts of other types": (
        [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "H"}]}]},
         {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m."}]}]},
         {"content": "H"}, {"content": "i"}],
        {"content": [THINKING, {"type": "text", "text": "Hi"}]},
    ),
    "an older call": (
        [{"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"arguments": "}"}}],
        {"content": "", "function_call": {"name": "f", "arguments": "{}"}},
    ),
    "unknown fields": (
        [{"x_text": "a", "x_count": 1, "x_list": [1], "x": {"a": {"b": "c"}, "id": "1"}},
         {"x_text": "b", "x_count": 2, "x_list": [2], "x": {"a": {"b": "d"}, "id": "1"}}],
        {"content": "", "x_text": "ab", "x_count": 2, "x_list": [1, 2],
         "x": {"a": {"b": "cd"}, "id": "1"}},
    ),
    "a list that becomes text": ([{"x": ["a"]}, {"x": "b"}], {"content": "", "x": "b"}),
    "text that becomes a list": ([{"x": "a"}, {"x": ["b"]}], {"content": "", "x": ["b"]}),
    "halves of a character": (
        [{"content": "a\ud83d"}, {"reasoning": "\ud83d"}, {"content": "\ude00b"},
         {"reasoning": "\ude01"}],
        {"content": "a\U0001f600b", "reasoning": "\U0001f601"},
    ),
    "halves in parts": (
        [{"content": [{"type": "text", "text": "\ud83d"}]}, {"content": "\ude00"}],
        {"content": "\U0001f600"},
    ),
    "names with halves": (
        [{"\ud800": "a", "x": {"\ud800": 1}}, {"\ud800": "b"}],
        {"content": "", "\ufffd": "ab", "x": {"\ufffd": 1}},
    ),
    "halves that stay alone": (
        [{"content": "\ude00a\ud83d"}, {"x": ["\ud83d", ["\ud83d"], {"\ud83d": "\ud83d"}]},
         {"refusal": "\ud83d"}, {"content": "\ud83d", "id": "\ud83d"}],
        {"content": "\ufffda\ufffd\ufffd", "x": ["\ufffd", ["\ufffd"], {"\ufffd": "\ufffd"}],
         "refusal": "\ufffd", "id": "\ufffd"},
    ),
    "a half in a call": (
        [{"tool_calls": [
            {"index": 7, "id": "1", "function": {"name": "f", "arguments": "\ud83d"}}]},
         {"reasoning_details": [{"index": 3, "text": "\ud83d"}]}],
        {"content": None,
         "tool_calls": [
             {"id": "1", "type": "function", "function": {"name": "f", "arguments": "\ufffd"}}],
         "reasoning_details": [{"index": 3, "text": "\ufffd"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "message"), FIELDS.values(), ids=FIELDS)
def test_every_field_is_kept_and_grows_as_it_means(deltas: list[Message], message: Message) -> None:
    """Texts are concatenated, names are not, and a client that goes by index has the same."""
    made, told = assembled(deltas)
    assert made == message
    json.dumps([made, *told], ensure_ascii=False).encode()
    texts = [text_of(delta["content"]) for delta in told if delta.get("content")]
    assert "".join(texts) == text_of(message["content"])


def piece(
    index: int | None = None, id: str | None = None, name: str | None = None,  # noqa: A002
    arguments: str | None = None, **others: Any,
) -> Message:  # fmt: skip
    called = {"name": name, "arguments": arguments}
    function = {key: value for key, value in called.items() if value is not None}
    given = {"index": index, "id": id, "function": function or None, **others}
    return {key: value for key, value in given.items() if value is not None}


F1, G2 = ("1", "f", "{}"), ("2", "g", "{}")
CALLS: dict[str, tuple[list[list[Message]], list[tuple[str, str, str]]]] = {
    "as OpenAI sends them": (
        [[piece(0, "1", "f", "")], [piece(0, None, None, "{")], [piece(0, None, None, "}")],
         [piece(1, "2", "g", "")], [piece(1, None, None, "{}")]], [F1, G2]),
    "interleaved": (
        [[piece(0, "1", "f", "{")], [piece(1, "2", "g", "{")], [piece(0, None, None, "}")],
         [piece(1, None, None, "}")]], [F1, G2]),
    "several in one delta": ([[piece(0, *F1), piece(1, *G2)]], [F1, G2]),
    "several pieces of one in one delta": (
        [[piece(0, "1", "f", "{"), piece(0, None, None, "}")]], [F1]),
    "all at index 0": ([[piece(0, *F1)], [piece(0, *G2)]], [F1, G2]),
    "all at index 0, in pieces": (
        [[piece(0, "1", "f", "{")], [piece(0, None, None, "}")], [piece(0, "2", "g", "{")],
         [piece(0, None, None, "}")]], [F1, G2]),
    "all at index 0, in one delta": ([[piece(0, *F1), piece(0, *G2)]], [F1, G2]),
    "all at index 0, without ids": (
        [[piece(0, None, "f", "{}")], [piece(0, None, "f", "{}")], [piece(0, None, "g", "{}")]],
        [("made_1", "f", "{}"), ("made_2", "f", "{}"), ("made_3", "g", "{}")]),
    "all at index 0, without ids, in one delta": (
        [[piece(0, None, "f"), piece(0, None, "g")]], [("made_1", "f", ""), ("made_2", "g", "")]),
    "without an index": (
        [[piece(None, "1", "f", "{")], [piece(None, None, None, "}")], [piece(None, "2", "g", "{")],
         [piece(None, None, None, "}")]], [F1, G2]),
    "without an index, with ids in each piece": (
        [[piece(None, "1", "f", "{")], [piece(None, "2", "g", "{")], [piece(None, "1", None, "}")],
         [piece(None, "2", None, "}")]], [F1, G2]),
    "without an index or ids": (
        [[piece(None, None, "f", "{}")], [piece(None, None, "g", "{}")]],
        [("made_1", "f", "{}"), ("made_2", "g", "{}")]),
    "by their place": (
        [[piece(None, "1", "f", "{"), piece(None, "2", "g", "{")],
         [piece(None, None, None, "}"), piece(None, None, None, "}")]], [F1, G2]),
    "an id in each piece": ([[piece(0, "1", "f", "{")], [piece(0, "1", None, "}")]], [F1]),
    "an empty id in later pieces": ([[piece(0, "1", "f", "{")], [piece(0, "", "", "}")]], [F1]),
    "an id that comes late": (
        [[piece(0, None, "f", "{")], [piece(0, "1", None, "}")], [piece(0, "1", None, " ")]],
        [("made_1", "f", "{} ")]),
    "a name in each piece": (
        [[piece(0, "1", "f", "{")], [piece(0, "1", "f", "}")], [piece(0, None, "f", "")]], [F1]),
    "a name in parts": ([[piece(0, "1", "get_")], [piece(0, None, "time", "{}")]],
                        [("1", "get_time", "{}")]),
    "a name that grows": ([[piece(0, "1", "get_")], [piece(0, None, "get_time", "{}")]],
                          [("1", "get_time", "{}")]),
    "a call that is told again": ([[piece(0, *F1)], [piece(0, *F1)]], [F1]),
    "one id for two calls": (
        [[piece(0, "1", "f", "{}")], [piece(1, "1", "f", '{"a": 1}')]],
        [F1, ("made_1", "f", '{"a": 1}')]),
    "another name after arguments": (
        [[piece(0, None, "f", "x")], [piece(0, None, "g", "y")]],
        [("made_1", "f", "x"), ("made_2", "g", "y")]),
    "braces that end no object": (
        [[piece(0, None, "f", '{"a": "}')], [piece(0, None, "f", '"}')]],
        [("made_1", "f", '{"a": "}"}')]),
    "no arguments": ([[piece(0, "1", "f")], [piece(1, "2", "g")]],
                     [("1", "f", ""), ("2", "g", "")]),
    "no number from 0": ([[piece(3, *F1)], [piece(5, *G2)]], [F1, G2]),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "expected"), CALLS.values(), ids=CALLS)
def test_calls_are_assembled_however_they_are_numbered(
    deltas: list[list[Message]], expected: list[tuple[str, str, str]]
) -> None:
    """By id and by index; the client, which goes by index, has the same calls by the same ids."""
    message, told = assembled([{"tool_calls": pieces} for pieces in deltas])
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in expected
    ]
    assert message == {"content": None, "tool_calls": calls}
    assert as_a_client_does(told)["tool_calls"] == calls


def test_what_a_provider_adds_to_a_call_is_kept() -> None:
    """Also of calls that are no functions."""
    signed: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "x"}}}
    custom = {"type": "custom", "custom": {"name": "sql", "input": "SELECT"}}
    message, told = assembled([
        {"tool_calls": [piece(0, *F1, type="function", **signed)]},
        {"tool_calls": [{"index": 1, "id": "2", **custom}]},
        {"tool_calls": [{"index": 1, "custom": {"input": " 1"}},
                        {"index": 2, "id": "3", "type": "x"}]},
        {"tool_calls": [{"index": 0, **signed}]},
    ])  # fmt: skip
    function = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert message["tool_calls"] == [
        {"id": "1", **function, **signed},
        {"id": "2", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
        {"id": "3", "type": "x"},
    ]
    assert told[0]["tool_calls"][0]["extra_content"] == signed["extra_content"]


def test_a_text_and_calls_are_one_message() -> None:
    """A message that calls tools may have a text, too."""
    message, _ = assembled([{"content": "Hm."}, {"tool_calls": [piece(0, *F1)]}])
    assert message["content"] == "Hm."
    assert [call["id"] for call in message["tool_calls"]] == ["1"]


def test_an_id_is_made_if_there_is_none() -> None:
    """A call's result can be matched to it, and no two calls have the same."""
    made = MessageAssembly()
    told = [made.add({"tool_calls": [piece(at, None, "f", "{}")]}) for at in range(2)]
    ids = [call["id"] for call in made.message["tool_calls"]]
    assert ids == [delta["tool_calls"][0]["id"] for delta in told]
    assert len(set(ids)) == 2
    assert all(each.startswith("call_") for each in ids)


def test_a_stored_answer_is_a_delta_again() -> None:
    """Without what is for the store alone, and with calls that have their numbers."""
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"content": "", "tool_calls": calls, "reasoning_content": "Hm.", "x": False}
    stored = {"role": "assistant", **message, "usage": {}, "model": "m", "refusal": None}
    assert assembled([as_delta(stored)])[0] == {
        "content": None, "tool_calls": calls, "reasoning_content": "Hm."}  # fmt: skip
    assert as_delta({"role": "assistant", "content": "Hi", "model": "m"}) == {"content": "Hi"}


def test_what_is_called_may_be_of_any_type() -> None:
    """Where a model of an application's own gives it: what grows as a text is a text alone."""
    function: dict[str, Any] = {"name": "f", "arguments": {}}
    deltas: list[Message] = [
              {"tool_calls": [{"index": 0, "id": "1", "function": function}]},
              {"tool_calls": [{"index": 0, "id": "1", "function": function | {"arguments": "{}"}}]},
              {"reasoning_details": [{"index": 0, "text": "a"}, 1, {"index": 1, "text": "b"}]},
              {"reasoning_details": [{"index": 1, "text": "c"}]}]  # fmt: skip
    message, _ = assembled(deltas)
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert message["reasoning_details"] == [
        {"index": 0, "text": "a"}, 1, {"index": 1, "text": "bc"}]  # fmt: skip


def test_all_texts_of_a_delta_are_counted() -> None:
    """Wherever they are in it."""
    assert list(texts_in({"a": ["b", {"c": "d"}], "e": 1, "f": "g"})) == ["b", "d", "g"]


NAMES = st.text("abc_", min_size=1, max_size=4)
WORDS = st.text(min_size=1).filter(lambda text: "\ufffd" not in text)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    texts = draw(st.dictionaries(st.sampled_from(["refusal", "reasoning_content", "x"]), WORDS))
    arguments = draw(st.lists(st.dictionaries(WORDS, WORDS, max_size=2), max_size=3))
    calls = [
        {"id": f"id_{at}", "type": "function", "extra_content": {"signature": draw(WORDS)},
         "function": {"name": draw(NAMES), "arguments": json.dumps(each, ensure_ascii=False)}}
        for at, each in enumerate(arguments)
    ]  # fmt: skip
    content = draw(WORDS | st.none()) if calls else draw(WORDS)
    return {"content": content, **texts} | ({"tool_calls": calls} if calls else {})


def cut(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text anywhere, also between the halves of a character."""
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [
        units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)
    ]
    places = sorted(draw(st.lists(st.integers(0, len(halves)), max_size=4)))
    return ["".join(halves[a:b]) for a, b in zip([0, *places], [*places, len(halves)], strict=True)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Message, list[Message]]:
    """A message, and deltas of it: fields in any order, calls one by one or interleaved."""
    message = draw(messages())
    lines: list[list[Message]] = [
        [{name: part} for part in cut(draw, value)]
        for name, value in message.items() if isinstance(value, str)
    ]  # fmt: skip
    repeats, numbers, at_zero = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    by_call = []
    for at, call in enumerate(message.get("tool_calls", [])):
        parts = cut(draw, call["function"]["arguments"])
        name = call["function"]["name"]
        pieces = []
        for number, part in enumerate(parts):
            first = (
                {key: call[key] for key in ("id", "type", "extra_content")} if not number else {}
            )
            id_ = {"id": call["id"]} if repeats or not number else {}
            index = {"index": 0 if at_zero else at} if numbers else {}
            called = {"arguments": part} | ({"name": name} if not number else {})
            pieces.append({"tool_calls": [{**first, **id_, **index, "function": called}]})
        by_call.append(pieces)
    can_mix = repeats or (numbers and not at_zero)
    lines += by_call if can_mix else [[each for pieces in by_call for each in pieces]]
    if can_mix and by_call:  # the calls' beginnings are in order
        firsts = [pieces.pop(0) for pieces in by_call]
        lines.append([])
        deltas = firsts
    else:
        deltas = []
    lines = [line for line in lines if line]
    while lines:
        line = draw(st.sampled_from(lines))
        deltas.append(line.pop(0))
        lines = [line for line in lines if line]
    return message, deltas


@given(streams())
def test_a_message_is_whole_however_it_is_cut(stream: tuple[Message, list[Message]]) -> None:
    """The deltas of a message give the message back, and what is told of them does, too."""
    message, deltas = stream
    made, told = assembled(deltas)
    assert made == message
    client = as_a_client_does(told)
    assert client.get("tool_calls") == message.get("tool_calls")
    assert {**client, "content": client.get("content")} == message
    assert assembled(told)[0] == message


@given(
    st.lists(
        json_values.messages.map(
            lambda fields: {
                name: value
                for name, value in fields.items()
                if name not in ("content", "tool_calls")
            }
        )
    )
)
def test_any_field_can_be_assembled(deltas: list[Message]) -> None:  # fmt: skip
    """Whatever providers think of, the message is JSON, and so is what is told."""
    made, told = assembled(deltas)
    assert json.loads(json.dumps([made, told])) == [made, told]
