"""A stored conversation as an upstream takes it back, and in a plain form for strict ones."""

import json
from copy import deepcopy
from typing import Any

import pytest

from hermes_session_mw.openai_api.transcript import (
    answers_calls,
    for_upstream,
    in_plain_form,
    refused_parts,
)
from tests.support.strict_server import refusal_of

USER = {"role": "user", "content": "Hi"}
CALLING: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "content": "3", "tool_call_id": "1"}
SAID = {"role": "assistant", "content": "Well."}
BACK = {
    "reasoning_content": "Hm.",
    "reasoning": "Hm.",
    "reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 0}],
    "annotations": [{"type": "url_citation", "url_citation": {"url": "a"}}],
    "extra_content": {"google": {"thought_signature": "x"}},
    "x_own": {"a": [1]},
}
SIGNED = {
    **CALLING,
    "tool_calls": [
        {**CALLING["tool_calls"][0], "extra_content": {"google": {"thought_signature": "x"}}}
    ],
}
CUSTOM = {
    **CALLING,
    "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}],
}
SPOKEN: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "audio": {"id": "audio_1", "data": "AA", "transcript": "Well.", "expires_at": 1000},
}
THOUGHT = {"role": "assistant", "content": [{"type": "thinking"}]}
TEXT, IMAGE = {"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}

CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "what is kept beside": (
        [USER | {"timestamp": 1.5, "metadata": {"a": 1}},
         SAID | {"response": {"usage": None}, "status": "incomplete", "finish_reason": "length",
                 "model": "m", "usage": {}, "refusal": None, "tool_calls": [], "annotations": []}],
        [USER, SAID],
    ),
    "what a provider wants back": (
        [USER | {"x_own": 1}, SAID | BACK], [USER | {"x_own": 1}, SAID | BACK],
    ),
    "reasoning that is empty": (
        [USER, SAID | {"reasoning_content": ""}], [USER, SAID | {"reasoning_content": ""}],
    ),
    "a name and a refusal": (
        [USER | {"name": "ada"}, SAID | {"content": None, "refusal": "No."}],
        [USER | {"name": "ada"}, SAID | {"content": None, "refusal": "No."}],
    ),
    "a call and its result": (
        [USER, CALLING, RESULT | {"timestamp": 1.5}, SAID], [USER, CALLING, RESULT, SAID],
    ),
    "a call with a signature": ([USER, SIGNED, RESULT], [USER, SIGNED, RESULT]),
    "a custom call": ([USER, CUSTOM, RESULT], [USER, CUSTOM, RESULT]),
    "an answer that was spoken": (
        [USER, SPOKEN], [USER, {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}],
    ),
    "one that has expired": (
        [USER, SPOKEN | {"audio": {**SPOKEN["audio"], "expires_at": 999}}], [USER, SAID],
    ),
    "one without an id": ([USER, SPOKEN | {"audio": {"transcript": "Well."}}], [USER, SAID]),
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
    "questions that differ beside their text": (
        [USER | {"x_own": 1}, USER], [USER | {"x_own": 1}, USER]),
    "two people": ([USER | {"name": "ada"}, USER], [USER | {"name": "ada"}, USER]),
    "two system messages": ([{"role": "system", "content": "a"}] * 2 + [USER],
                            [{"role": "system", "content": "a"}] * 2 + [USER]),
}  # fmt: skip


@pytest.mark.parametrize(("history", "expected"), CASES.values(), ids=CASES)
def test_what_is_sent_is_what_servers_take(history: list[Any], expected: list[Any]) -> None:
    """What came from them goes back, in an order that they take; the history stays as it was."""
    before = deepcopy(history)
    assert for_upstream(history, 999.5) == expected
    assert history == before


def test_the_clocks_time_says_what_has_expired() -> None:
    """Where no other is given."""
    later = SPOKEN | {"audio": {"id": "audio_1", "expires_at": 9e9}}
    assert for_upstream([later])[0]["audio"] == {"id": "audio_1"}
    assert for_upstream([SPOKEN])[0]["content"] == "Well."


OTHER = {"id": "2", "type": "custom", "custom": {"name": "g", "input": ""}}
TWO = CALLING | {"tool_calls": [*CALLING["tool_calls"], OTHER]}
RESULT_2 = RESULT | {"tool_call_id": "2"}


@pytest.mark.parametrize(("history", "is_answer"), [
    ([USER, CALLING, RESULT], True), ([USER, TWO, RESULT_2, RESULT], True),
    ([USER, CALLING, RESULT, USER], True), ([USER, TWO, RESULT], False),
    ([USER, CALLING, RESULT, RESULT], False), ([USER, CALLING, RESULT_2], False),
    ([USER, RESULT], False), ([RESULT], False),
    ([USER, CALLING | {"status": "incomplete"}, RESULT], False),
])  # fmt: skip
def test_results_answer_exactly_the_calls_before_them(history: list[Any], is_answer: bool) -> None:
    """All of them, each once, in any order, and no others."""
    assert answers_calls(history) is is_answer


PLAIN: dict[str, tuple[Any, Any]] = {
    "a question": (USER | {"x_own": 1, "name": "ada"}, USER | {"name": "ada"}),
    "an answer": (SAID | BACK, SAID),
    "an answer in parts": (
        SAID | {"content": [{"type": "thinking", "thinking": []}, "x", TEXT]},
        SAID | {"content": [TEXT]},
    ),
    "a call": (SIGNED | {"reasoning_content": "Hm."}, CALLING),
    "a custom call": (CUSTOM, CUSTOM),
    "an unknown call": (
        CALLING | {"tool_calls": [{"id": "1", "type": "x"}]},
        CALLING | {"tool_calls": [{"id": "1", "type": "x"}]},
    ),
    "a result": (RESULT | {"name": "f"}, RESULT),
    "audio": (SAID | {"audio": {"id": "1"}},) * 2,
}


@pytest.mark.parametrize(("message", "plain"), PLAIN.values(), ids=PLAIN)
def test_the_plain_form_has_openais_keys_alone(message: Any, plain: Any) -> None:
    """For servers that refuse others, also where another server's answer has them."""
    before = deepcopy(message)
    assert in_plain_form([message]) == [plain]
    assert message == before
    assert refusal_of([plain]) is None or message["role"] == "tool" or "tool_calls" in message


def test_the_plain_form_is_a_conversation() -> None:
    """An answer in which nothing remains is left out, and the questions around it become one."""
    assert in_plain_form([USER, THOUGHT, USER]) == [USER | {"content": "Hi\n\nHi"}]


SENT = [USER, SAID | {"reasoning_content": "Hm."}]
MISTRAL = {"object": "error", "message": {"detail": [
    {"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"]}]}}  # fmt: skip
REFUSED: dict[str, tuple[int, Any, list[Any], list[str]]] = {
    "stream_options": (400, "Unrecognized request argument: stream_options", [USER],
                       ["stream_options"]),
    "its only field": (422, MISTRAL, SENT, ["stream_options"]),
    "a key, as Groq says it": (
        400, {"error": {"message": "'messages.1' : property 'reasoning_content' is unsupported"}},
        SENT, ["extras"]),
    "a key, as Mistral says it": (
        422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "messages", 1, "assistant"]}]},
        SENT, ["extras"]),
    "a key that nobody sent": (400, "'messages.1' : property 'x' is unsupported", SENT, []),
    "no key of ours": (400, "messages: extra_forbidden", [USER, CALLING, RESULT], []),
    "a call's key": (400, "unknown name extra_content", [SIGNED], ["extras"]),
    "a part": (400, "messages[0].content[0].type: unknown", [THOUGHT], ["extras"]),
    "both": (400, "stream_options, reasoning_content", SENT, ["stream_options", "extras"]),
    "another status": (500, "stream_options", SENT, []),
    "something else": (400, "the context is too long", SENT, []),
}  # fmt: skip


@pytest.mark.parametrize(("status", "said", "sent", "parts"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_to_leave_out(
    status: int, said: Any, sent: list[Any], parts: list[str]
) -> None:
    """If it names what the request has, and can do without."""
    body = said if isinstance(said, str) else json.dumps(said)
    assert refused_parts(status, body, sent) == parts
