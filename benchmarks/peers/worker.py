"""Runs one peer in a process of its own: ``python -m benchmarks.peers.worker ADAPTER``.

A line of JSON on stdin names a method of `Worker` and its arguments; a line on stdout has what it
returned, or its error. Between two lines the process sleeps. Times are measured here: of this
process, its threads included, and nothing of the pipe.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TextIO

from benchmarks.measuring import Operation, longest_stall, measure_turn
from benchmarks.peers.conversations import conversation
from benchmarks.peers.operations import Stock, operate, verify
from benchmarks.peers.peer import Peer

_TRIES = 5
_TRYING = 0.1  # seconds, after which there is no other try


class Worker:
    """One peer, its conversations, and the operation that is measured at present."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._stock: Stock
        self._operate: Operation
        self._failed = 0

    async def open(
        self, url: str, directory: str, loaded: Sequence[Any], appended: Sequence[Any]
    ) -> None:
        """Connect; pairs of a length and a number say which conversations there will be."""
        self._stock = Stock(dict(loaded), dict(appended))
        await self._peer.open(url, Path(directory))

    async def fill(self, seconds: float) -> list[int]:
        """Store all conversations, the short ones first, and return the lengths done in time."""
        deadline = time.perf_counter() + seconds
        done = [0]
        for length in self._stock.lengths:
            messages = conversation(length)
            for session_id in (*self._stock.to_load(length), *self._stock.to_append(length)):
                await self._peer.fill(session_id, messages)
                if time.perf_counter() > deadline:
                    return done
            done.append(length)
        return done

    async def prepare(self, operation: str, length: int) -> float:
        """Choose what is measured, check that it does it, and return the seconds of doing it."""
        gc.collect()
        gc.freeze()  # else each collection goes through all that the peer has imported and kept
        perform = operate(self._peer, operation, length, self._stock)
        await verify(self._peer, perform, operation, length, self._stock)

        async def forgiving() -> None:
            try:
                await perform()
            except Exception as error:  # noqa: BLE001  # as "database is locked", in its own words
                if not self._failed:
                    sys.stderr.write(f"{type(error).__name__}: {error}\n")
                self._failed += 1

        self._operate = forgiving
        return await _quickest(perform)

    async def turn(self, count: int, at_once: int) -> tuple[float, float, int]:
        """Return the wall and CPU seconds of one operation, and how many failed."""
        self._failed = 0
        await self._operate()  # nobody counts it: the process has slept while others worked
        wall, cpu = await measure_turn(self._operate, count, at_once)
        return wall, cpu, self._failed

    async def stall(self, at_once: int, seconds: float) -> float:
        """Return the longest time in which the event loop served nobody else."""
        return await longest_stall(self._operate, at_once=at_once, seconds=seconds)

    async def aclose(self) -> None:
        """Give back all connections and threads."""
        await self._peer.aclose()


async def _quickest(perform: Operation) -> float:
    """Return the seconds of the quickest of a few: one alone may have met a busy disk."""
    took: list[float] = []
    while len(took) < _TRIES and sum(took) < _TRYING:
        began = time.perf_counter()
        await perform()
        took.append(time.perf_counter() - began)
    return min(took)


async def serve(adapter: str, answers: TextIO) -> None:
    """Do what stdin asks for until it ends."""
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
    )
    worker = Worker(resolve_name(f"{__package__}.{adapter}")())
    while line := await questions.readline():
        name, *arguments = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"result": await getattr(worker, name)(*arguments)}
        except Exception as error:  # noqa: BLE001  # whoever asked raises it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    await worker.aclose()


if __name__ == "__main__":
    # What a peer prints is not an answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout:
        os.dup2(2, 1)
        asyncio.run(serve(sys.argv[1], stdout))
