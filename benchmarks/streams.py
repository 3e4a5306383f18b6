"""Thousands of streams that are open at once: what the server keeps for each of them.

Each round has a new server, because memory that was used once is not given back to the system. It
is warmed up first, so that its threads and its code are there. With the middleware every stream
belongs to a conversation of its own, which was loaded before the application began to answer; those
messages, parsed, are part of what is measured. ``wall`` and ``cpu`` are what opening one stream
took, the second one of the server.
"""

import re
import resource
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import sample
from statistics import median
from tempfile import TemporaryDirectory

import anyio

from benchmarks.apps import PATIENCE, Server, serve
from benchmarks.measuring import SHORT, Cell, Dose, Sample
from benchmarks.sockets import MESSAGES, SUBJECTS, request_for, seed

_STREAMS = 5_000
_FEW = 500
_ROUNDS = 5
_AT_ONCE = 100  # that are opened, or a server would have to hurry for the last ones
_SPARE_FILES = 200
_REST = 1.0  # seconds after which the store has long given back what it had for the next request
_HELD = re.compile(r"checked out connections: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Round:
    """What one server kept while all streams were open, and what opening one took."""

    kilobytes: float
    connections: int
    wall: float
    cpu: float


def measure(dose: Dose) -> list[Cell]:
    """Return one cell.

    Raises:
        RuntimeError: the system does not let a process have so many connections.
    """
    streams = _STREAMS if dose.full else _FEW
    rounds: dict[str, list[Round]] = {name: [] for name in SUBJECTS}
    with TemporaryDirectory() as directory, _many_files(streams + _SPARE_FILES):
        store = f"sqlite:///{Path(directory) / 'sessions.db'}"
        ids = [f"stream-{number}" for number in range(streams)]
        anyio.run(seed, store, ids)
        for _ in range(_ROUNDS if dose.full else 1):
            for name in sample(SUBJECTS, len(SUBJECTS)):
                with serve(name, store) as server:
                    rounds[name].append(_measure(name, server, ids))
    samples = [_sample(name, some) for name, some in rounds.items()]
    return [Cell("streams", {"streams": streams}, samples)]


def _sample(name: str, rounds: Sequence[Round]) -> Sample:
    figures = {
        "kB per stream": median(one.kilobytes for one in rounds),
        "database connections": float(max(one.connections for one in rounds)),
    }
    walls = [one.wall for one in rounds]
    return Sample(name, walls, [one.cpu for one in rounds], figures=figures)


def _measure(name: str, server: Server, ids: Sequence[str]) -> Round:
    with _open(server, ids[:_AT_ONCE]):
        pass
    _settle(server, 0)
    memory, cpu, began = _memory(server), server.cpu(), time.perf_counter()
    with _open(server, ids):
        wall, cpu = time.perf_counter() - began, server.cpu() - cpu
        facts = _settle(server, len(ids))
        kilobytes = (_memory(server) - memory) / 1000
        expected = len(ids) * MESSAGES if name == "ours" else 0
        if facts["messages"] != expected:
            raise RuntimeError(f"{name}: the streams loaded {facts['messages']} messages")
        held = _HELD.search(str(facts["store"]))
        if name == "ours" and held is None:
            raise RuntimeError(f"the store does not tell its connections: {facts['store']}")
    _settle(server, 0)
    connections = 0 if held is None else int(held[1])
    return Round(kilobytes / len(ids), connections, wall / len(ids), cpu / len(ids))


def _settle(server: Server, streams: int) -> dict[str, object]:
    """Wait until so many streams are open, and nothing else goes on; return the server's facts."""
    deadline = time.monotonic() + PATIENCE
    while server.facts()["streams"] != streams:
        if time.monotonic() > deadline:
            raise RuntimeError(f"there were never {streams} streams open")
        time.sleep(0.05)
    time.sleep(_REST)
    return server.facts()


def _memory(server: Server) -> int:
    """Return the bytes of memory that the server has in use."""
    text = Path(f"/proc/{server.processes[0]}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Rss:") * 1024


@contextmanager
def _open(server: Server, ids: Sequence[str]) -> Iterator[None]:
    """Keep a stream open for each of ``ids``, which has begun to answer, until the block ends."""
    with ExitStack() as stack:
        for first in range(0, len(ids), _AT_ONCE):
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
                for _ in ids[first : first + _AT_ONCE]
            ]
            for client, session_id in zip(clients, ids[first:], strict=False):
                client.sendall(request_for("/hold", session_id))
            for client in clients:
                _await_chunk(client)
        yield


def _await_chunk(client: socket.socket) -> None:
    received = b""
    while b"data: " not in received:
        piece = client.recv(1 << 12)
        if not piece:
            raise RuntimeError(f"the server hung up after {received!r}")
        received += piece


@contextmanager
def _many_files(count: int) -> Iterator[None]:
    """Let this process, and those that it starts, have ``count`` files open, within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(f"a process may have {hard} files open; this takes {count}")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _tell(cell: Cell) -> None:
    sys.stdout.write(f"{cell.conditions['streams']} streams\n")
    for one in cell.samples:
        figures = ", ".join(f"{key} {value:.2f}" for key, value in one.figures.items())
        opening = f"{median(one.wall) * 1e6:.0f} µs, CPU {median(one.cpu) * 1e6:.0f} µs"
        sys.stdout.write(f"  {one.name:10} {figures}; opening one {opening}\n")
    size = {one.name: one.figures["kB per stream"] for one in cell.samples}
    sys.stdout.write(f"  kB of ours: {size['ours'] - size['bare app']:.2f}\n")


if __name__ == "__main__":
    for measured in measure(SHORT):
        _tell(measured)
