"""A process that stores messages as Hermes does; run with Hermes' code on its path.

Usage: ``python theirs.py STATE_DB JOURNAL NAME TURNS``. Hermes has no turn ids: a message that was
not acknowledged is stored again under another text.
"""

import sys
from pathlib import Path

from hermes_state import SessionDB

SESSIONS = 3


def main(path: str, journal: Path, name: str, turns: int) -> None:
    """Store each message until it is acknowledged, and then write it down."""
    done = len(journal.read_text().splitlines()) if journal.exists() else 0
    database = SessionDB(Path(path))
    attempt = 0
    with journal.open("a") as acknowledged:
        while done < 2 * turns:
            role = "assistant" if done % 2 else "user"
            attempt += 1
            said = f"theirs {name}-{done} {id(database)}-{attempt}"
            try:
                database.append_message(f"s{done // 2 % SESSIONS}", role, said)
            except Exception as exc:  # noqa: BLE001  # locked for longer than Hermes waits
                print(f"{said}: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
                continue
            acknowledged.write(f"{said}\n")
            acknowledged.flush()
            done += 1
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
