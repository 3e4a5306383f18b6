"""Turns across processes: one at a time, freed by a crash, and closed to who comes late."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import HermesSession, SQLAlchemyStore
from hermes_session_mw.testing.helpers import new_id
from tests.support.server import ROOT


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    name = "postgres_url" if request.param == "postgresql" else "mysql_url"
    found: Any = request.getfixturevalue(name)
    return str(found.render_as_string(hide_password=False))


@pytest.fixture
def anyio_backend() -> str:
    """The event loop on this side; the processes run the other one."""
    return "trio"


def start(url: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.turn_worker", url, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def says(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_processes_take_turns(url: str) -> None:
    """Each turn of each process finds all the turns before it, and none is lost."""
    session_id = new_id()
    processes = [start(url, session_id, "8") for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    store = SQLAlchemyStore(url)
    history = await store.load(session_id)
    assert history.messages == [{"n": n} for n in range(24)]
    await store.aclose()


async def test_a_crashed_holder_frees_the_turn(url: str) -> None:
    """A process that is killed inside its turn keeps it until its lease ends, and no longer."""
    session_id = new_id()
    with start(url, session_id, "hold", "2") as holder:
        assert says(holder) == "held"
        holder.kill()
    store = SQLAlchemyStore(url)
    session = HermesSession(store, session_id)
    async with session.turn(wait=60) as turn:
        assert turn.fence > 1  # the holder's; by how much depends on what else was ever pruned
        assert await session.append({"n": 0}) == 1
    await store.aclose()


async def test_a_late_process_is_refused(url: str) -> None:
    """A process that slept through its lease finds out when it writes, and nothing is stored."""
    session_id = new_id()
    store = SQLAlchemyStore(url)
    session = HermesSession(store, session_id)
    with start(url, session_id, "hold", "0.2") as holder:
        assert says(holder) == "held"
        async with session.turn(wait=60):
            assert await session.append({"n": 0}) == 1
        assert holder.stdin is not None
        print(file=holder.stdin, flush=True)
        assert says(holder) == "lost"
    assert holder.returncode == 0
    assert await session.load() == [{"n": 0}]
    await store.aclose()
