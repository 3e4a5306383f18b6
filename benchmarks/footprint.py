"""Footprint: what importing the package takes, and asking the command for help."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from random import sample
from statistics import median

from benchmarks.measuring import SHORT, Cell, Dose, Sample
from benchmarks.peers.table import show

NOTHING, IMPORT, HELP = "Python alone", "import, without a SQL store", "hermes-sessions --help"
_ARGUMENTS = {
    NOTHING: ("-c", "pass"),
    IMPORT: ("-c", "from hermes_session_mw import HermesSessionMiddleware, MemoryStore"),
    HELP: ("-m", "hermes_session_mw.cli", "--help"),
}


@dataclass(frozen=True)
class _Run:
    """What a process took."""

    wall: float
    cpu: float
    megabytes: float


def measure(dose: Dose) -> list[Cell]:
    """Return one cell, of processes that do nothing but begin and end."""
    runs: dict[str, list[_Run]] = {name: [] for name in _ARGUMENTS}
    for name in _ARGUMENTS:
        _run(name)  # nobody counts it: it compiles what has changed
    for _ in range(dose.rounds):
        for name in sample(list(runs), len(runs)):
            runs[name].append(_run(name))
    return [Cell("footprint", {"what": "a process"}, [_sample(*one) for one in runs.items()])]


def _run(name: str) -> _Run:
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603  # nothing in it comes from outside
        [sys.executable, *_ARGUMENTS[name]], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{name}: the process ended with {process.returncode}")
    return _Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def _sample(name: str, runs: list[_Run]) -> Sample:
    figures = {"MB": median(one.megabytes for one in runs)}
    return Sample(name, [one.wall for one in runs], [one.cpu for one in runs], figures=figures)


if __name__ == "__main__":
    show(measure(SHORT))
