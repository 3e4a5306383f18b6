"""Runs the benchmarks and writes the report: ``python -m benchmarks``."""

import argparse
import gc
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks import results as recorded
from benchmarks.measuring import FULL, SHORT, Dose
from benchmarks.report import LAYOUTS, render
from benchmarks.results import Results
from benchmarks.targets import GROUP_OF, targets

GROUPS = tuple(layout.group for layout in LAYOUTS)
_DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and return 1 if a group broke off."""
    options = _parse(arguments)
    if options.report_from:
        results = Results.read(options.report_from)
    else:
        results = measure(options.only, SHORT if options.short else FULL)
    write(results, options.output)
    groups = {*GROUPS} if options.report_from else {*options.only}
    for target in targets(results.cells):
        if GROUP_OF[target.area] in groups:
            tell(f"{target.verdict:12}  {target.area}, {target.says}: {target.measured}")
    return 1 if results.failures else 0


def measure(groups: Sequence[str], dose: Dose) -> Results:
    """Measure ``groups``, one after another; one that breaks off does not end the others."""
    facts = recorded.facts(dose, postgresql=recorded.postgresql_version())
    results = Results(facts, recorded.versions(), [])
    for group in groups:
        began = time.perf_counter()
        tell(f"{group}: measuring")
        try:
            module = importlib.import_module(f"{__package__}.{group}")
            # Else each collection goes through all that the peers have imported, later groups' too.
            gc.collect()
            gc.freeze()
            results.cells += module.measure(dose)
            results.left_out |= getattr(module, "LEFT_OUT", {})
        except Exception as error:  # noqa: BLE001  # whatever a peer raises
            traceback.print_exc()
            results.failures[group] = f"{type(error).__name__}: {error}".splitlines()[0]
        finally:
            gc.unfreeze()
        state = "broke off" if group in results.failures else "done"
        tell(f"{group}: {state} after {time.perf_counter() - began:.0f} s")
    return results


def write(results: Results, directory: Path) -> None:
    """Write the raw numbers, the plots and the report into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    results.write(directory / "results.json")
    from benchmarks.plots import draw  # noqa: PLC0415  # the figures are safe by now, also where it is missing

    drawn = draw(results.cells, directory)
    page = directory / "report.md"
    page.write_text(render(results, drawn), encoding="utf-8")
    tell(f"written: {page}")


def tell(line: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only to see that all of it works")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument(
        "--output", type=Path, help=f"a directory ({_DOCS}); needed with --short and --only"
    )
    parser.add_argument(
        "--report-from", type=Path, metavar="FILE", help="measure nothing, take this results.json"
    )
    options = parser.parse_args(arguments)
    if options.output is None and (options.short or {*options.only} != {*GROUPS}):
        parser.error("--short and --only measure too little for docs/benchmarks/: give --output")
    options.output = options.output or _DOCS
    return options


if __name__ == "__main__":
    sys.exit(main())
