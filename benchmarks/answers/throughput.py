"""How fast streams are by ``session.answer()`` beside ``session.record()``.

Streams of 200 pieces in the same application, in rounds that take turns: over a real server's
sockets and in this process, alone and many at once, without pauses and at a model's pace. A ratio
is of the times of one round, so that above 1 ``answer()`` is faster; there are its median and its
quartiles. CPU is that of the process that serves.
"""

import argparse
import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from benchmarks.answers.app import PIECES, create_app
from benchmarks.answers.servers import Server, database, serve

_KINDS = ("record", "answer")
_ONE, _MANY = 1, 100
# Streams at once, and the pause between two pieces.
_CASES = ((_ONE, "none"), (_ONE, "model"), (_MANY, "none"), (_MANY, "short"))

Stream = Callable[[str], Awaitable[None]]
Cpu = Callable[[], float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this measure's options."""
    parser.add_argument("--rounds", type=int, default=7, help="of each case")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--postgresql", default="postgresql+psycopg://postgres@127.0.0.1/postgres", metavar="URL"
    )
    parser.add_argument("--url", help="another database, which is empty, such as MariaDB's")


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Measure, and yield the figures."""
    if options.url is not None:
        yield from _measure(options.url, options.rounds)
        return
    with database(options.database, options.postgresql) as made:
        yield from _measure(made.url, options.rounds)


def _measure(url: str, rounds: int) -> Iterator[str]:
    yield f"{url.partition(':')[0]}, {rounds} rounds, streams of {PIECES} pieces"
    with serve(url, 1, "app") as (server,):
        for streams, pause in _CASES:
            yield _line(
                "sockets", streams, pause, asyncio.run(_served(server, streams, pause, rounds))
            )
    for streams, pause in _CASES:
        yield _line("in process", streams, pause, asyncio.run(_here(url, streams, pause, rounds)))


@dataclass
class _Times:
    """Seconds of each round, by the kind of stream."""

    wall: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})


def _line(where: str, streams: int, pause: str, times: _Times) -> str:
    told = [
        f"{name} {_ratio(seconds)}, {median(seconds['answer']) / streams * 1e3:.1f} ms each"
        for name, seconds in (("time", times.wall), ("CPU", times.cpu))
    ]
    return f"  {where:10} {streams:3} at once, pause {pause:5}: {'; '.join(told)}"


def _ratio(seconds: dict[str, list[float]]) -> str:
    ratios = [
        record / max(answer, 1e-9)
        for record, answer in zip(seconds["record"], seconds["answer"], strict=True)
    ]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return f"{median(ratios):.2f} ({low:.2f} to {high:.2f})"


async def _served(server: Server, streams: int, pause: str, rounds: int) -> _Times:
    async def stream(path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        _check(await reader.read())
        writer.close()

    return await _rounds(stream, lambda: server.facts()["cpu"], streams, pause, rounds)


async def _here(url: str, streams: int, pause: str, rounds: int) -> _Times:
    async with _app(url) as app:

        async def stream(path: str) -> None:
            body: list[bytes] = []
            asked, left = iter([{"type": "http.request", "body": b""}]), asyncio.Event()

            async def receive() -> Any:
                message = next(asked, None)
                if message is None:
                    await left.wait()
                return message

            async def send(message: Any) -> None:
                body.append(message.get("body", b""))

            await app(_scope(path), receive, send)
            _check(b"".join(body))

        return await _rounds(stream, time.process_time, streams, pause, rounds)


async def _rounds(stream: Stream, cpu: Cpu, streams: int, pause: str, rounds: int) -> _Times:
    times = _Times()
    for number in range(rounds + 1):  # nobody counts the first one
        for kind in random.sample(_KINDS, len(_KINDS)):
            gc.collect()
            used, began = cpu(), time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(streams):
                    tasks.create_task(_as_coroutine(stream(f"/{kind}/{pause}")))
            wall, used = time.perf_counter() - began, cpu() - used
            if number:
                times.wall[kind].append(wall)
                times.cpu[kind].append(used)
    return times


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def _check(received: bytes) -> None:
    if received.count(b'data: "word') != PIECES or b'"completed"' not in received:
        raise RuntimeError(f"a stream came otherwise: {received[-500:]!r}")


@asynccontextmanager
async def _app(url: str) -> AsyncIterator[Any]:
    app = create_app(url)
    asked: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    scope: Any = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    await told.get()
    yield app
    await asked.put({"type": "lifespan.shutdown"})
    await told.get()
    await task


def _scope(path: str) -> Any:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"x")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
