"""What the tests need of Hermes Agent: its code, a database that it wrote, and what it read."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.requirements import needs
from tests.support.server import ROOT

HERE = Path(__file__).parent
CODE = ROOT / ".hermes-agent"
GOLDEN: dict[str, Any] = json.loads((HERE / "golden.json").read_text())
SESSIONS: dict[str, Any] = GOLDEN["sessions"]

WEATHER = "api-3f2a9c0d1b4e5f67"
COMPRESSED, TIP = "20260921_101500_ab12cd", "20260921_113000_ef34ab"
REWOUND = "api_1790000200_deadbeef"

TURN: list[dict[str, Any]] = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": "y"},
]
UPKEEP = "Review the conversation above and consider saving to memory"
"""How a prompt begins by which Hermes reviews its memory."""


def golden(session_id: str) -> Any:
    """Return what Hermes read of this very session."""
    return SESSIONS[session_id]["get_messages_as_conversation"]


def copy_to(folder: Path) -> Path:
    """Return a copy of the database that Hermes wrote."""
    return Path(shutil.copy(HERE / "state.db", folder / "state.db"))


def ask(path: Path, sql: str, *values: Any) -> list[Any]:
    """Run one statement on the file, beside everybody else."""
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        return connection.execute(sql, values).fetchall()


class Agent:
    """A running Hermes, as far as its database goes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def begin(self, method: str, *arguments: Any, **options: Any) -> None:
        """Have it call a method of its ``SessionDB``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, arguments, options]) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """Return what it answered."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return what a method of its ``SessionDB`` returns."""
        self.begin(method, *arguments, **options)
        answer = self.end()
        assert "error" not in answer, answer
        return answer["value"]

    def conversation(self, session_id: str) -> Any:
        """Return what it would go on with."""
        return self.call("get_messages_as_conversation", session_id)

    def append(self, session_id: str, *messages: dict[str, Any]) -> None:
        """Have it store messages as it stores its own."""
        calls = [("append_message", [session_id], message) for message in messages]
        self.begin("many", *calls)
        assert [answer for answer in self.end() if "error" in answer] == []


@contextmanager
def hermes(path: Path, code: Path = CODE) -> Iterator[Agent]:
    """Run Hermes over the file ``path``, which it makes if there is none; ``code`` is its code."""
    if not (code / "hermes_state.py").exists():
        needs("no Hermes Agent in .hermes-agent: run 'make .hermes-agent/.installed'")
    environment = {
        **os.environ,
        "PYTHONPATH": str(code),
        "HERMES_HOME": str(path.parent / "hermes-home"),
    }
    command = [sys.executable, "-P", str(HERE / "process.py"), str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Agent(process)
        process.stdin.close()
        assert process.wait(30) == 0


def without_times(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages as they were before they were given a time."""
    return [{k: v for k, v in message.items() if k != "timestamp"} for message in messages]
