"""Footprint: what importing the package takes, and asking the command for help."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
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
_SPAWNING = Path(__file__).with_name("spawning.py")


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
    command = [sys.executable, *_ARGUMENTS[name]]
    spawning = [sys.executable, "-I", str(_SPAWNING), *command]
    told = subprocess.run(spawning, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603  # ours
    took = json.loads(told)
    if took["returncode"]:
        raise RuntimeError(f"{name}: the process ended with {took['returncode']}")
    return _Run(took["wall"], took["cpu"], took["bytes"] / 1e6)


def _sample(name: str, runs: list[_Run]) -> Sample:
    figures = {"MB": median(one.megabytes for one in runs)}
    return Sample(name, [one.wall for one in runs], [one.cpu for one in runs], figures=figures)


if __name__ == "__main__":
    show(measure(SHORT))
