"""A stored conversation as a strict server takes it."""

from typing import Any

import pytest

from demo_app.transcript import for_upstream

USER = {"role": "user", "content": "Hi"}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "content": "3", "tool_call_id": "1"}
SAID = {"role": "assistant", "content": "Well."}
TEXT, IMAGE = {"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}

CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "what is kept beside": (
        [USER | {"timestamp": 1.5, "x_own": 1},
         SAID | {"response": {"usage": None}, "status": "incomplete", "finish_reason": "length",
                 "reasoning": "hm", "refusal": None, "tool_calls": []}],
        [USER, SAID],
    ),
    "a name and a refusal": (
        [USER | {"name": "ada"}, SAID | {"content": None, "refusal": "No."}],
        [USER | {"name": "ada"}, SAID | {"content": None, "refusal": "No."}],
    ),
    "a call and its result": (
        [USER, CALLING, RESULT | {"timestamp": 1.5}, SAID], [USER, CALLING, RESULT, SAID],
    ),
    "a call without its result": ([USER, CALLING, SAID], [USER, SAID]),
    "a call whose answer broke off": ([USER, CALLING | SAID], [USER, SAID]),
    "a call with another's result": ([USER, CALLING, RESULT | {"tool_call_id": "2"}], [USER]),
    "a result without a call": ([RESULT, USER, SAID], [USER, SAID]),
    "a result without an id": ([USER, CALLING, {"role": "tool", "content": "3"}], [USER]),
    "calls that are none": ([USER, SAID | {"tool_calls": [1, {"id": 2}]}], [USER, SAID]),
    "an answer that never came": ([USER, SAID | {"content": "", "status": "incomplete"}], [USER]),
    "two questions": ([USER, USER], [USER | {"content": "Hi\n\nHi"}]),
    "a question with a picture": (
        [USER, USER | {"content": [TEXT, IMAGE]}, USER],
        [USER | {"content": [TEXT, TEXT, IMAGE, TEXT]}],
    ),
    "two people": ([USER | {"name": "ada"}, USER], [USER | {"name": "ada"}, USER]),
    "two system messages": ([{"role": "system", "content": "a"}] * 2 + [USER],
                            [{"role": "system", "content": "a"}] * 2 + [USER]),
}  # fmt: skip


@pytest.mark.parametrize(("history", "expected"), CASES.values(), ids=CASES)
def test_what_is_sent_is_what_servers_take(history: list[Any], expected: list[Any]) -> None:
    """Only keys and orders that Chat Completions have; and the history itself stays as it was."""
    before = [dict(message) for message in history]
    assert for_upstream(history) == expected
    assert history == before
