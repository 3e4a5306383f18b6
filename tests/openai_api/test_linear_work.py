"""The work for what an upstream sends is proportional to it, however it is cut."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import growing_object
from hermes_session_mw.openai_api.assembly import MessageAssembly
from hermes_session_mw.openai_api.growing_object import GrowingObject
from hermes_session_mw.openai_api.response_events import ResponseEvents
from hermes_session_mw.openai_api.transcript import for_upstream

FEW = 60
CALL = {"id": "c", "function": {"name": "f", "arguments": "}"}}


def assemble(*deltas: Message) -> None:
    made = MessageAssembly()
    for delta in deltas:
        made.add(delta)
    made.end()
    assert made.message


def tell(*pieces: tuple[str, Message]) -> None:
    events = ResponseEvents("resp_" + "0" * 48)
    for text, fields in pieces:
        list(events.add(text, fields))
    assert list(events.end("completed"))


def join(*messages: Message) -> None:
    assert len(for_upstream(messages)) == 1


def begun(number: int, arguments: str) -> Message:
    called = {"name": "f", "arguments": arguments}
    return {"tool_calls": [{"index": number, "id": f"c{number}", "function": called}]}


KINDS: dict[str, Callable[[range], None]] = {
    "entries of many indices": lambda many: assemble({"x": [{"index": at} for at in many]}),
    "entries of one index": lambda many: assemble(
        *({"x": [{"index": 0, "id": f"{at}"}]} for at in many)
    ),
    "entries in pieces": lambda many: assemble(*({"x": [{"index": 0, "text": "a"}]} for _ in many)),
    "entries without an index": lambda many: assemble(*({"x": [{"a": at}]} for at in many)),
    "parts of a content": lambda many: assemble(*({"content": [{"type": "x"}]} for _ in many)),
    "many calls": lambda many: assemble(*(begun(at, "{}") for at in many)),
    "one call, with its name": lambda many: assemble(*({"tool_calls": [CALL]} for _ in many)),
    "halves of characters": lambda many: assemble(
        {"x": [{"index": at, "t": "\ud83d"} for at in many]}
    ),
    "calls that stay open": lambda many: tell(*(("", begun(at, "")) for at in many)),
    "calls that are whole": lambda many: tell(*(("", begun(at, "{}")) for at in many)),
    "calls between texts": lambda many: tell(
        *((text, fields) for at in many for text, fields in (("a", {}), ("", begun(at, ""))))
    ),
    "questions in a row": lambda many: join(*({"role": "user", "content": "a"} for _ in many)),
}  # fmt: skip


def calls_for(work: Callable[[range], None], count: int) -> int:
    """Return how many functions the work calls, of Python and of C."""
    calls = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work(range(count))
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("work", KINDS.values(), ids=KINDS)
def test_the_work_is_linear(work: Callable[[range], None]) -> None:
    """Four times as many pieces cause about four times as many calls, and not sixteen times."""
    work(range(FEW))
    few, many = calls_for(work, FEW), calls_for(work, 4 * FEW)
    assert many < 5 * few + 1000


PIECES = st.lists(st.text('{}[]",:\\a1 \n\ufeff', max_size=4) | st.just('{"a"') | st.just(': "}"}'))


@given(PIECES)
def test_an_object_is_whole_as_the_parser_says(pieces: list[str]) -> None:
    """After each piece, the text so far is a whole object if it can be parsed to one."""
    growing = GrowingObject()
    for number, piece in enumerate(pieces):
        growing.add(piece)
        try:
            is_object = isinstance(json.loads("".join(pieces[: number + 1])), dict)
        except ValueError:
            is_object = False
        assert growing.is_whole == is_object


def test_a_growing_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text whose every piece might be its end is parsed where it ends, and no more."""
    parsed: list[str] = []
    is_object = growing_object._is_object

    def counted(text: str) -> bool:
        parsed.append(text)
        return is_object(text)

    monkeypatch.setattr(growing_object, "_is_object", counted)
    growing = GrowingObject()
    for piece in ['{"a": "', *["}"] * 1000, '"}', *["}"] * 1000]:
        growing.add(piece)
    assert len(parsed) == 1
    made = MessageAssembly()
    for arguments in ('{"a": "', *["}"] * 1000):
        made.add({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]})
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "delta",
    [
        {"x": [{"index": at} for at in range(1000)]},
        {"x": list(range(1000))},
        {"x": {f"k{at}": 1 for at in range(1000)}},
        {"x": [[]] * 1000},
        {"content": [{"type": "image", "x": list(range(1000))}]},
        {"tool_calls": [{"index": 0, "x": list(range(1000))}]},
    ],
)
def test_what_is_no_text_has_a_size_too(delta: Message) -> None:
    """Numbers, keys and brackets count, as they take room where the message is stored."""
    made = MessageAssembly()
    made.add(delta)
    assert 0.7 < made.size / len(json.dumps(made.message, separators=(",", ":"))) < 1.5


def test_pieces_of_a_text_have_the_size_of_the_text() -> None:
    """What is repeated with each piece, such as keys, an index and a type, counts once."""
    made = MessageAssembly()
    for _ in range(1000):
        made.add({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "abcd"}]})
        made.add({"tool_calls": [{"index": 0, "function": {"arguments": "abcd"}}]})
        made.add({"content": "abcd"})
    assert 8000 < made.size < 8300
