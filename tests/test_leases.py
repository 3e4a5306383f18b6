"""Turns over real processes: whoever is inside may die, or be late."""

import sys
from pathlib import Path
from subprocess import PIPE, Popen

import anyio
import pytest

from hermes_session_mw import HermesSession, SessionBusy, SQLAlchemyStore, TurnLost

from .server import ROOT

HELLO = {"role": "user", "content": "hello"}
HOLDER = """
import sys
import anyio
from hermes_session_mw import SQLAlchemyStore

async def hold():
    await SQLAlchemyStore(sys.argv[1]).acquire("shared", 2)
    print("inside", flush=True)
    await anyio.sleep_forever()

anyio.run(hold)
"""


def hold_and_die(url: str) -> None:
    """Have a process take the turn for two seconds, and kill it inside."""
    with Popen([sys.executable, "-c", HOLDER, url], cwd=ROOT, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"inside\n"
        process.kill()


async def test_a_crashed_holders_turn_ends_with_its_lease(sqlite_url: str) -> None:
    """Until then others are told to wait, and for how long; then one that waits is inside."""
    store = SQLAlchemyStore(sqlite_url)
    await anyio.to_thread.run_sync(hold_and_die, sqlite_url)
    session = HermesSession(store, "shared")
    with pytest.raises(SessionBusy) as busy:
        await session.turn(wait=0).acquire()
    assert 0 < busy.value.retry_after <= 2
    async with session.turn(wait=10):
        assert await session.append(HELLO) == 1
    await store.aclose()


async def test_a_late_holder_is_refused(tmp_path: Path) -> None:
    """Once another was inside, whose lease may have ended too, nothing of the first is written."""
    url = f"sqlite:///{tmp_path}/late.db"
    store, others = SQLAlchemyStore(url), SQLAlchemyStore(url)
    late, next_one = HermesSession(store, "shared"), HermesSession(others, "shared")
    async with late.turn(lease=0.05) as turn:
        async with next_one.turn():
            await next_one.append(HELLO)
            with pytest.raises(TurnLost):
                await turn.extend()
            with pytest.raises(TurnLost):
                await late.append(HELLO)
        with pytest.raises(TurnLost):
            await late.rewind(0)
    assert [await each.load() for each in (late, next_one)] == [[HELLO], [HELLO]]
    await store.aclose()
    await others.aclose()
