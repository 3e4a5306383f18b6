"""What a fold stores of an answer whose writer has died."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import InvalidMessage, MessageTooLarge, StoreCorrupt
from hermes_session_mw.messages import encode_messages
from hermes_session_mw.stores.answer_folding import Events, check_events, encode_event, folded

ASKED = ['{"role":"user","content":"Why?"}']
MAX_BYTES = 200
QUESTION = {"role": "user", "content": "Why?"}
PART = {"role": "assistant", "content": "Be", "status": "incomplete"}
BEGUN = '{"role":"assistant","content":"B"}'

Writes = list[tuple[str | None, Sequence[str]]]


def as_texts(*events: Any) -> Writes:
    """Return a write of events that are texts, or nothing."""
    return [(None, [json.dumps(event) for event in events])]


def as_growth(*changes: Any) -> Writes:
    """Return a write that tells what the message grew by."""
    return [(json.dumps(changes), ["?"])]


WHOLE = as_growth(["=", ["role"], "assistant"], ["=", ["content"], "Be"])

CASES: dict[str, tuple[str | None, Writes, bool, list[Any]]] = {
    "nothing": (None, [], False, [QUESTION]),
    "nothing, in place of a turn": (None, [], True, []),
    "texts": (None, as_texts("B", "e"), True, [QUESTION, PART]),
    "texts of many writes": (None, as_texts("B") + as_texts("e"), True, [QUESTION, PART]),
    "empty texts": (None, as_texts("", ""), True, []),
    "objects alone": (None, as_texts({"delta": "B"}), True, []),
    "texts and objects": (
        None,
        as_texts("B", {"delta": "?"}, "e", 7, None),
        False,
        [QUESTION, PART],
    ),
    "the message so far": (None, WHOLE, True, [QUESTION, PART]),
    "a message that was complete": (
        None,
        WHOLE + as_growth(["=", ["status"], "completed"]),
        False,
        [QUESTION, PART],
    ),
    "a message without content": (
        None,
        as_growth(["=", ["role"], "assistant"], ["=", ["content"], ""]),
        True,
        [],
    ),
    "parts": (
        None,
        as_growth(["=", [], {"role": "assistant", "content": [{"type": "text", "text": "B"}]}])
        + as_growth(["+", ["content", 0, "text"], "e"]),
        False,
        [QUESTION, {**PART, "content": [{"type": "text", "text": "Be"}]}],
    ),
    "a beginning and texts": (BEGUN, as_texts("e"), True, [QUESTION, PART]),
    "a beginning and growth": (BEGUN, as_growth(["+", ["content"], "e"]), True, [QUESTION, PART]),
    "a beginning alone": (BEGUN, [], False, [QUESTION, {**PART, "content": "B"}]),
    "a beginning alone, in place of a turn": (BEGUN, [], True, []),
    "a beginning without a text": (
        '{"role":"assistant","content":null,"n":1}',
        as_texts("Be"),
        True,
        [QUESTION, {**PART, "n": 1}],
    ),
    "a beginning of parts": (
        '{"role":"assistant","content":[{"type":"text","text":"B"}]}',
        as_texts("e"),
        True,
        [QUESTION, {**PART, "content": [{"type": "text", "text": each} for each in "Be"]}],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_fold_stores(case: str) -> None:
    """A fold stores the question, and the answer so far, marked as incomplete."""
    begun, writes, replaces, expected = CASES[case]
    bodies = folded(ASKED, begun, writes, replaces=replaces, max_bytes=MAX_BYTES)
    assert [json.loads(body) for body in bodies] == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.booleans())
def test_a_fold_fits(text: str, in_message: bool) -> None:
    """A text that would be too large is cut off, and one that fits is stored whole."""
    message = {"role": "assistant", "content": text}
    writes = as_growth(["=", [], message]) if in_message else as_texts(text)
    bodies = folded([], None, writes, replaces=False, max_bytes=MAX_BYTES)
    whole = encode_messages([{**message, "status": "incomplete"}])[0]
    for body in bodies:
        stored = json.loads(body)
        assert len(body.encode()) <= MAX_BYTES
        assert text.startswith(stored["content"])
        assert (stored["content"] == text) == (len(whole.encode()) <= MAX_BYTES)
    assert bool(bodies) == bool(text)


@pytest.mark.parametrize(
    "growth",
    [
        "?",
        "7",
        '[["+",["content"],"e"]]',
        '[["=",["a","b"],1]]',
        '[["+",["role"],7]]',
        '[["=",["content"],[]],["+",["content"],"e"]]',
    ],
)
def test_growth_that_does_not_fit_is_corrupt(growth: str) -> None:
    """What is no change of the message was not written so, and is refused."""
    writes: Writes = [('[["=",["role"],"assistant"]]', ["?"]), (growth, ["?"])]
    with pytest.raises(StoreCorrupt):
        folded([], None, writes, replaces=False, max_bytes=MAX_BYTES)


@given(st.integers(1, 9), st.lists(st.integers(), max_size=9), st.integers(0, 9), st.booleans())
def test_events_that_are_stored_are_skipped(
    first: int, values: list[int], stored: int, has_growth: bool
) -> None:
    """What follows the stored events is left, under its own numbers; a gap is refused."""
    growth = "[]" if has_growth else None
    events = Events(first, [str(value) for value in values], growth)
    if first > stored + 1:
        with pytest.raises(ValueError, match="gap"):
            events.after(stored)
        return
    numbered = dict(enumerate(values, first))
    left = [str(value) for number, value in numbered.items() if number > stored]
    if has_growth and 0 < len(left) < len(values):
        with pytest.raises(ValueError, match="growth"):
            events.after(stored)
        return
    assert events.after(stored) == Events(stored + 1, left, growth)
    assert events.after(stored).lines.split("\n") == (left or [""])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
    | st.text("a\x85\u2028\u2029\n\r\x1c\u20ac\U0001f642")
)
def test_any_json_is_an_event_of_one_line(payload: Any) -> None:
    """An event is one line, by whatever ends lines, and comes back as it was."""
    try:
        body = encode_event(payload, 1000)
    except InvalidMessage:  # a lone surrogate
        assert "\\ud" in json.dumps(payload)
        return
    assert body.splitlines() == [body]
    assert json.loads(body) == payload
    assert check_events(1, [body, body], 1000).bodies == [body, body]


@pytest.mark.parametrize("payload", [(1,), float("nan"), {1: 2}, b"x", "\ud800", [["\ud800"]]])
def test_what_is_no_json_is_no_event(payload: Any) -> None:
    """What would not come back as it was is refused."""
    with pytest.raises(InvalidMessage):
        encode_event(payload, 1000)


@pytest.mark.parametrize("payload", ["x" * 9, ["x" * 7], "\u20ac" * 3])
def test_an_event_has_its_bound(payload: Any) -> None:
    """An event of more bytes than a message may have is refused, also as a text."""
    body = encode_event(payload, 11)
    with pytest.raises(MessageTooLarge):
        encode_event(payload, 10)
    check_events(1, [body] * 3, 11)
    with pytest.raises(MessageTooLarge):
        check_events(1, [body], 10)
