"""The long run: a million values in process, a hundred thousand over each parser."""

import argparse
import secrets
import tempfile
from pathlib import Path

from tests.long.fuzz.runs import in_process, over_sockets


def main() -> None:
    """Run, and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.fuzz", description=__doc__)
    parser.add_argument("--in-process", type=int, default=1_000_000)
    parser.add_argument("--over-sockets", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    print("in process:", dict(in_process(options.in_process, options.seed)), flush=True)
    for http in ("h11", "httptools"):
        with tempfile.TemporaryDirectory() as folder:
            seen = over_sockets(options.over_sockets, options.seed, http, Path(folder))
        print(f"uvicorn, {http}:", dict(seen), flush=True)


main()
