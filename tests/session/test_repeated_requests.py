"""Whether a stored turn is the one of a repeated request, and what was answered."""

from typing import Any

import pytest

from hermes_session_mw import HermesSession, MemoryStore, StoredTurn, TurnConflict
from hermes_session_mw.messages import Message, text_of
from hermes_session_mw.session import repeated_requests
from hermes_session_mw.session.repeated_requests import answers, first_answer

CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
MESSAGES: dict[str, Message] = {
    **{letter: {"role": "user", "content": f"I say {letter}"} for letter in "uv"},
    "a": {"role": "assistant", "content": "bc"},
    "b": {"role": "assistant", "content": "b"},
    "x": {"role": "assistant", "content": "x"},
    "k": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "r": {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
}
SYSTEM = {"role": "system", "content": "Be brief."}


def spelt(letters: str) -> list[Message]:
    return [MESSAGES[letter] for letter in letters if letter != "-"]


def cases() -> list[Any]:
    """Return the rows of the module's table."""
    table = (repeated_requests.__doc__ or "").split("    turn    told")[1]
    rows = [line.split() for line in table.splitlines()[1:] if line.strip()]
    return [pytest.param(*row[:4], id="-".join(row[:2])) for row in rows]


@pytest.mark.parametrize(("letters", "told", "is_repeated", "rest"), cases())
async def test_the_table_of_cases(letters: str, told: str, is_repeated: str, rest: str) -> None:
    """Every row of the table at the module's head is what a session finds under the key."""
    store = MemoryStore()
    await store.append("id", spelt(letters), turn_id="k")
    session = HermesSession(store, "id", idempotency_key="k")
    assert answers(spelt(letters), [SYSTEM, *spelt(told)]) is (is_repeated == "yes")
    if is_repeated == "no":
        with pytest.raises(TurnConflict):
            await session.find_turn(told=spelt(told))
        return
    turn = await session.find_turn(told=spelt(told))
    assert turn is not None
    *before, answer = turn.messages
    assert (before, answer["role"]) == (spelt(letters)[:-1], "assistant")
    assert answer["content"] == rest.removeprefix("-")


def answer(content: Any) -> Message:
    return {"role": "assistant", "content": content}


@pytest.mark.parametrize(
    ("stored", "begun", "rest"),
    [
        ("a\nb", "a\n", "b"),
        ("a b", "a  ", " b"),
        ([{"type": "text", "text": "ab"}], "a", "b"),
        ("ab", [{"type": "text", "text": "a"}, {"type": "image_url"}], "b"),
        ("ab", "", "ab"),
        ("ab", None, "ab"),
        (None, "", None),
    ],
)
def test_the_rest_of_an_answer(stored: Any, begun: Any, rest: Any) -> None:
    """The beginning may come back stripped or in parts, and an empty one is none."""
    turn = StoredTurn("k", [MESSAGES["u"], answer(stored)], 0)
    assert answers(turn.messages, [MESSAGES["u"], answer(begun)])
    assert first_answer(turn, [MESSAGES["u"], answer(begun)]).messages[-1]["content"] == rest


def test_what_is_no_text_has_none() -> None:
    """Parts of other kinds are passed over."""
    assert text_of(answer([{"type": "image_url"}, "text", {"text": 1}, {"text": "a"}])) == "a"
