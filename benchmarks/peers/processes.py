"""Peers in processes of their own, each with the interpreter of its environment."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

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
