"""Conversations for tests: whole ones, and such as nobody should have stored."""

from typing import Any

from hypothesis import strategies as st

from hermes_session_mw.messages import Message


def call(name: str) -> Message:
    """Return a tool's call, as an answer has it."""
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def result(name: str, content: str = "3") -> Message:
    """Return the result of a call."""
    return {"role": "tool", "tool_call_id": name, "content": content}


LETTERS: dict[str, Message] = {
    "u": {"role": "user", "content": "?"},
    "s": {"role": "system", "content": "Be kind."},
    "a": {"role": "assistant", "content": "!"},
    "c": {"role": "assistant", "content": None, "tool_calls": [call("1")]},
    "r": result("1"),
    "x": {"shape": "another"},
    "o": {"hermes_item": {"format": "another", "item": {}}},
}


def message_of(letter: str) -> Message:
    """Return a message of the kind that the letter stands for."""
    return dict(LETTERS[letter])


def turn(number: int) -> list[Message]:
    """Return one turn of a long conversation, of 2 to 6 messages: most of them call tools."""
    asked = {"role": "user", "content": f"question {number} " + "x" * (number * 37 % 300)}
    answer = {"role": "assistant", "content": "answer " + "y" * (number * 91 % 500)}
    steps: list[Message] = []
    for step in range(number % 3):
        name = f"call-{number}-{step}"
        steps.append({"role": "assistant", "content": None, "tool_calls": [call(name)]})
        steps.append(result(name, "z" * (number * 53 % 700)))
    return [asked, *steps, answer]


def _answer(draw: st.DrawFn) -> Message:
    calls: list[str] = draw(st.lists(st.sampled_from(["1", "2", "3"]), max_size=3))
    content: str | None = draw(st.sampled_from([None, "", "!", "a longer answer"]))
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls or content is None:
        message["tool_calls"] = [call(name) for name in calls]
    if draw(st.integers(0, 5)) == 0:
        message["status"] = "incomplete"
    return message


@st.composite
def _messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from("uuaaaarrrrs"))
    if kind == "r":
        return result(draw(st.sampled_from(["1", "2", "3", "4"])))
    return _answer(draw) if kind == "a" else message_of(kind)


@st.composite
def _turns(draw: st.DrawFn) -> list[Message]:
    steps: list[Message] = []
    for _ in range(draw(st.integers(0, 2))):
        names = draw(st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, unique=True))
        calls = [call(name) for name in names]
        steps.append({"role": "assistant", "content": None, "tool_calls": calls})
        steps += [result(name) for name in draw(st.permutations(names))]
    return [message_of("u"), *steps, message_of("a")]


def conversations() -> st.SearchStrategy[list[Message]]:
    """Return histories: whole turns, and between them messages in any order."""
    wild = st.lists(_messages(), max_size=4)
    parts = st.lists(st.one_of(_turns(), _turns(), wild), max_size=8)
    return parts.map(lambda lists: [dict(message) for part in lists for message in part])
