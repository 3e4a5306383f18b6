"""Taking turns while sessions are pruned and deleted, and everybody may be killed.

Of eight processes four take turns of the same sessions, and are late now and then; two stay in one
turn of a session of their own for as long as they live; two remove whatever they may.
"""

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.messages import Message
from tests.long.torture.checker import Outcome
from tests.long.torture.writers import Writers

ROLES = ["taker", "taker", "taker", "taker", "keeper", "keeper", "remover", "remover"]
SHARED = ["a", "b", "c"]


Key = tuple[int, int]
"""A fence, and the number of a write under it."""


@dataclass
class Taken:
    """A lease that was acquired: its fence, and its request's begin and end in nanoseconds."""

    fence: int
    asked: int
    given: int


@dataclass
class Said:
    """What all of them said: of each session its turns, and the lengths of what was stored."""

    taken: dict[str, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    stored: dict[str, dict[Key, int]] = field(default_factory=lambda: defaultdict(dict))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True)
class TurnsOutcome(Outcome):
    """How a run ended; ``late`` are writes that were refused, ``removed`` sessions that went."""

    taken: int
    late: int
    removed: int

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds; turns: {self.taken} taken, {self.stored} stored still, "
            f"{self.acknowledged} of them acknowledged; {self.late} late ones refused; "
            f"{self.removed} sessions removed; answers: {self.in_doubt} in doubt, "
            f"{self.unavailable} unavailable"
        )


class Takers(Writers):
    """The eight, from the beginning of the block to its end."""

    goes_on = b"did "

    def __init__(self, folder: Path, url: URL) -> None:
        super().__init__(folder, url, mode="trust")
        self._roles: dict[str, str] = {}
        self._free = list(ROLES)

    def command(self, name: str) -> list[str]:
        """See `Writers.command`."""
        role = self._roles[name] = self._free.pop()
        return ["tests.long.torture.taker", self._urls[0], role, name, *SHARED]

    def succeed(self, name: str) -> None:
        """See `Writers.succeed`."""
        self._free.append(self._roles.pop(name))

    def wait_for_writes(self, count: int) -> None:
        """Wait until so many more were acknowledged, of whomever."""
        deadline = time.monotonic() + 90
        before = self._writes()
        while self._writes() < before + count:
            assert time.monotonic() < deadline, "nobody gets on"
            time.sleep(0.02)

    def _writes(self) -> int:
        return sum(self._output(each).read_bytes().count(b"did stored ") for each in self.running)

    def said(self) -> Said:
        """Return what was said."""
        outputs = [self._output(str(number)).read_text() for number in range(self._started)]
        return read(line for each in outputs for line in each[: each.rfind("\n") + 1].splitlines())


def remove_under_turns(url: URL, folder: Path, kills: int) -> TurnsOutcome:
    """Kill ``kills`` of the eight, each replaced by another."""
    with Takers(folder, url) as takers:
        for _ in range(kills):
            takers.wait_for_writes(3)
            time.sleep(random.uniform(0, 0.1))
            takers.replace_one()
        takers.wait_for_turns(1)
    said = takers.said()
    histories = anyio.run(_load, url, sorted({*said.taken, *SHARED}))
    counts = said.counts
    return TurnsOutcome(
        kills,
        stored=sum(len(each) // 3 for each in histories.values()),
        acknowledged=check(said, histories),
        in_doubt=counts["doubt"],
        unavailable=counts["unavailable"],
        taken=sum(map(len, said.taken.values())),
        late=counts["late"],
        removed=counts["removed"],
    )


def read(lines: Iterable[str]) -> Said:
    """Return what the lines say."""
    said = Said()
    for line in lines:
        _, what, *rest = line.split()
        if what == "taken":
            said.taken[rest[0]].append(Taken(*map(int, rest[1:])))
        elif what == "stored":
            said.stored[rest[0]][int(rest[1]), int(rest[2])] = int(rest[3])
        else:
            said.counts[what] += int(rest[0])
    return said


def check(said: Said, histories: Mapping[str, list[Message]]) -> int:
    """Hold what is stored against what was said; return how many turns had to be there, and are."""
    for session_id, taken in said.taken.items():
        _check_fences(session_id, taken)
    return sum(_check(id_, messages, said.stored[id_]) for id_, messages in histories.items())


def _check_fences(session_id: str, taken: list[Taken]) -> None:
    """Each lease has another fence, greater than all that were returned before its request."""
    fences = [each.fence for each in taken]
    assert len(set(fences)) == len(fences), f"session {session_id}: a fence was returned twice"
    given = iter(sorted(taken, key=lambda each: each.given))
    before, highest = next(given), 0
    for turn in sorted(taken, key=lambda each: each.asked):
        while before.given < turn.asked:
            highest, before = max(highest, before.fence), next(given)
        assert turn.fence > highest, f"session {session_id}: {turn} after {highest}"


def _check(session_id: str, messages: list[Message], acknowledged: Mapping[Key, int]) -> int:
    turns = [messages[at : at + 3] for at in range(0, len(messages), 3)]
    for turn in turns:  # none torn, none interleaved
        assert [message["part"] for message in turn] == [0, 1, 2], (session_id, turn)
        assert len({(message["fence"], message["turn"]) for message in turn}) == 1, turn
    found = [(turn[0]["fence"], turn[0]["turn"]) for turn in turns]
    # None is there twice, and none was written once a later one had begun.
    assert found == sorted(set(found)), f"session {session_id}: out of order: {found}"
    lengths = {key: 3 * at for at, key in enumerate(found, 1)}
    # A session is removed as a whole: of what is later than a turn that is there, all is there. One
    # whose turn somebody was in for all the time was not to be removed.
    first = found[0] if found and session_id in SHARED else (0, 0)
    due = {key: at for key, at in acknowledged.items() if key >= first}
    if found or session_id not in SHARED:
        assert due == {key: lengths.get(key) for key in due}, (session_id, due, lengths)
        return len(due)
    return 0


async def _load(url: URL, session_ids: Iterable[str]) -> dict[str, list[Message]]:
    store = SQLAlchemyStore(url)
    with anyio.fail_after(300):
        found = {each: (await store.load(each)).messages for each in session_ids}
    await store.aclose()
    return found
