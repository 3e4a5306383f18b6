"""A message that is put together of what it grew by."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.message_growth import (
    GrowingMessage,
    changes_between,
    encode_changes,
)

NAMES = st.sampled_from("abc")
VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, -2.5]) | st.text("ab", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.dictionaries(NAMES, VALUES, max_size=3)


@given(MESSAGES, st.lists(MESSAGES, max_size=4))
def test_changes_make_the_message(begun: Message, later: list[Message]) -> None:
    """The changes between messages, applied in order, make each of them out of the last one."""
    growing, before = GrowingMessage(json.loads(json.dumps(begun))), begun
    for message in later:
        growing.apply(encode_changes(changes_between(before, message)))
        before = message
    # As texts, since 1, 1.0 and True are equal.
    made = json.dumps(growing.finish(), sort_keys=True)
    assert made == json.dumps(before, sort_keys=True)


ANSWER = {
    "role": "assistant",
    "content": "Be",
    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a'}}],
}


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        ({}, []),
        ({"content": "Because"}, [["+", ["content"], "cause"]]),
        ({"content": "No"}, [["=", ["content"], "No"]]),
        ({"content": ["x"]}, [["=", ["content"], ["x"]]]),
        ({"usage": {"n": 1}}, [["=", ["usage"], {"n": 1}]]),
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}]},
            [["+", ["tool_calls", 0, "function", "arguments"], '":1}']],
        ),
        (
            {"tool_calls": [*ANSWER["tool_calls"], {"id": "d"}]},
            [["+", ["tool_calls"], [{"id": "d"}]]],
        ),
        ({"tool_calls": []}, [["=", ["tool_calls"], []]]),
    ],
)
def test_what_has_grown_is_told_alone(more: Message, changes: list[Any]) -> None:
    """Text that continues, items that follow and new keys are told; all else stays unsaid."""
    told = changes_between(ANSWER, {**ANSWER, **more})
    assert json.loads(encode_changes(told)) == changes


def test_a_long_message_is_told_once() -> None:
    """What is told of a message of many parts is as long as the message, and not as its square."""
    growing, told = GrowingMessage(), 0
    before: Message = {}
    for count in range(1, 501):
        message = {"content": "word " * count, "calls": [{"n": n} for n in range(count // 10)]}
        changes = encode_changes(changes_between(before, message))
        growing.apply(changes)
        before, told = message, told + len(changes)
    assert growing.finish() == before
    assert told < 15 * len(json.dumps(before))
