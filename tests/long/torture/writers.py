"""Several writer processes to one session: started, killed, replaced, and listened to."""

import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from sqlalchemy import URL

from tests.support.server import ROOT
from tests.support.signals import held_back

WRITERS = 8


@dataclass
class Report:
    """What one writer said of its turns."""

    acknowledged: dict[int, int] = field(default_factory=dict)
    """The length that each was given."""
    in_doubt: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    """What was not stored because others were at it."""
    doubts: int = 0
    unavailable: int = 0

    @property
    def next_turn(self) -> int:
        """The first turn that nothing was said of: it may be stored, or not."""
        return max([*self.acknowledged, *self.in_doubt, *self.refused], default=-1) + 1


class Writers:
    """Eight writers, from the beginning of the block to its end.

    Attributes:
        session_id: the session that they all write to.
        running: the processes, by the writers' names.
    """

    goes_on: bytes = b"stored "
    """What a line begins with that says that a writer gets on."""

    def __init__(
        self,
        folder: Path,
        *urls: URL,
        mode: Literal["repeat", "trust", "replace"],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Take where their output goes, the URLs that they get in turn, and what more they see."""
        self.session_id = secrets.token_hex(8)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self._urls = [url.render_as_string(hide_password=False) for url in urls]
        self._mode = mode
        self._environment = {**unmeasured(), **(environment or {})}
        self._started = 0

    def __enter__(self) -> Self:
        try:
            for _ in range(WRITERS):
                self._start()
            self.wait_for_turns(1)
        except BaseException:
            self._kill(*self.running)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        ended = [name for name, process in self.running.items() if process.poll() is not None]
        self._kill(*self.running)
        assert not ended, self._why(ended[0])

    def replace_one(self) -> None:
        """Kill one of them with SIGKILL, and start another."""
        name = random.choice(list(self.running))
        self._kill(name)
        self.succeed(name)
        self._start()

    def succeed(self, name: str) -> None:
        """Note that the next one to be started comes in the place of ``name``."""

    def wait_for_turns(self, turns: int, *, of_each: bool = True) -> None:
        """Wait until each of them, or else one of them, has had so many more turns acknowledged."""
        deadline = time.monotonic() + 240
        before = {name: self._output(name).stat().st_size for name in self.running}
        waiting = set(before)
        while waiting if of_each else waiting == set(before):
            for name in list(waiting):
                assert self.running[name].poll() is None, self._why(name)
                with self._output(name).open("rb") as output:
                    output.seek(before[name])
                    if output.read().count(self.goes_on) >= turns:
                        waiting.remove(name)
            assert time.monotonic() < deadline, f"writers {waiting} do not get on"
            time.sleep(0.02)

    def reports(self) -> dict[str, Report]:
        """Return what each writer said that there ever was."""
        return {str(number): _read(self._output(str(number))) for number in range(self._started)}

    def command(self, name: str) -> list[str]:
        """Return the module that a writer is, and what it is told."""
        url = self._urls[int(name) % len(self._urls)]
        return ["tests.long.torture.writer", url, self.session_id, name, self._mode]

    def _start(self) -> None:
        name = str(self._started)
        output, errors = self._output(name), self._errors(name)
        with output.open("wb") as out, errors.open("wb") as err, held_back():
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", *self.command(name)],
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for us, who then kill it
            )
        self._started += 1

    def _kill(self, *names: str) -> None:
        for name in names:
            self.running[name].kill()
        for name in names:
            self.running[name].wait()
            del self.running[name]

    def _why(self, name: str) -> str:
        return f"writer {name} ended by itself:\n{self._errors(name).read_text()}"

    def _output(self, name: str) -> Path:
        return self._folder / f"{name}.out"

    def _errors(self, name: str) -> Path:
        return self._folder / f"{name}.err"


def unmeasured() -> dict[str, str]:
    """Return the environment of a process whose coverage is not measured.

    Who is killed takes along what it has measured; measuring would only cost time.
    """
    return {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE")}


def _read(output: Path) -> Report:
    report = Report()
    text = output.read_text()
    # A line that was cut short by the kill is no acknowledgement.
    for line in text[: text.rfind("\n") + 1].splitlines():
        what, turn, *length = line.split()
        if what == "stored":
            report.acknowledged[int(turn)] = int(length[0])
        elif what == "doubt":
            report.in_doubt.add(int(turn))
            report.doubts += 1
        elif what == "refused":
            report.refused.add(int(turn))
        else:
            report.unavailable += 1
    return report
