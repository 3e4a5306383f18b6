"""What followers in other processes cost the database, one or many in each process.

One answer runs in a process of its own; four others serve its followers. The statements are those
of the four; PostgreSQL's own count of transactions, and the CPU of its processes, have the writer's
in them.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from statistics import quantiles

from benchmarks.answers.clients import events
from benchmarks.answers.servers import Database, Server, database, serve

_PROCESSES = 4
_BETWEEN = 0.02  # seconds between two that join
_WARMING = 10.0  # in which a server's processes have told it what they did before
_POSTGRESQL = "postgresql+{}://postgres@127.0.0.1/postgres"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this measure's options."""
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two pieces")
    parser.add_argument("--each", type=int, nargs="+", default=[1, 250], help="in each process")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "psycopg", "asyncpg"])


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Measure, and yield the figures."""
    for name in options.databases:
        kind = "sqlite" if name == "sqlite" else "postgresql"
        for each in options.each:
            with database(kind, _POSTGRESQL.format(name)) as made:
                yield f"{name}, {each} followers in each of {_PROCESSES} processes:"
                for line in _measure(made, each, options.seconds, options.pause):
                    yield f"  {line}"


def _measure(made: Database, each: int, seconds: float, pause: float) -> list[str]:
    with serve(made.url, _PROCESSES + 1) as (writer, *servers):
        count = round((seconds + _WARMING + 600) / pause)  # more than are needed
        writer.begin("bench", count, pause)
        return asyncio.run(_follow(made, writer, servers, each, seconds))


async def _follow(
    made: Database, writer: Server, servers: list[Server], each: int, seconds: float
) -> list[str]:
    delays: list[float] = []
    joined: set[asyncio.Task[None] | None] = set()
    is_counting = False

    async def follow(port: int) -> None:
        async with aclosing(events(port, "/sessions/bench/answer")) as following:
            async for event in following:
                joined.add(asyncio.current_task())
                if not is_counting:
                    continue
                delays.append(time.time() - event.said_at)

    tasks = []
    for server in servers * each:
        tasks.append(asyncio.create_task(follow(server.port)))
        await asyncio.sleep(_BETWEEN)
    while len(joined) < len(tasks):
        _check(tasks)
        await asyncio.sleep(_BETWEEN)
    await asyncio.sleep(_WARMING)
    before, began = _facts(made, writer, servers), time.perf_counter()
    is_counting = True
    await asyncio.sleep(seconds)
    is_counting = False
    after, taken = _facts(made, writer, servers), time.perf_counter() - began
    _check(tasks)
    for task in tasks:
        task.cancel()
    rates = {name: (after[name] - value) / taken for name, value in before.items()}
    percentiles = quantiles(delays, n=100)
    p50, p99 = percentiles[49] * 1e3, percentiles[98] * 1e3
    lines = [f"{name}: {rate:.2f} a second" for name, rate in rates.items()]
    return [*lines, f"from the model to the client: p50 {p50:.0f} ms, p99 {p99:.0f} ms"]


def _check(tasks: list[asyncio.Task[None]]) -> None:
    """Raise if a follower has ended."""
    for task in tasks:
        if task.done():
            task.result()
            raise RuntimeError("the answer has ended")


def _facts(made: Database, writer: Server, servers: list[Server]) -> dict[str, float]:
    """Return what has been counted so far."""
    told = [server.facts() for server in servers]
    found = {
        "statements of the four processes": sum(each["statements"] for each in told),
        "statements of the writer": writer.facts()["statements"],
        "transactions by the database's count": made.transactions(),
        "CPU seconds of the database": made.cpu(),
        "CPU seconds of the four processes": sum(each["cpu"] for each in told),
    }
    return {name: value for name, value in found.items() if value is not None}
