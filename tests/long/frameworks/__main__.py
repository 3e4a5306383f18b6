"""Prints a line for each framework whose own tests can be run; fails if one fails unexpectedly."""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

NAMES = ["openai_agents"]


def main() -> None:
    """Run the suites that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.frameworks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    as_known = True
    for name in parser.parse_args().names or NAMES:
        module = importlib.import_module(f"tests.long.frameworks.{name}")
        with tempfile.TemporaryDirectory() as folder:
            outcome = module.run(Path(folder))
        print(outcome.line(), flush=True)
        as_known = as_known and outcome.is_as_known()
    sys.exit(0 if as_known else 1)


main()
