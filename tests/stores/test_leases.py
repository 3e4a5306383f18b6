"""Turns: whoever is inside may die or be late, and sessions be removed meanwhile."""

import sys
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hermes_session_mw import (
    HermesSession,
    MemoryStore,
    SessionBusy,
    SessionDeleted,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.stores.test_housekeeping import Make, every_store, make
from tests.support.server import ROOT

__all__ = ["make"]  # a fixture

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


@every_store
async def test_turns_are_given_out_beside_prune_and_delete(make: Make) -> None:
    """A lease acquired meanwhile has a greater fence, or is refused by the package's errors."""
    store: Any = make()
    owner = new_id()
    pruned, deleted = 0, 0
    fences: list[int] = []

    async def prune() -> None:
        nonlocal pruned
        while True:
            await remove_stale(store, owner)
            pruned += await store.prune(timedelta(0))

    async def delete() -> None:
        nonlocal deleted
        while True:
            await anyio.sleep(0.01)
            deleted += await store.delete("s", owner)

    async def write() -> None:
        while True:
            with suppress(SessionDeleted):
                await store.append("s", numbered(0), owner)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            for each in (prune, delete, write):
                tasks.start_soon(each)
            while len(fences) < 30 or not deleted:
                with suppress(SessionDeleted, TurnLost):
                    fences.append(await store.acquire("s", 60, owner))
                    await store.append("s", numbered(1), owner, fence=fences[-1])
                    await store.release("s", fences[-1], owner)
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert fences == sorted(set(fences))


async def remove_stale(store: Any, owner: str) -> None:
    """Remove the owner's sessions that are not in a turn, however young, as an operator could."""
    if isinstance(store, MemoryStore):
        return
    at_any_time = 2_000_000_000
    find = partial(delete_prune.find_stale, cutoff=at_any_time, owner=owner, after=("", ""))
    found = await store._read(find)
    if found:
        await store._write(lambda c: delete_prune.remove_stale(c, at_any_time, found))
