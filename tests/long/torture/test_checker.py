"""The checker finds what it is there to find; or else the torture would show nothing."""

from datetime import UTC, datetime

import pytest

from hermes_session_mw import ArchivedMessage, History
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.models import Reason
from tests.long.torture.checker import check
from tests.long.torture.replacements import check_replaced
from tests.long.torture.writers import Report


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


def replacing(writer: str, number: int, replaced: tuple[str, int] | None = None) -> list[Message]:
    return [{**message, "replaces": replaced} for message in turn(writer, number)]


def archived_of(*turns: list[Message], reason: Reason = "replace") -> list[ArchivedMessage]:
    now = datetime.now(UTC)
    return [ArchivedMessage(message, "t", reason, now) for each in turns for message in each]


FIRST, SECOND, THIRD = replacing("a", 0), replacing("b", 0, ("a", 0)), replacing("a", 1)
REPLACED = {"a": Report({0: 3, 1: 6}), "b": Report({0: 3})}


def test_a_replaced_turn_is_in_the_archive() -> None:
    """Each turn stands in the history, or is in the archive for the one that replaced it."""
    history = History([*SECOND, *THIRD], 6, exists=True)
    assert check_replaced(history, archived_of(FIRST), REPLACED) == 3


@pytest.mark.parametrize(
    ("history", "archived"),
    [
        ([SECOND, THIRD], archived_of()),
        ([SECOND, THIRD], archived_of(FIRST[:2])),
        ([FIRST, SECOND, THIRD], archived_of()),
        ([FIRST, SECOND, THIRD], archived_of(FIRST)),
        ([SECOND, THIRD], archived_of(FIRST, reason="rewind")),
        ([SECOND, replacing("a", 1, ("a", 0))], archived_of(FIRST)),
        ([SECOND], archived_of(FIRST)),
        ([SECOND], archived_of(FIRST, THIRD)),
        ([SECOND, THIRD, replacing("b", 2)], archived_of(FIRST)),
    ],
    ids=["gone", "torn", "left", "both", "rewound", "twice", "lost", "by nobody", "from nowhere"],
)
def test_what_is_wrong_with_a_replacement_is_found(
    history: list[list[Message]], archived: list[ArchivedMessage]
) -> None:
    """A turn that is gone, or left, or replaced by nobody ends the run."""
    messages = [message for each in history for message in each]
    with pytest.raises(AssertionError):
        check_replaced(History(messages, len(messages), exists=True), archived, REPLACED)
