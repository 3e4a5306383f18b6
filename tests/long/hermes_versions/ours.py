"""A process that appends turns through the store; it goes on where its journal ends.

Usage: ``python -m tests.long.hermes_versions.ours STATE_DB JOURNAL NAME TURNS``.
"""

import sys
from pathlib import Path

import anyio

from hermes_session_mw import HermesStateStore, StoreError
from hermes_session_mw.messages import Message

SESSIONS = 3


async def main(path: str, journal: Path, name: str, turns: int) -> None:
    """Append each turn until it is acknowledged, and then write it down."""
    done = len(journal.read_text().splitlines()) if journal.exists() else 0
    store = HermesStateStore(path, timeout=30)
    with journal.open("a") as acknowledged:
        while done < turns:
            messages: list[Message] = [
                {"role": "user", "content": f"ours {name}-{done}"},
                {
                    "role": "assistant",
                    "content": f"answer {name}-{done}",
                    "tool_calls": [{"id": "c"}],
                },
            ]
            try:
                await store.append(f"s{done % SESSIONS}", messages, turn_id=f"{name}-{done}")
            except StoreError as exc:
                print(f"{name}-{done}: {exc}", file=sys.stderr, flush=True)
                continue
            acknowledged.write(f"{name}-{done}\n")
            acknowledged.flush()
            done += 1
    await store.aclose()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
