"""How long a client that comes back waits for the first piece that it missed.

Over HTTP, on SQLite, at the process that runs the answer and at another one. Who was away for half
a second misses pieces that are stored; of who comes back at once, the wait is counted from when the
piece was said. The floor is a response of one event, without the middleware, by the same server. It
is measured before and after each pair of rejoins: a pair is calm if neither took long, so that
nothing else kept the machine busy.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from statistics import quantiles

from benchmarks.answers.clients import events
from benchmarks.answers.servers import Server, database, serve

_PAUSE = 0.05
_WARMING = 20
_AWAY = (0.5, 0.0)
_CALM = 0.005
_PLACES = {"here": "the same process", "there": "another process"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this measure's options."""
    parser.add_argument("--count", type=int, default=1000, help="rejoins of each kind")
    parser.add_argument("--answers", type=int, default=10, help="that run all the time")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--postgresql", default="postgresql+psycopg://postgres@127.0.0.1/postgres", metavar="URL"
    )


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Measure, and yield the figures."""
    with database(options.database, options.postgresql) as made, serve(made.url, 2) as servers:
        pairs = asyncio.run(_measure(servers, options.count, options.answers))
    yield f"{options.database}, {options.answers} answers, {options.count} rejoins of each kind"
    for away, each in pairs.items():
        calm = [pair for pair in each if max(pair.floors) < _CALM]
        yield f"{f'away for {away:g} s' if away else 'back at once'}; {len(calm)} pairs are calm"
        for name in ("here", "there"):
            yield _line(_PLACES[name], [getattr(pair, name) for pair in each])
            if len(calm) > 1:
                yield _line("  calm", [getattr(pair, name) for pair in calm])
        yield _line("floor", [floor for pair in each for floor in pair.floors])


def _line(name: str, seconds: list[float]) -> str:
    percentiles = quantiles(seconds, n=100)
    p50, p99, most = percentiles[49] * 1e3, percentiles[98] * 1e3, max(seconds) * 1e3
    return f"  {name:20} p50 {p50:6.1f} ms, p99 {p99:6.1f} ms, longest {most:6.1f} ms"


@dataclass
class _Pair:
    """Seconds of one rejoin at each process, and of the floor before and after."""

    here: float
    there: float
    floors: tuple[float, float]


class _Answer:
    """An answer that runs, and when each of its pieces came to a client that stays."""

    def __init__(self, server: Server, number: int, count: int) -> None:
        self.session_id = f"bench-{number}"
        self.id = server.begin(self.session_id, count, _PAUSE)
        self.path = f"/sessions/{self.session_id}/answer"
        self.heard_at: dict[int, float] = {}
        self._news = asyncio.Event()

    async def hear(self, port: int) -> None:
        async with aclosing(events(port, self.path)) as following:
            async for event in following:
                self.heard_at[event.number] = time.perf_counter()
                self._news.set()

    def known(self, away: float) -> int:
        """Return the newest piece that had come so many seconds ago."""
        until = time.perf_counter() - away
        return max((number for number, at in self.heard_at.items() if at <= until), default=0)

    async def was_heard(self, number: int) -> float:
        """Return when a piece came to the client that stays."""
        while number not in self.heard_at:
            self._news.clear()
            await self._news.wait()
        return self.heard_at[number]


async def _measure(servers: list[Server], count: int, answers: int) -> dict[float, list[_Pair]]:
    here, there = (server.port for server in servers)
    said = (count + _WARMING) * 1000  # more than are needed
    running = [_Answer(servers[0], number, said) for number in range(answers)]
    tasks = [asyncio.create_task(each.hear(here)) for each in running]
    await asyncio.sleep(1)
    found: dict[float, list[_Pair]] = {away: [] for away in _AWAY}
    for away, pairs in found.items():
        for _ in range(count + _WARMING):
            answer = random.choice(running)  # noqa: S311
            before = await _floor(here)
            at_here = await _rejoin(answer, here, away)
            at_there = await _rejoin(answer, there, away)
            pairs.append(_Pair(at_here, at_there, (before, await _floor(there))))
        del pairs[:_WARMING]
    for task in tasks:
        task.cancel()
    return found


async def _floor(port: int) -> float:
    began = time.perf_counter()
    async with aclosing(events(port, "/bench/event")) as following:
        await anext(following)
    return time.perf_counter() - began


async def _rejoin(answer: _Answer, port: int, away: float) -> float:
    known = answer.known(away)
    began = time.perf_counter()
    async with aclosing(events(port, answer.path, f"{answer.id}:{known}")) as following:
        event = await anext(following)
        ended = time.perf_counter()
    if event.number != known + 1:
        raise RuntimeError(f"{event.number} came after {known}")
    return ended - max(began, await answer.was_heard(event.number))
