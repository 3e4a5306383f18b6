"""Runs every version of Hermes Agent beside the store over its database, check by check.

It gets the versions that were published, and prints a table of the checks, which `--write` puts
into the page about Hermes' database. It fails if something differs that `NAMED` does not name.
"""

import argparse
import sys
from pathlib import Path

from tests.long.hermes_versions.checks import CHECKS
from tests.long.hermes_versions.page import Outcome, table, write
from tests.long.hermes_versions.run import outcome, run_together
from tests.long.hermes_versions.versions import installed, read_from
from tests.support.server import ROOT


def main() -> None:
    """Run the checks."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.hermes_versions", description=__doc__
    )
    parser.add_argument(
        "--versions", type=Path, default=ROOT / ".hermes-versions", metavar="FOLDER"
    )
    code = "also run the code in this folder, which is not published"
    parser.add_argument(
        "--code", type=Path, action="append", default=[], metavar="FOLDER", help=code
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="the checks whose label has it")
    turns = "how many turns both write at once to each version's file; %(default)s if not given"
    parser.add_argument("--turns", type=int, default=10_000, help=turns)
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    arguments = parser.parse_args()
    published = installed(arguments.versions)
    versions = [*published, *map(read_from, arguments.code)]
    outcomes: dict[str, dict[str, Outcome]] = {}
    for label, check in CHECKS.items():
        if arguments.only in label:
            outcomes[label] = {
                each.name: outcome(label, check, each, published[-1]) for each in versions
            }
    if arguments.turns and not arguments.only:
        label = f"{arguments.turns:,} turns of both at once, in processes that are killed"
        outcomes[label] = {each.name: run_together(each, arguments.turns) for each in versions}
    print(table(versions, outcomes))
    unnamed = [
        f"{label}, {name}: {line}"
        for label, of_check in outcomes.items()
        for name, found in of_check.items()
        if found.reason is None
        for line in found.differences
    ]
    print(*unnamed, sep="\n", file=sys.stderr)
    if not unnamed and arguments.write:
        write(table(versions, outcomes))
    sys.exit(1 if unnamed else 0)


main()
