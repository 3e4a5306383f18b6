"""Peers in processes of their own, each with the interpreter of its environment."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.measuring import Subject
from benchmarks.peers.everyone import ROOT, Entry

_PATIENCE = 10  # seconds that a process may take to end


class Process:
    """A running worker; one question at a time."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    async def ask(self, method: str, *arguments: object) -> Any:
        """Return what the worker's method returns.

        Raises:
            RuntimeError: it raised something, or the process has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([method, *arguments]).encode() + b"\n")
        with suppress(ConnectionError):
            await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: the process ended with {await self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {method}: {answer['error']}")
        return answer["result"]

    def as_subject(self, failures: dict[str, int]) -> Subject:
        """Return what takes turns in the process; its failures are counted, by its name."""

        async def turn(count: int, at_once: int) -> tuple[float, float]:
            wall, cpu, failed = await self.ask("turn", count, at_once)
            if failed:
                failures[self.name] = failures.get(self.name, 0) + failed
            return wall, cpu

        return Subject(self.name, turn)


@asynccontextmanager
async def start(entry: Entry, python: Path | None = None) -> AsyncIterator[Process]:
    """Run a worker for ``entry`` until the block ends."""
    process = await asyncio.create_subprocess_exec(
        python or entry.python,
        "-m",
        f"{__package__}.worker",
        entry.adapter,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(entry.name, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # which ends the worker
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()
