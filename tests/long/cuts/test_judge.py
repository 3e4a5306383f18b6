"""The checker finds what it is there for: each fault is planted into a run without any."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.long.cuts.app import BEAT
from tests.long.cuts.judge import Judge
from tests.long.cuts.record import Record, Sighting
from tests.long.cuts.scripts import Script, script_of
from tests.long.cuts.stored import Answer, Stored
from tests.long.cuts.timeline import TRIED, WRITES_AT_ONCE, Timeline

USER, OTHER_USER = {"role": "user", "content": "k1"}, {"role": "user", "content": "k2"}


def named(key: str) -> tuple[str, Script]:
    """Return a call of a question whose answer has some pieces and does not fail."""
    for number in range(100):
        call = f"{key}@w1.{number}"
        script = script_of(call)
        if not script.fails and len(script.pieces) > 5:
            return call, script
    raise AssertionError


CALL, SCRIPT = named("k1")
OTHER_CALL, OTHER_SCRIPT = named("k2")
COUNT = len(SCRIPT.pieces)
HISTORY = [USER, {"role": "assistant", "content": SCRIPT.text}]
PART = [OTHER_USER, {"role": "assistant", "content": "", "status": "incomplete"}]


@dataclass
class World:
    """A run: one answer is complete, then another one's worker is killed after three pieces.

    Two of these were written. A client has seen all of the first answer, and three of the other.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    histories: dict[str, list[Any]] = field(default_factory=dict)
    record: Record = field(default_factory=Record)

    def judge(self) -> list[str]:
        """Return the violations."""
        stored = Stored({each.id: each for each in self.answers}, self.histories)
        self.judged = Judge(Timeline(self.lines), stored, self.record)
        self.judged.judge()
        return self.judged.violations

    def change(self, number: int, **facts: Any) -> None:
        """Change one of the stored answers."""
        self.answers[number] = replace(self.answers[number], **facts)


@pytest.fixture
def world() -> World:
    """A run without faults."""
    first = {"worker": "w1", "answer": "a1"}
    other = {"worker": "w1", "answer": "a2"}
    beats = [{"t": BEAT * number, "what": "beat", "worker": "w1"} for number in range(500)]
    lines = [
        *({"t": 1.0, "what": "begun", "session": "s", "key": "k1", "took": 0.0, **first},),
        *({"t": 1.0, "what": "called", "worker": "w1", "key": "k1", "call": CALL},),
        *({"t": 2.0, "what": "piece", "call": CALL} for _ in SCRIPT.pieces),
        *({"t": 3.0, "what": "ending", "state": "completed", **first},),
        *({"t": 3.0, "what": "ended", "state": "completed", **first},),
        *({"t": 4.0, "what": "begun", "session": "s", "key": "k2", "took": 0.0, **other},),
        *({"t": 4.0, "what": "called", "worker": "w1", "key": "k2", "call": OTHER_CALL},),
        *({"t": 4.1, "what": "piece", "call": OTHER_CALL} for _ in range(2)),
        *({"t": 4.2, "what": "writing", **other},),
        *({"t": 4.2, "what": "written", "last": 2, **other},),
        *({"t": 4.3, "what": "piece", "call": OTHER_CALL},),
        *({"t": 4.4, "what": "killing", "worker": "", "victim": "w1"},),
    ]
    text = "".join(OTHER_SCRIPT.pieces[:2])
    part = [OTHER_USER, PART[1] | {"content": text}]
    answers = [
        Answer("a1", "s", "k1", "completed", [USER], None, HISTORY[1], 2, 1, SCRIPT.pieces),
        Answer(
            "a2", "s", "k2", "incomplete", [OTHER_USER], None, part[1], 4, 2,
            OTHER_SCRIPT.pieces[:2],
        ),
    ]  # fmt: skip
    record = Record(
        sightings=[
            Sighting("c", "s", "a1", "k1", list(SCRIPT.pieces), "completed"),
            Sighting("c", "s", "a2", "k2", OTHER_SCRIPT.pieces[:3], "incomplete"),
        ],
        replays=[("k1", HISTORY)],
        looks=[("s", HISTORY), ("s", [])],
    )
    return World([*beats, *lines], answers, {"s": [*HISTORY, *part]}, record)


def test_a_run_without_faults(world: World) -> None:
    """Nothing is found, and both answers are counted."""
    assert world.judge() == []
    assert world.judged.states == {"lived, completed": 1, "killed, incomplete": 1}
    assert (world.judged.lost, world.judged.doubled) == (0, 0)
    assert [round(age, 3) for age in world.judged.ages] == [0.1]


def of_texts(number: int, texts: list[str]) -> Callable[[World], None]:
    """Return a fault: an answer's events, message and history have other texts."""

    def plant(world: World) -> None:
        message = world.answers[number].message | {"content": "".join(texts)}
        world.change(number, texts=texts, message=message)
        world.histories["s"][2 * number + 1] = message

    return plant


def of_history(history: list[Any]) -> Callable[[World], None]:
    """Return a fault: another history."""
    return lambda world: world.histories.update(s=history)


def second_end(world: World) -> None:
    """Store the first answer a second time."""
    again = replace(world.answers[0], id="a3", length=6)
    world.answers.append(again)
    world.lines += [
        {**line, "answer": "a3", "t": 5.0} for line in world.lines if line.get("answer") == "a1"
    ]
    world.histories["s"] += HISTORY


def late_kill(world: World) -> None:
    """Kill the worker later, with the third piece still unwritten."""
    world.lines[-1]["t"] = 4.65


def lost_lease(world: World) -> None:
    """Have the second answer's worker refused too early."""
    line = {"worker": "w1", "answer": "a2"}
    world.lines[-1:] = [
        {"t": 9.0, "what": "writing", **line},
        {"t": 10.1, "what": "unwritten", "error": "TurnLost", **line},
    ]


def stopped_by_nobody(world: World) -> None:
    """Have the first answer stopped."""
    world.change(0, state="stopped")
    for line in world.lines:
        if "state" in line:
            line["state"] = "stopped"


FAULTS: dict[str, tuple[Callable[[World], object], str]] = {
    "a lost piece": (of_texts(0, SCRIPT.pieces[:-1]), "too few"),
    "a lost piece in the middle": (of_texts(0, SCRIPT.pieces[1:]), "another piece 1"),
    "a doubled piece": (of_texts(0, [*SCRIPT.pieces, SCRIPT.pieces[-1]]), "another piece"),
    "a lost written piece": (of_texts(1, OTHER_SCRIPT.pieces[:1]), "of 2 written"),
    "a late loss": (late_kill, "could have written it at 9 beats"),
    "a lost lease": (lost_lease, "lost its lease after"),
    "a second complete answer": (second_end, "2 complete answers"),
    "a lost answer": (lambda world: world.answers.pop(1), "is not stored"),
    "another message": (lambda world: world.change(0, message=PART[1]), "not {'role'"),
    "another state": (lambda world: world.change(0, state="stopped"), "was to end as"),
    "an end by nobody": (stopped_by_nobody, "was ended by nobody"),
    "a lost turn": (of_history(HISTORY), "is not ["),
    "a doubled turn": (of_history([*HISTORY, *HISTORY]), "is not ["),
    "another length": (lambda world: world.change(0, length=3), "ends at 2"),
    "a history that never was": (
        lambda world: world.record.looks.append(("s", HISTORY[:1])),
        "was never its history",
    ),
    "another text for a client": (
        lambda world: world.record.sightings[0].texts.pop(0),
        "was seen otherwise by c",
    ),
    "an end before the end": (
        lambda world: world.record.sightings[0].texts.pop(),
        f"{COUNT - 1} of {COUNT} came to c",
    ),
    "another end for a client": (
        lambda world: setattr(world.record.sightings[0], "told", "stopped"),
        "was told to be stopped",
    ),
    "another question for a client": (
        lambda world: setattr(world.record.sightings[0], "key", "k2"),
        "was told to answer k2",
    ),
    "an answer that is nowhere": (
        lambda world: setattr(world.record.sightings[0], "answer", "a9"),
        "saw a9, which is not stored",
    ),
    "another answer told again": (
        lambda world: world.record.replays.append(("k1", PART)),
        "was told again",
    ),
    "a call without an answer": (
        lambda world: world.lines.append(
            {"t": 5, "what": "called", "worker": "w1", "key": "k1", "call": "k1@w1.99"}
        ),
        "its answer is not stored",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(world: World, name: str) -> None:
    """Each fault is a violation, and named."""
    plant, expected = FAULTS[name]
    plant(world)
    found = world.judge()
    assert any(expected in each for each in found), found
    if "lost piece" in name or "doubled piece" in name:
        assert world.judged.lost + world.judged.doubled > 0 or "written" in name


@pytest.mark.parametrize("what", ["writing", "writing others", "standing still"])
def test_a_late_loss_has_a_reason(world: World, what: str) -> None:
    """Pieces wait for a write that is under way, or many, and for a process that stands still."""
    world.lines[-1]["t"] = 5.0
    if what == "writing":
        line = {"t": 4.35, "what": "writing", "worker": "w1", "answer": "a2"}
        world.lines.insert(-1, line)
    elif what == "writing others":
        for number in range(WRITES_AT_ONCE):
            line = {"t": 4.35, "worker": "w1", "answer": f"b{number}"}
            other = {"what": "begun", "session": "t", "key": f"l{number}", "took": 0.0}
            world.lines[-1:-1] = [line | other, line | {"what": "writing"}]
    else:
        world.lines = [
            line for line in world.lines if line["what"] != "beat" or not 4.3 < line["t"] < 5.1
        ]
    assert world.judge() == []
    assert [round(age, 3) for age in world.judged.ages] == [0.7]


def test_a_lease_that_has_expired_may_be_lost(world: World) -> None:
    """After six seconds without a write, others may have ended the answer."""
    lost_lease(world)
    world.lines[-1]["t"] = 10.3
    assert world.judge() == []
    assert world.judged.states["database away, incomplete"] == 1


@pytest.mark.parametrize("tried", [9.0, 10.5])
def test_an_end_that_could_not_be_stored(world: World, tried: float) -> None:
    """Only after ten seconds of trying may the answer be what was written before."""
    line = {"worker": "w1", "answer": "a2"}
    world.lines[-1:] = [
        {"t": 5.0, "what": "ending", "state": "completed", **line},
        {"t": 5.0 + tried, "what": "unended", "error": "StoreTimeout", **line},
    ]
    assert world.record.sightings[1].told == "incomplete"
    world.record.sightings[1].told = "failed"
    violations = world.judge()
    assert bool(violations) is (tried < TRIED)
    assert world.judged.states["database away, incomplete"] == (tried >= TRIED)
