"""The long run, on databases of its own."""

import argparse
import tempfile
from pathlib import Path

from tests import mariadb, postgres

from .kills import databases, torture


def main() -> None:
    """Run, and print how each database came through."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=350, help="for each database")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres.server() as postgres_server,
        postgres.database(postgres_server) as postgres_url,
        mariadb.server() as mysql_server,
        mariadb.database(mysql_server) as mysql_url,
    ):
        for name, url in databases(Path(folder), postgres_url, mysql_url).items():
            outputs = Path(folder) / name
            outputs.mkdir()
            print(f"{name}: {torture(url, outputs, options.kills)}", flush=True)


main()
