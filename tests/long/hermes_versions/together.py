"""Hermes' own code and the store on one file, in several processes that are killed meanwhile."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import anyio

from hermes_session_mw import HermesStateStore
from tests.long.hermes_versions.ours import SESSIONS
from tests.long.hermes_versions.versions import Version
from tests.stores.hermes_state.agent import Agent, ask, hermes
from tests.support.server import ROOT

WRITERS = ("ours-1", "ours-2", "theirs-1", "theirs-2")
_LONGEST = 1800  # seconds after which a run has failed


def together(folder: Path, version: Version, turns: int, kills: int = 40) -> list[str]:
    """Have four processes add so many turns, kill them now and then, and return what is wrong."""
    path = folder / "state.db"
    with hermes(path, version.code) as agent:
        for number in range(SESSIONS):
            agent.call("create_session", f"s{number}", "telegram")
    each = turns // len(WRITERS)
    running = {name: _start(path, name, version, each) for name in WRITERS}
    killed, begun = 0, time.monotonic()
    try:
        while running:
            if time.monotonic() - begun > _LONGEST:
                return ["the writers do not come to an end"]
            time.sleep(random.uniform(0, 0.5))
            for name, process in list(running.items()):
                if process.poll() == 0:
                    del running[name]
                elif process.poll() is not None:
                    return [f"{name} failed: {process.returncode}"]
            written = sum(_journal(path, name).count("\n") for name in WRITERS)
            # Theirs are two messages a turn: six lines are four turns.
            due = kills * written // (each * 6)
            if running and killed < min(due, kills):
                name, process = random.choice(list(running.items()))
                process.kill()
                process.wait()
                killed += 1
                running[name] = _start(path, name, version, each)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    with hermes(path, version.code) as agent:
        return [*anyio.run(_find_wrong, path, agent), *_damage(path)]


def _start(path: Path, name: str, version: Version, turns: int) -> "subprocess.Popen[bytes]":
    arguments = [str(path), str(path.with_name(f"{name}.journal")), name, str(turns)]
    if name.startswith("ours"):
        program = ["-m", "tests.long.hermes_versions.ours"]
        return subprocess.Popen([sys.executable, *program, *arguments], cwd=ROOT)
    environment = {
        **os.environ,
        "PYTHONPATH": str(version.code),
        "HERMES_HOME": str(path.parent / "hermes-home"),
    }
    program = ["-P", str(Path(__file__).with_name("theirs.py"))]
    return subprocess.Popen([sys.executable, *program, *arguments], env=environment)


def _journal(path: Path, name: str) -> str:
    journal = path.with_name(f"{name}.journal")
    return journal.read_text() if journal.exists() else ""


async def _find_wrong(path: Path, agent: Agent) -> list[str]:
    """Return what of the acknowledged messages is missing, doubled or torn."""
    wrong = []
    store = HermesStateStore(path)
    said: Counter[str] = Counter()
    for number in range(SESSIONS):
        theirs = agent.conversation(f"s{number}")
        if (await store.load(f"s{number}")).messages != theirs:
            wrong.append(f"s{number} is read otherwise")
        texts = [message["content"] for message in theirs]
        said.update(texts)
        for text, after in zip(texts, [*texts[1:], ""], strict=True):
            if text.startswith("ours ") and after != f"answer{text[4:]}":
                wrong.append(f"{text!r} is followed by {after!r}")
        row = agent.call("get_session", f"s{number}")
        calls = sum(len(message.get("tool_calls", ())) for message in theirs)
        if (row["message_count"], row["tool_call_count"]) != (len(theirs), calls):
            wrong.append(f"s{number} has {len(theirs)} messages and {calls} calls: {row}")
    await store.aclose()
    for name in WRITERS:
        for line in _journal(path, name).splitlines():
            text = f"ours {line}" if name.startswith("ours") else line
            if said[text] != 1:
                wrong.append(f"{text!r} is there {said[text]} times")
    return wrong


def _damage(path: Path) -> list[str]:
    wrong = []
    if ask(path, "PRAGMA integrity_check") != [("ok",)] or ask(path, "PRAGMA foreign_key_check"):
        wrong.append("the file is damaged")
    ((messages,),) = ask(path, "SELECT count(*) FROM messages")
    tables = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%messages%'"
    for (name,) in ask(path, tables):
        ask(path, f"INSERT INTO {name} ({name}) VALUES ('integrity-check')")
        ((indexed,),) = ask(path, f"SELECT count(*) FROM {name}")
        if indexed != messages:
            wrong.append(f"{name} has {indexed} of {messages} messages")
    return wrong
