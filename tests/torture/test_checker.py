"""The checker finds what it is there to find; or else the torture would show nothing."""

import pytest

from hermes_session_mw import History
from hermes_session_mw.messages import Message

from .checker import check
from .writers import Report


def turn(writer: str, number: int) -> list[Message]:
    return [{"writer": writer, "turn": number, "part": part} for part in range(3)]


STORED = [turn("a", 0), turn("b", 0), turn("a", 1), turn("a", 2)]
REPORTS = {"a": Report({0: 3, 1: 9}), "b": Report({0: 6}, in_doubt={1}, doubts=1)}


def checked(*turns: list[Message]) -> int:
    messages = [message for each in turns for message in each]
    return check(History(messages, len(messages), exists=True), REPORTS)


def test_what_may_be_stored_or_not_is_let_pass() -> None:
    """A turn that is in doubt, and one that nothing was said of, may be there and may not."""
    assert checked(*STORED) == 4
    assert checked(*STORED[:3]) == 3
    assert checked(*STORED, turn("b", 1), turn("b", 2)) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        [STORED[0], STORED[1]],
        [STORED[0], STORED[2], STORED[1]],
        [STORED[0], STORED[1], STORED[2], STORED[2]],
        [STORED[0], STORED[1], STORED[2], STORED[3][:2]],
        [STORED[0], STORED[1], STORED[2], [STORED[3][0], *turn("b", 1), *STORED[3][1:]]],
        [*STORED, turn("b", 2), turn("b", 1)],
        [*STORED, turn("a", 3)],
    ],
    ids=["lost", "moved", "twice", "torn", "interleaved", "disordered", "from nowhere"],
)
def test_what_is_wrong_is_found(wrong: list[list[Message]]) -> None:
    """Whatever is lost, moved, doubled, torn, interleaved or disordered ends the run."""
    with pytest.raises(AssertionError):
        checked(*wrong)
