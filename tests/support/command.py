"""``hermes-sessions`` for tests: in this process, as one of its own, and at a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from click.testing import CliRunner, Result
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.cli.app import cli
from tests.support.server import ROOT

COMMAND = [sys.executable, "-m", "hermes_session_mw.cli"]
TURN = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Yes, rain."}]


def run(store: URL | str, *arguments: str, stdin: str | bytes = "") -> Result:
    """Run the command in this process."""
    where = store if isinstance(store, str) else store.render_as_string(hide_password=False)
    result = CliRunner().invoke(cli, ["--store", where, *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(store: URL | str, *arguments: str, stdin: str | bytes = "") -> Any:
    """Return what the command says as JSON, and see that it succeeds."""
    result = run(store, *arguments, "--json", stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def fill(store: URL | str, *sessions: tuple[str, str]) -> None:
    """Store a conversation of one turn for each owner and id."""

    async def append() -> None:
        filled = SQLAlchemyStore(store)
        for owner, session_id in sessions:
            await filled.append(session_id, TURN, owner, turn_id=f"turn of {session_id}")
        await filled.aclose()

    anyio.run(append)


def environment(**more: str) -> dict[str, str]:
    """Return the environment that a process of the command needs."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def start(store: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Start the command as a process."""
    command = [*COMMAND, "--store", store, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment(), text=True, **{**pipes, **options})


def script_in(folder: Path) -> str:
    """Make ``hermes-sessions`` in a folder, and return a PATH that finds it there."""
    script = folder / "hermes-sessions"
    script.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


class Terminal:
    """A process at a terminal of its own, which is read as a person would."""

    def __init__(self, process: "subprocess.Popen[bytes]", terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.seen = ""

    def type(self, text: str) -> None:
        """Type it."""
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until ``text`` is there."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            assert self._read(), self.seen

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(60)

    @property
    def plain(self) -> str:
        """What was shown, without what moved the cursor."""
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", self.seen)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], 60)
        assert ready, self.seen
        try:
            read = os.read(self._terminal, 65536)
        except OSError:  # its other end was closed
            return False
        self.seen += read.decode(errors="replace")
        return bool(read)


@contextmanager
def at_terminal(*command: str, columns: int = 100, **environ: str) -> Iterator[Terminal]:
    """Run a command with a terminal for all three of its streams."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    without = {name: value for name, value in environment(**environ).items() if name != "COLUMNS"}
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=without, start_new_session=True
    )
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)
        os.close(ours)
