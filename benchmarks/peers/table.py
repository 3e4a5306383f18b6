"""A plain table of cells, for who runs one module alone."""

import sys
from collections.abc import Iterable
from statistics import median

from benchmarks.measuring import Cell
from benchmarks.peers.everyone import OURS


def show(cells: Iterable[Cell]) -> None:
    """Write the median wall and CPU microseconds of each subject, and how they compare to ours."""
    for cell in cells:
        heading = ", ".join(f"{key} {value}" for key, value in cell.conditions.items())
        sys.stdout.write(f"\n{cell.group}: {heading}\n")
        measured = {sample.name for sample in cell.samples}
        for sample in cell.samples:
            columns = [
                f"  {sample.name:34}",
                f"{median(sample.wall) * 1e6:12,.1f} us",
                f"{median(sample.cpu) * 1e6:12,.1f} us CPU",
                f"{sample.stall * 1e3:8.1f} ms stall",
            ]
            if OURS in measured:
                columns.append(f"{cell.ratio(sample.name, to=OURS).middle:8.2f} x ours")
            columns += [f"{name} {value:g}" for name, value in sample.figures.items()]
            sys.stdout.write("  ".join(columns) + "\n")
