"""What a fold stores of an answer whose writer has died."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.messages import encode_messages
from hermes_session_mw.stores.answer_folding import Events, folded

ASKED = ['{"role":"user","content":"Why?"}']
MAX_BYTES = 200
QUESTION = {"role": "user", "content": "Why?"}
PART = {"role": "assistant", "content": "Be", "status": "incomplete"}
SO_FAR = '{"role":"assistant","content":"Be"}'

CASES: dict[str, tuple[str | None, list[object], bool, list[Any]]] = {
    "nothing": (None, [], False, [QUESTION]),
    "nothing, in place of a turn": (None, [], True, []),
    "texts": (None, ["B", "e"], True, [QUESTION, PART]),
    "empty texts": (None, ["", ""], True, []),
    "objects alone": (None, [{"delta": "B"}], True, []),
    "texts and objects": (None, ["B", {"delta": "?"}, "e", 7, None], False, [QUESTION, PART]),
    "the message so far": (SO_FAR, [], True, [QUESTION, PART]),
    "a message that was complete": (
        '{"role":"assistant","content":"Be","status":"completed"}',
        ["?"],
        False,
        [QUESTION, PART],
    ),
    "parts": (
        '{"role":"assistant","content":[{"type":"text","text":"Be"}]}',
        [],
        False,
        [QUESTION, {**PART, "content": [{"type": "text", "text": "Be"}]}],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_fold_stores(case: str) -> None:
    """A fold stores the question, and the answer so far, marked as incomplete."""
    partial, events, replaces, expected = CASES[case]
    bodies = folded(ASKED, partial, events, replaces=replaces, max_bytes=MAX_BYTES)
    assert [json.loads(body) for body in bodies] == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.booleans())
def test_a_fold_fits(text: str, in_message: bool) -> None:
    """A text that would be too large is cut off, and one that fits is stored whole."""
    message = {"role": "assistant", "content": text}
    partial, events = (json.dumps(message), []) if in_message else (None, [text])
    bodies = folded([], partial, events, replaces=False, max_bytes=MAX_BYTES)
    whole = encode_messages([{**message, "status": "incomplete"}])[0]
    for body in bodies:
        stored = json.loads(body)
        assert len(body.encode()) <= MAX_BYTES
        assert text.startswith(stored["content"])
        assert (stored["content"] == text) == (len(whole.encode()) <= MAX_BYTES)
    assert bool(bodies) == bool(text or in_message)


@given(st.integers(1, 9), st.lists(st.integers(), max_size=9), st.integers(0, 9))
def test_events_that_are_stored_are_skipped(first: int, values: list[int], stored: int) -> None:
    """What follows the stored events is left, under its own numbers; a gap is refused."""
    events = Events(first, [str(value) for value in values])
    if first > stored + 1:
        with pytest.raises(ValueError, match="gap"):
            events.after(stored)
        return
    rest = events.after(stored)
    numbered = dict(enumerate(values, first))
    assert rest.first == stored + 1
    assert json.loads(rest.array) == [v for number, v in numbered.items() if number > stored]
