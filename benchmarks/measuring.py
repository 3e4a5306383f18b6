"""Measuring: everything that is compared takes turns, so that noise hits all alike.

Who takes a turn may be a function here, or another process. A figure is the time of one operation
in one round. Rounds are short and many, their order is shuffled, and what is told of them are
ratios within the same round: a machine that slows down for a second slows down all subjects of that
second.
"""

import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from typing import Any

import anyio

Operation = Callable[[], Awaitable[object]]
Turn = Callable[[int, int], Awaitable[tuple[float, float]]]
"""Does an operation ``count`` times, each of ``at_once`` at the same time, and returns the wall and
CPU seconds of one."""

_CALIBRATING = 3  # operations


@dataclass(frozen=True)
class Subject:
    """Something that is compared: its name, and how it takes a turn."""

    name: str
    turn: Turn

    @classmethod
    def here(cls, name: str, operate: Operation) -> "Subject":
        """Return the subject that does ``operate`` in this process."""
        return cls(name, partial(measure_turn, operate))


@dataclass
class Sample:
    """What was measured of one subject in one cell: seconds for one operation, one per round.

    ``cpu`` is that of the process that did it, of all its threads. ``stall`` is the longest time,
    in seconds, that the event loop was kept from other work; NaN where nobody looked. ``figures``
    are what else is known, by name, with the unit in the name.
    """

    name: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    stall: float = float("nan")
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Dose:
    """How much is measured: a full run for the report, a short one to see that all of it works."""

    rounds: int
    seconds: float  # that one subject's turn takes in a round
    full: bool


FULL = Dose(rounds=11, seconds=0.03, full=True)
SHORT = Dose(rounds=3, seconds=0.005, full=False)


@dataclass
class Cell:
    """One table row: the samples of all subjects under the same conditions.

    ``conditions`` say what they are, for instance ``{"operation": "load", "messages": 100}``.
    """

    group: str
    conditions: dict[str, Any]
    samples: list[Sample]

    def sample(self, name: str) -> Sample:
        """Return the sample of the subject ``name``."""
        return next(sample for sample in self.samples if sample.name == name)

    def ratio(self, name: str, to: str, of: str = "wall") -> "Spread":
        """Return how many times as long ``name`` took as ``to``, in the same rounds."""
        pairs = zip(getattr(self.sample(name), of), getattr(self.sample(to), of), strict=True)
        return Spread.of([one / max(other, 1e-9) for one, other in pairs])


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles beside it."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of ``values``."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(low, median(values), high)

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


async def compare(
    group: str,
    conditions: dict[str, Any],
    subjects: Sequence[Subject],
    *,
    dose: Dose,
    at_once: int = 1,
    count: int | None = None,
) -> Cell:
    """Measure ``subjects`` in turns; ``at_once`` operations run concurrently.

    Each of them is done ``count`` times in a turn, or as often as fits into the dose's seconds.
    """
    counts = []
    for subject in subjects:
        await subject.turn(1, at_once)  # the first one connects, compiles, fills caches
        counts.append(count or await _calibrate(subject, at_once, dose.seconds))
    samples = [Sample(subject.name) for subject in subjects]
    everyone = list(zip(subjects, counts, samples, strict=True))
    for _ in range(dose.rounds):
        random.shuffle(everyone)
        for subject, times, sample in everyone:
            wall, cpu = await subject.turn(times, at_once)
            sample.wall.append(wall)
            sample.cpu.append(cpu)
    return Cell(group, conditions, samples)


async def longest_stall(operate: Operation, *, at_once: int = 1, seconds: float = 0.5) -> float:
    """Return the longest time, in seconds, in which the event loop served nobody else.

    That is by how much a task that sleeps for a millisecond, over and over, was late.
    """
    longest = 0.0
    pause = 0.001

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await anyio.sleep(pause)
            longest = max(longest, time.perf_counter() - began - pause)

    deadline = time.perf_counter() + seconds

    async def work() -> None:
        while time.perf_counter() < deadline:
            await operate()

    async with anyio.create_task_group() as beating:
        beating.start_soon(heartbeat)
        await anyio.sleep(pause * 2)
        async with anyio.create_task_group() as working:
            for _ in range(at_once):
                working.start_soon(work)
        beating.cancel_scope.cancel()
    return longest


async def _calibrate(subject: Subject, at_once: int, seconds: float) -> int:
    """Return how many operations each of ``at_once`` does in a turn."""
    took, _ = await subject.turn(_CALIBRATING, at_once)
    return max(1, int(seconds / (took * at_once)))


async def measure_turn(operate: Operation, count: int, at_once: int) -> tuple[float, float]:
    """Return the wall and CPU seconds of one operation out of ``count * at_once``."""

    async def work() -> None:
        for _ in range(count):
            await operate()

    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    if at_once == 1:
        await work()
    else:
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(work)
    operations = count * at_once
    return (
        (time.perf_counter() - wall) / operations,
        (time.process_time() - cpu) / operations,
    )
