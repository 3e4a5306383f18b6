"""Processes that are killed while they edit one conversation lose and double nothing."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.testing.helpers import new_id
from tests.support.server import ROOT

KILLS = 12


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


async def test_killed_editors_lose_nothing(url: str, tmp_path: Path) -> None:
    """What was acknowledged is in the history or in the archive, once, whoever was killed when."""
    session_id = new_id()
    logs = [tmp_path / f"log-{number}" for number in range(3)]

    def start(log: Path) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-m", "tests.support.edit_worker", url, session_id, str(log)]
        return subprocess.Popen(words, cwd=ROOT)

    def acknowledged() -> list[str]:
        return [name for log in logs if log.exists() for name in log.read_text().split()]

    running = [start(log) for log in logs]
    try:
        for _ in range(KILLS):
            before = len(acknowledged())
            with anyio.fail_after(60):
                while len(acknowledged()) < before + 20:  # noqa: ASYNC110  # nobody tells
                    await anyio.sleep(0.02)
            number = random.randrange(len(logs))
            assert running[number].poll() is None
            running[number].kill()
            running[number].wait()
            running[number] = start(logs[number])
    finally:
        for process in running:
            process.kill()
            process.wait()
    store = SQLAlchemyStore(url, timeout=30)
    history = await store.load(session_id)
    archived = await store.archived(session_id)
    everything = [*history.messages, *(old.message for old in archived)]
    found = Counter(message["name"] for message in everything if "name" in message)
    assert [name for name in acknowledged() if found[name] != 1] == []
    assert [name for name, count in found.items() if count > 1] == []
    assert history.length == len(history.messages) == (await store.load(session_id, limit=1)).length
    await store.aclose()
