"""One writer: appends turns of three messages to one session, and notes each acknowledgement."""

import os
import sys

import anyio

from hermes_session_mw import SQLAlchemyStore


async def write(url: str, session_id: str, name: str) -> None:
    """Append until killed; each line out is a turn's number and the length that it was given."""
    store = SQLAlchemyStore(url)
    turn = 0
    while True:
        messages = [{"writer": name, "turn": turn, "part": part} for part in range(3)]
        length = await store.append(session_id, messages)
        os.write(1, f"{turn} {length}\n".encode())
        turn += 1


url, session_id, writer = sys.argv[1:]
anyio.run(write, url, session_id, writer)
