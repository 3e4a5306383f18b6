"""The long run, on databases of its own."""

import argparse
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.long.cuts.program import DATABASES, Size, missing, run


def main() -> None:
    """Run on each database, print the figures, and tell by the exit code whether all is well."""
    options = _parse()
    # So that everything is stopped and tidied up, as it is after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    databases = [options.only] if options.only else DATABASES
    violations = 0
    for number, database in enumerate(databases):
        lacks = missing(database)
        if lacks:
            sys.exit(lacks)
        # The first ones get what is left over.
        share = options.cuts // len(databases) + (number < options.cuts % len(databases))
        with _folder(options.keep, database) as folder:
            size = Size(share, options.conversations)
            report = run(database, folder, size, options.seed)
        print(report, flush=True)
        violations += len(report.violations)
    sys.exit(1 if violations else 0)


@contextmanager
def _folder(keep: str | None, database: str) -> Iterator[Path]:
    if keep:
        folder = Path(keep, database)
        folder.mkdir(parents=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.long.cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10_000, help="over all databases; %(default)s")
    parser.add_argument(
        "--conversations", type=int, default=24, help="how many at once; %(default)s"
    )
    parser.add_argument(
        "--keep", metavar="FOLDER", help="keep the journal and the logs in a new one"
    )
    parser.add_argument("--only", choices=DATABASES, help="run on this one alone")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(2**16), help="what plans come from"
    )
    return parser.parse_args()


main()
