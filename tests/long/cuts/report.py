"""The figures of a run."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.long.cuts.judge import BATCH, Judge
from tests.long.cuts.record import Record
from tests.long.cuts.stored import OpenTurns


@dataclass(frozen=True)
class Report:
    """A run that is over, and what is to be said of it.

    Attributes:
        log: what the workers logged.
    """

    database: str
    seed: int
    seconds: float
    record: Record
    judge: Judge
    turns: OpenTurns
    log: str

    @property
    def violations(self) -> list[str]:
        """What must not be, of all kinds."""
        two = [f"{session}: two open turns" for session in sorted(self.turns.found)]
        return [*self.record.violations, *self.judge.violations, *two]

    @property
    def answers(self) -> int:
        """How many answers there were."""
        return self.judge.states.total()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        judge, record = self.judge, self.record
        yield f"{self.database}, seed {self.seed}, {self.seconds:.0f} s"
        yield from _table("cuts", record.cuts)
        yield from _table("answers", judge.states)
        yield from _table("exchanges", record.outcomes)
        yield from _table("logged", logged(self.log))
        yield f"  streams that went on after a cursor  {record.rejoined}"
        yield f"  characters lost {judge.lost}, doubled {judge.doubled}"
        yield f"  looks for two open turns of a session {self.turns.looks}: {len(self.turns.found)}"
        yield f"  {_ages(judge.ages)}"
        yield f"  the database was away for {_seconds(judge.outages)}"
        yield f"  violations {len(self.violations)}"
        yield from (f"    {each[:600]}" for each in self.violations[:20])


def logged(log: str) -> Counter[str]:
    """Return how often the workers logged each kind of line, without what differs."""
    lines = re.findall(r"^(?:ERROR|WARNING)?:? *(.+)$", log, re.MULTILINE)
    told = (line for line in lines if re.search(r"session|answer|Error|Exception|Warning", line))
    return Counter(re.sub(r"[0-9a-f]{8,}|\d+", "#", line)[:110] for line in told)


def _table(name: str, counts: Counter[str]) -> Iterator[str]:
    yield f"  {name} {counts.total()}"
    yield from (f"    {count:6d}  {kind}" for kind, count in sorted(counts.items()))


def _seconds(times: Sequence[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in sorted(times)) + " s" if times else "no time"


def _ages(ages: Sequence[float]) -> str:
    if not ages:
        return "no piece was lost with a worker"
    in_order = sorted(ages)
    median, high = in_order[len(ages) // 2], in_order[int(len(ages) * 0.99)]
    late = sum(age > BATCH for age in ages)
    return (
        f"the oldest piece lost with a worker: {median * 1000:.0f} ms (median), "
        f"{high * 1000:.0f} ms (p99), {in_order[-1] * 1000:.0f} ms (most) of {len(ages)}; "
        f"{late} above {BATCH * 1000:.0f} ms, all in a write or a pause of the process"
    )
