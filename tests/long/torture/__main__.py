"""The long run, on databases of its own."""

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.long.torture.programs import PROGRAMS, Shared
from tests.support import mariadb, postgres

COUNTS = {
    "kills": 350,
    "servers": 60,
    "lost": 300,
    "pooler": 120,
    "model": 20_000,
    "prune": 350,
    "replace": 300,
    "clock": 20,
}


def main() -> None:
    """Run, and print how each database came through."""
    options = parse()
    # So that everything is stopped and tidied up, as it is after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    random.seed(options.seed)
    with postgres.server() as postgres_server, mariadb.server() as mysql_server:
        for program in [options.only] if options.only else PROGRAMS:
            run(
                program,
                getattr(options, program),
                {"postgresql": postgres_server, "mysql": mysql_server},
            )


def parse() -> argparse.Namespace:
    """Return the options: a count for each program, by its name, and ``only``."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.torture", description=__doc__)
    for option, program, what in [
        ("--kills", "kills", "writers killed"),
        ("--server-kills", "servers", "crashes of the server"),
        ("--lost", "lost", "lost replies to COMMIT"),
        ("--pooler", "pooler", "kills and pauses of the pooler"),
        ("--operations", "model", "acknowledged operations, held against the model"),
        ("--prune-kills", "prune", "kills while sessions are pruned and deleted"),
        ("--replacing-kills", "replace", "writers killed that append and replace"),
        ("--clock-jumps", "clock", "jumps of the clock"),
    ]:
        text = f"{what}, for each database; %(default)s if not given"
        parser.add_argument(option, type=int, dest=program, default=COUNTS[program], help=text)
    parser.add_argument("--only", choices=PROGRAMS, help="run this one alone")
    parser.add_argument("--seed", type=int, help="what choices come from; another each time")
    return parser.parse_args()


def run(name: str, rounds: int, shared: Shared) -> None:
    """Run one program on each of its databases, and print a line for each."""
    program = PROGRAMS[name]
    for database in program.databases:
        missing = program.missing(database)
        if missing:
            sys.exit(missing)
        with tempfile.TemporaryDirectory() as folder:
            outcome = program.run(database, Path(folder), rounds, shared)
        print(f"{name}, {database}: {outcome}", flush=True)


main()
