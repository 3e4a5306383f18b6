"""What an upstream's chunk says, in the ways of real servers, and of none."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.openai_api.assembly import MessageAssembly, add_to_choice
from hermes_session_mw.openai_api.characters import whole, whole_text
from hermes_session_mw.openai_api.chunks import Chunk, InvalidChunk, parse_json, read_chunk
from hermes_session_mw.openai_api.retry_after import read_retry_after
from hermes_session_mw.openai_api.usage import estimated_usage, read_usage
from tests.support import json_values

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 1}, "cost": 0.5}


def c(choice: Any, **beside: Any) -> dict[str, Any]:
    return {"choices": [choice], **beside}


def calls(call: Any) -> dict[str, Any]:
    return c({"delta": {"tool_calls": [call]}})


SAYS: dict[str, tuple[Any, Chunk | None]] = {
    "text": (c({"index": 0, "delta": {"role": "assistant", "content": "a"}}),
             Chunk(delta={"content": "a"})),
    "a whole message": (
        c({"message": {"content": "a"}}), Chunk(delta={"content": "a"}, is_whole=True)),
    "an end": (c({"delta": {}, "finish_reason": "stop"}), Chunk(finish_reason="stop")),
    "no end": (c({"delta": {}, "finish_reason": ""}), Chunk()),
    "an end that is none": (c({"delta": {}, "finish_reason": 1}), Chunk()),
    "no delta": (c({"delta": None}), Chunk()),
    "no field": (c({"delta": {"content": None, "refusal": None}}), Chunk()),
    "a choice of nothing": (c({}), Chunk()),
    "no choice": ({"choices": []}, Chunk()),
    "another choice": (c({"index": 1, "delta": {"content": "b"}}), Chunk()),
    "a choice without an index": (
        {"choices": [None, {"index": None, "delta": {"content": "a"}}]},
        Chunk(delta={"content": "a"})),
    "a usage and a model": (
        {"choices": [], "usage": USAGE | DETAILS, "model": "m"},
        Chunk(usage=USAGE | DETAILS, model="m")),
    "a model that is none": ({"choices": [], "usage": 1, "model": 1}, Chunk()),
    "what a provider adds": (
        c({"delta": {"content": "a", "x": 1}, "logprobs": {"content": []}, "z": None},
          id="1", object="o", created=1, citations=["u"], obfuscation="x"),
        Chunk(delta={"content": "a", "x": 1}, choice={"logprobs": {"content": []}},
              beside={"citations": ["u"]})),
    "parts": (c({"delta": {"content": [{"type": "text", "text": "a"}]}}),
              Chunk(delta={"content": [{"type": "text", "text": "a"}]})),
    "half a character": (c({"delta": {"content": "\ud83d"}}), Chunk(delta={"content": "\ud83d"})),
    "half a character elsewhere": (
        c({"delta": {}}, model="\ud83d", x="\ud83d"),
        Chunk(model="\ufffd", beside={"x": "\ufffd"})),
    "a call": (calls({"index": 0, "id": "1", "function": {"name": "f", "arguments": "{"}}),
               Chunk(delta={"tool_calls": [
                   {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{"}}]})),
    "no call": (c({"delta": {"tool_calls": [None]}}), Chunk(delta={"tool_calls": []})),
    "a call with numbers for texts": (calls({"index": "12", "id": 7}),
                                      Chunk(delta={"tool_calls": [{"index": 12, "id": "7"}]})),
    "a call with nothing": (
        calls({"index": True, "id": "", "type": None, "function": {"name": None}}),
        Chunk(delta={"tool_calls": [{"function": {}}]})),
    "a call with an object": (
        calls({"function": {"arguments": {"a": "é"}}, "custom": {"input": [1]}}),
        Chunk(delta={"tool_calls": [
            {"function": {"arguments": '{"a": "é"}'}, "custom": {"input": "[1]"}}]})),
    "nothing": ({}, None),
    "null choices": ({"choices": None}, None),
    "a ping": ({"type": "ping"}, None),
    "null": (None, None),
    "a list": ([], None),
    "two": ([{}, {}], None),
    "a number": (1, None),
    "a text": ("text", None),
    "an error": ({"error": {"message": "no"}}, Chunk(error={"message": "no"})),
    "an error of text": ({"error": "no\ud83d", "choices": []}, Chunk(error="no\ufffd")),
    "an error in a list": ([{"error": {"code": 400}}], Chunk(error={"code": 400})),
    "an error as vLLM has it": ({"object": "error", "message": "no"},
                                Chunk(error={"object": "error", "message": "no"})),
    "no error": (
        c({"delta": {"content": "a"}}, error=None, type="error"), Chunk(delta={"content": "a"})),
}  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), SAYS.values(), ids=SAYS)
def test_a_chunk_says_what_it_means(value: Any, expected: Chunk | None) -> None:
    """And what says nothing is passed over."""
    assert read_chunk(json.dumps(value)) == expected
    assert read_chunk(json.dumps(value).encode()) == expected


def test_an_event_may_be_an_error_by_its_name() -> None:
    """Whatever its data is, unless it is a part of an answer."""
    assert read_chunk('{"message": "no"}', "error") == Chunk(error={"message": "no"})
    assert read_chunk('{"choices": [{}]}', "error") == Chunk()
    assert read_chunk('{"type": "ping"}', "ping") is None


@pytest.mark.parametrize("value", [
    {"choices": 1}, {"choices": {}}, c(1), c({"delta": 1}), c({"delta": "a"}), c({"message": [1]}),
    c({"delta": {"content": 1}}), c({"delta": {"content": {}}}), c({"delta": {"tool_calls": 1}}),
    calls(1), calls({"function": 1}), calls({"custom": "a"}),
])  # fmt: skip
def test_what_is_no_chunk_is_refused(value: Any) -> None:
    """A field of another type than it can have."""
    with pytest.raises(InvalidChunk):
        read_chunk(json.dumps(value))


@pytest.mark.parametrize("data", ["", "{", b"\xff", "[" * 200 + "]" * 200, '{"a":' * 100_000])
def test_what_is_no_json_is_refused(data: str | bytes) -> None:
    """Or nests deeper than a message may."""
    with pytest.raises(InvalidChunk):
        read_chunk(data)


def test_numbers_that_json_has_not_are_null() -> None:
    """As Python writes them, or too large for a float."""
    assert parse_json("[NaN, -Infinity, 1e999, 1.5, 7]") == [None, None, None, 1.5, 7]


json_texts = st.characters() | st.text(st.characters())
anything = st.recursive(
    json_values.scalars | json_texts,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "delta", "message", "tool_calls", "function", "custom", "id",
                         "index", "content", "name", "arguments", "error", "usage", "type", "text",
                         "logprobs"]),
        inner, max_size=4,
    ),
    max_leaves=30,
)  # fmt: skip


@given(st.lists(anything | anything.map(lambda value: c({"delta": value})) | anything.map(calls)))
def test_any_json_is_read_or_refused(values: list[Any]) -> None:
    """Nothing else is raised, and what is read can be assembled, sent and stored."""
    made = MessageAssembly()
    choice: dict[str, Any] = {}
    told = []
    for value in values:
        try:
            chunk = read_chunk(json.dumps(value))
        except InvalidChunk:
            continue
        if chunk is not None and not chunk.error:
            told.append(made.add(chunk.delta))
            add_to_choice(choice, chunk.choice)
    said = json.dumps([made.message, made.end(), told, choice], ensure_ascii=False)
    said.encode()


@given(st.text() | st.binary())
def test_any_data_is_read_or_refused(data: str | bytes) -> None:
    """Nothing else is raised."""
    with suppress(InvalidChunk):
        read_chunk(data)


def test_logprobs_are_put_together() -> None:
    """What a choice has beside its delta is the newest, and its logprobs are all of them."""
    choice: dict[str, Any] = {}
    for token in "ab":
        piece = {"logprobs": {"content": [{"token": token}], "refusal": None}, "x": {"y": token}}
        add_to_choice(choice, piece)
    add_to_choice(choice, {"logprobs": None})
    tokens = [{"token": "a"}, {"token": "b"}]
    assert choice == {"logprobs": {"content": tokens}, "x": {"y": "b"}}


@pytest.mark.parametrize(("text", "expected"), [
    ("a\ud83d\ude00b", "a\U0001f600b"), ("\ud83d", "\ufffd"), ("\ude00\ud83d", "\ufffd\ufffd"),
    ("é", "é"),
])  # fmt: skip
def test_halves_of_a_character_become_whole(text: str, expected: str) -> None:
    """Two that belong together are one, and others are replaced, in keys as well."""
    assert whole_text(text) == expected
    assert whole({text: [text, 1, None]}) == {expected: [expected, 1, None]}


COUNTED = {"prompt_tokens": 1, "completion_tokens": 2}


@pytest.mark.parametrize(("value", "usage"), [
    (USAGE | DETAILS, USAGE | DETAILS), (COUNTED, USAGE), (COUNTED | {"total_tokens": None}, USAGE),
    (None, None), ([], None), ({"prompt_tokens": "1", "completion_tokens": 2}, None),
    ({"prompt_tokens": 1}, None), (COUNTED | {"prompt_tokens": True}, None),
    (COUNTED | {"prompt_tokens": -1}, None),
])  # fmt: skip
def test_a_usage_has_its_counts(value: Any, usage: Any) -> None:
    """With all that is beside them, or it is none."""
    assert read_usage(value) == usage


def test_a_usage_that_is_not_told_is_estimated() -> None:
    """It says so, and can be read as one that was told."""
    usage = estimated_usage([{"role": "user", "content": "Well, well."}], "Well.")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert usage["estimated"] is True
    assert read_usage(usage) == usage


NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(("value", "sent"), [
    ("7", "7"), (" 7 ", "7"), ("0", "1"), ("-1", "1"), ("0.2", "1"), ("1.5", "2"), ("60", "60"),
    ("61", "60"), ("3600", "60"),
    ("Wed, 21 Oct 2026 07:28:30 GMT", "30"), ("Wed, 21 Oct 2026 07:28:30 -0000", "30"),
    ("Wed, 21 Oct 2026 06:00:00 GMT", "1"), ("Wed, 21 Oct 2026 09:00:00 GMT", "60"),
    ("", None), ("soon", None), ("nan", None), ("inf", None), ("1e3", None), ("9" * 5000, None),
    ("\u0667", None), ("Wed, 99 Oct 2026 07:28:30 GMT", None), ("Wed, 21 Oct 0 07:28:30 GMT", "1"),
    ("\x01", None), ("a" * 41, None),
])  # fmt: skip
def test_a_time_to_wait_is_between_1_and_60_seconds(value: str, sent: str | None) -> None:
    """Whatever an upstream says, as all SDKs understand it; what is no time is not sent."""
    assert read_retry_after(value, NOW) == sent


@given(st.text())
def test_any_time_to_wait_is_read(value: str) -> None:
    """Nothing is raised, also by the clock's time."""
    sent = read_retry_after(value)
    assert sent is None or 1 <= int(sent) <= 60
