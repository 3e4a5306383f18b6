"""Measures answers that outlive their connection, and prints the figures.

Each measure is a module with ``add_options(parser)`` and ``measure(options)``, which yields lines.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

MEASURES = ("rejoin", "followers", "throughput", "memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measure that the command line names, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="MEASURE")
    for name in MEASURES:
        module = importlib.import_module(f"{__package__}.{name}")
        command = commands.add_parser(name, help=str(module.__doc__).partition("\n")[0])
        module.add_options(command)
        command.set_defaults(measure=module.measure)
    options = parser.parse_args(arguments)
    for line in options.measure(options):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
