"""Where a turn begins, which calls of tools have results, and where a history may be cut."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.messages import Message
from hermes_session_mw.session import tool_calls
from hermes_session_mw.session.tool_calls import (
    find_cut,
    is_result,
    paired,
    stands_alone,
    starts_turn,
    unanswered_calls,
)
from tests.support.conversations import LETTERS, call, conversations, message_of, result

CASES = re.findall(r"^    ([uscarxo|]+) +\w", tool_calls.__doc__ or "", re.MULTILINE)


def test_the_table_is_read() -> None:
    """The cases at the module's head are all there."""
    assert len(CASES) == 14


@pytest.mark.parametrize("case", CASES)
def test_a_turn_begins_where_the_table_says(case: str) -> None:
    """Each case of the table at the module's head holds."""
    history = [message_of(letter) for letter in case.replace("|", "")]
    turns = [sum(letter != "|" for letter in case[:at]) for at, c in enumerate(case) if c == "|"]
    assert [at for at in range(len(history)) if starts_turn(history, at)] == turns


USER: Message = {"role": "user", "content": "Hi"}
SAID: Message = {"role": "assistant", "content": "Well."}
ONE, TWO = call("1"), call("2")
CUSTOM = {"id": "1", "type": "custom", "custom": {"name": "grep", "input": "x"}}
OLD_CALL = {"name": "f", "arguments": "{}"}
OLD_RESULT = {"role": "function", "name": "f", "content": "3"}


def calling(*calls: Any, **rest: Any) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **rest}


PAIRS: dict[str, tuple[list[Message], list[Message], list[Message]]] = {
    # a history, what is left of it in pairs, and the calls that its end waits for
    "nothing": ([], [], []),
    "no calls": ([USER, SAID], [USER, SAID], []),
    "a call and its result": (
        [USER, calling(ONE), result("1")], [USER, calling(ONE), result("1")], [],
    ),
    "a custom tool": ([calling(CUSTOM), result("1")], [calling(CUSTOM), result("1")], []),
    "a call at the end": ([USER, calling(ONE)], [USER, {"role": "assistant", "content": None}],
                          [ONE]),
    "a call of which nobody came back": (
        [calling(ONE, content="Let me see."), USER],
        [{"role": "assistant", "content": "Let me see."}, USER],
        [],
    ),
    "one of two": (
        [calling(ONE, TWO), result("2")], [calling(TWO), result("2")], [ONE],
    ),
    "results in another order": (
        [calling(ONE, TWO), result("2"), result("1")],
        [calling(ONE, TWO), result("2"), result("1")],
        [],
    ),
    "two results for one call": (
        [calling(ONE), result("1", "old"), result("1", "new"), SAID],
        [calling(ONE), result("1", "new"), SAID],
        [],
    ),
    "a result of another's call": (
        [calling(ONE), result("2")], [{"role": "assistant", "content": None}], [ONE],
    ),
    "a result that comes late": (
        [calling(ONE), USER, result("1")], [{"role": "assistant", "content": None}, USER], [],
    ),
    "a result whose call is gone": ([result("1"), SAID], [SAID], []),
    "a result after an answer": ([SAID, result("1")], [SAID], []),
    "a result after a question": ([USER, result("1")], [USER], []),
    "a function, as it was once": (
        [{**SAID, "function_call": OLD_CALL}, OLD_RESULT],
        [{**SAID, "function_call": OLD_CALL}, OLD_RESULT],
        [],
    ),
    "a function without its result": ([{**SAID, "function_call": OLD_CALL}], [SAID], [OLD_CALL]),
    "a function's result for a tool": (
        [calling(ONE), {**OLD_RESULT, "name": "1"}], [{"role": "assistant", "content": None}],
        [ONE],
    ),
    "calls without ids": (
        [calling({"function": {}}, {"function": {}}), {"role": "tool", "content": "3"}],
        [calling({"function": {}}), {"role": "tool", "content": "3"}],
        [{"function": {}}],
    ),
    "what is no call": (
        [{**SAID, "tool_calls": [1, {"id": [2]}]}, {"role": "tool", "tool_call_id": [2]}],
        [SAID],
        [],
    ),
    "no list of calls": ([{**SAID, "tool_calls": "f"}], [SAID], []),
    "null for what is not there": ([{**SAID, "tool_calls": None, "function_call": None}], [SAID],
                                   []),
    "a call of an answer that broke off": (
        [calling(ONE, content="Let", status="incomplete")],
        [{"role": "assistant", "content": "Let", "status": "incomplete"}],
        [],
    ),
    "the same in Hermes' database": (
        [calling(ONE, finish_reason="incomplete")],
        [{"role": "assistant", "content": None, "finish_reason": "incomplete"}],
        [],
    ),
    "a user who calls": ([{**USER, "tool_calls": [ONE]}, result("1")],
                         [{**USER, "tool_calls": [ONE]}], []),
}  # fmt: skip


@pytest.mark.parametrize(("history", "pairs", "unanswered"), PAIRS.values(), ids=PAIRS)
def test_calls_and_results_are_paired(
    history: list[Message], pairs: list[Message], unanswered: list[Message]
) -> None:
    """A call stays with its result right after it; the history's end may still wait for some."""
    before = repr(history)
    assert paired(history) == pairs
    assert unanswered_calls(history) == unanswered
    assert repr(history) == before


CUTS = [
    # a history, the place that is asked for, and the one that is taken
    ("ucra|ua", 2, "|"), ("ucra|ua", 4, "|"), ("ucra|ua", 5, "|"), ("ucra|ua", 1, "|"),
    ("ua|ua|ua", 3, 2), ("ua|ua|ua", 4, 4), ("ua|ua|ua", 1, 2),
    ("ucracra", 2, 1), ("ucracra", 6, 6), ("ucracra", 5, 4),
    ("cr", 1, None), ("crrr", 2, None), ("x|x", 1, 1),
    ("suaua", 1, 3), ("suaua", 4, 3),
    ("uauaurua", 6, 6), ("uauaurua", 5, 2),
]  # fmt: skip


@pytest.mark.parametrize(("case", "last", "cut"), CUTS)
def test_a_history_is_cut_where_a_turn_begins(case: str, last: int, cut: Any) -> None:
    """The nearest turn before, else the nearest after, else within a turn: not within a pair."""
    history = [message_of(letter) for letter in case.replace("|", "")]
    assert find_cut(history, last) == (case.index("|") if cut == "|" else cut)


def test_a_late_result_is_not_cut_from_its_call() -> None:
    """A call and its result stay together, also where other turns came between them."""
    history = [USER, SAID, USER, calling(ONE), USER, SAID, result("1"), SAID, USER, SAID]
    assert find_cut(history, 5) == 2
    assert find_cut(history, 7) == 2
    assert find_cut(history[2:], 5) == 6
    assert find_cut(history[2:], 5, first=0) == 0


@given(conversations(), st.data())
def test_a_cut_never_parts_a_pair(history: list[Message], data: st.DataObject) -> None:
    """Wherever a history is cut, a result that has its call before it has it on the same side."""
    last = data.draw(st.integers(1, max(len(history), 1)))
    cut = find_cut(history, last)
    if cut is None:
        return
    assert 0 < cut < len(history) or not history
    for at in range(cut, len(history)):
        if is_result(history[at]) and (called := _call_of(history, at)) is not None:
            assert called >= cut


def _call_of(history: list[Message], at: int) -> int | None:
    name = history[at].get("tool_call_id")
    for before in range(at - 1, -1, -1):
        calls = history[before].get("tool_calls") if history[before]["role"] != "user" else None
        if isinstance(calls, list) and any(call.get("id") == name for call in calls):
            return before
    return None


@given(conversations())
def test_pairing_takes_no_more_than_it_must(history: list[Message]) -> None:
    """What has no part in a call stays as it is, and what is paired stays so."""
    left = paired(history)
    alone = [each for each in history if stands_alone(each) and each["role"] != "assistant"]
    assert [each for each in left if stands_alone(each) and each["role"] != "assistant"] == alone
    assert paired(left) == left


def test_every_letter_is_a_message() -> None:
    """The shorthand of these tests has a message for each letter of the table."""
    assert set(LETTERS) == set("uscarxo")
