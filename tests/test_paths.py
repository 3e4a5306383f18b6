"""The number of files that an operation passes through does not grow."""

import subprocess
import sys

# Calls, files and switches between files: what ``python -m benchmarks.paths`` prints. Lower a bound
# where a change makes the path shorter.
BOUNDS = {
    "load by a known id": (90, 20, 50),
    "load without a header": (14, 6, 11),
    "append": (215, 24, 112),
    "prune by the command": (700, 34, 390),
}


def test_operations_pass_through_few_files() -> None:
    """Each operation stays within its bounds; the program's own process keeps threads apart."""
    program = [sys.executable, "-m", "benchmarks.paths"]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    table, *_ = printed.partition("\n\n")
    _, *lines = table.splitlines()
    counted = {}
    for line in lines:
        name, *numbers = line.rsplit(maxsplit=3)
        counted[name.strip()] = tuple(map(int, numbers))
    assert counted.keys() == BOUNDS.keys()
    for name, bounds in BOUNDS.items():
        for number, bound in zip(counted[name], bounds, strict=True):
            assert number <= bound, name
