"""Killing writers with SIGKILL, and holding what is stored against what was acknowledged."""

import os
import random
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import anyio
from sqlalchemy import URL

from hermes_session_mw import History, SQLAlchemyStore
from tests.server import ROOT

WRITERS = 8


@dataclass(frozen=True)
class Outcome:
    """How a run ended: nothing acknowledged was lost, or there would be none."""

    kills: int
    stored: int
    acknowledged: int


def torture(url: URL, folder: Path, kills: int) -> Outcome:
    """Kill ``kills`` of eight writers to one session, each replaced by another; check the rest."""
    session_id = secrets.token_hex(8)
    text = url.render_as_string(hide_password=False)
    running: dict[str, subprocess.Popen[bytes]] = {}
    started: list[str] = []

    def start() -> None:
        name = str(len(started))
        command = [sys.executable, "-m", "tests.torture.writer", text, session_id, name]
        with (folder / name).open("wb") as output:
            running[name] = subprocess.Popen(
                command, stdout=output, stderr=subprocess.DEVNULL, cwd=ROOT
            )
        started.append(name)

    try:
        for _ in range(WRITERS):
            start()
        _wait_for_the_first(folder / "0")
        for _ in range(kills):
            time.sleep(random.uniform(0, 0.15))
            victim = running.pop(random.choice(list(running)))
            victim.kill()
            victim.wait()
            start()
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    acknowledged = {
        (name, int(turn)): int(length) for name in started for turn, length in _lines(folder / name)
    }
    return Outcome(
        kills, check(anyio.run(_load, text, session_id), acknowledged), len(acknowledged)
    )


def check(history: History, acknowledged: dict[tuple[str, int], int]) -> int:
    """Hold the stored turns against the acknowledged ones; return how many are stored."""
    assert len(history.messages) == history.length
    turns = [history.messages[at : at + 3] for at in range(0, history.length, 3)]
    for turn in turns:  # none torn, none interleaved
        assert [message["part"] for message in turn] == [0, 1, 2]
        assert len({(message["writer"], message["turn"]) for message in turn}) == 1
    stored = {(t[0]["writer"], t[0]["turn"]): 3 * at for at, t in enumerate(turns, 1)}
    assert len(stored) == len(turns)  # none twice
    for turn_key, length in acknowledged.items():  # none lost, none moved
        assert stored[turn_key] == length
    for writer in {writer for writer, _ in stored}:  # each writer's in its order
        own = [turn for name, turn in stored if name == writer]
        assert own == list(range(len(own)))
    return len(turns)


def _wait_for_the_first(output: Path) -> None:
    for _ in range(600):
        if output.stat().st_size:
            return
        time.sleep(0.05)
    raise AssertionError("no writer could write")


def _lines(output: Path) -> list[list[str]]:
    # A line that was cut short by the kill is no acknowledgement.
    text = output.read_text()
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


async def _load(url: str, session_id: str) -> History:
    store = SQLAlchemyStore(url)
    history = await store.load(session_id)
    await store.aclose()
    return history


def databases(folder: Path, postgres: URL, mysql: URL) -> dict[str, URL]:
    """Return one URL for each database."""
    sqlite = URL.create("sqlite", database=os.fspath(folder / "torture.db"))
    return {"sqlite": sqlite, "postgresql": postgres, "mysql": mysql}
