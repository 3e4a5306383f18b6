"""A process that takes turns.

``python -m tests.support.turn_worker URL ID TURNS`` is its command, or ``... hold LEASE``.
With a number it appends so many turns of one message, each the history's length as it found it.
With ``hold`` it takes the turn, says so, waits for a line, and then tries to write.
"""

import sys

import anyio
import anyio.to_thread

from hermes_session_mw import HermesSession, SQLAlchemyStore, TurnLost


async def _write(store: SQLAlchemyStore, session_id: str, turns: int) -> None:
    for _ in range(turns):
        session = HermesSession(store, session_id)
        async with session.turn(wait=60):
            await session.append({"n": session.length})


async def _hold(store: SQLAlchemyStore, session_id: str, lease: float) -> None:
    session = HermesSession(store, session_id)
    async with session.turn(lease=lease):
        print("held", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        try:
            await session.append({"n": "late"})
        except TurnLost:
            print("lost", flush=True)
        else:
            print("stored", flush=True)


async def _main(*arguments: str) -> None:
    url, session_id, *words = arguments
    store = SQLAlchemyStore(url, timeout=60)
    if words[0] == "hold":
        await _hold(store, session_id, float(words[1]))
    else:
        await _write(store, session_id, int(words[0]))
    await store.aclose()


if __name__ == "__main__":
    anyio.run(_main, *sys.argv[1:])
