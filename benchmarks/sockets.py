"""Real servers on real sockets: uvicorn with and without the middleware, loaded in turns.

Both servers run all the time, and only one of them has requests to serve. The clients are this
process: blocks of bytes that are sent again as soon as an answer of the known length has come, one
at a time for each connection. That takes a fraction of what the servers do for it. Times are those
that a client sees; ``cpu`` is the servers'.
"""

import select
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import shuffle
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import NoReturn

import anyio

from benchmarks.apps import FAST, PATIENCE, PLAIN, Server, serve
from benchmarks.measuring import SHORT, Cell, Dose, Sample
from hermes_session_mw import SESSION_HEADER, SQLAlchemyStore

SUBJECTS = ("bare app", "ours")
SERVERS = [(PLAIN, 1), (PLAIN, 2), (PLAIN, 4), (FAST, 1)]
"""What serves, and with how many workers."""

KNOWN_ID = "a-known-conversation"
MESSAGES = 10

_CASES = {
    "no header": ("/", ""),
    "echo": ("/echo", KNOWN_ID),  # where nothing is loaded
    "known id": ("/", KNOWN_ID),
    "streaming": ("/stream", ""),
}
_CONNECTIONS = 48
_WARMING = 0.05  # seconds of each turn that nobody counts: connections are accepted, and spread
_SECONDS_FOR_ONE = 12  # a turn takes longer here than in one process
_SILENCE = 0.3


class _Client:
    """A connection that sends the same bytes again when the answer to the last ones is there."""

    def __init__(self, port: int, request: bytes, size: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._size = size
        self._left = 0
        self.began = 0.0

    def send(self) -> None:
        self._left = self._size
        self.began = time.perf_counter()
        self.connection.send(self._request)

    def receive(self, buffer: bytearray) -> bool:
        """Take what has come, and tell whether that was all."""
        count = self.connection.recv_into(buffer)
        self._left -= count
        if count == 0 or self._left < 0:
            raise RuntimeError("the server answered otherwise than before, or hung up")
        return self._left == 0


@dataclass
class Turn:
    """What the clients saw in one turn: how long each answer took that came within ``seconds``."""

    seconds: float
    latencies: list[float]
    cpu: float  # of the servers, for each request


def load(server: Server, request: bytes, size: int, seconds: float) -> Turn:
    """Send ``request``, whose answer has ``size`` bytes, over and over for ``seconds``.

    Raises:
        RuntimeError: an answer is longer, or none comes.
    """
    answered, buffer = 0, bytearray(1 << 16)
    latencies: list[float] = []
    with ExitStack() as stack, select.epoll() as poll:
        clients = [_Client(server.port, request, size) for _ in range(_CONNECTIONS)]
        waiting = {client.connection.fileno(): client for client in clients}
        for number, client in waiting.items():
            stack.enter_context(client.connection)
            poll.register(number, select.EPOLLIN)
        cpu = server.cpu()
        start = time.perf_counter() + _WARMING
        end = start + seconds
        for client in clients:
            client.send()
        while waiting:
            for number, _ in poll.poll(PATIENCE) or _nothing_came():
                client = waiting[number]
                if not client.receive(buffer):
                    continue
                answered += 1
                now = time.perf_counter()
                # One at least, if a busy machine answers none in a short turn.
                if start <= now < end or (now >= end and not latencies):
                    latencies.append(now - client.began)
                if now < end:
                    client.send()
                else:
                    del waiting[number]
        return Turn(seconds, latencies, (server.cpu() - cpu) / answered)


def _nothing_came() -> NoReturn:
    raise RuntimeError(f"no answer for {PATIENCE:g} seconds")


def request_for(path: str, session_id: str) -> bytes:
    """Return a request's bytes, with the header unless ``session_id`` is empty."""
    lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1", "user-agent: benchmark", "accept: */*"]
    lines += [f"{SESSION_HEADER}: {session_id}"] if session_id else []
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _exchange(port: int, request: bytes) -> bytes:
    """Return the answer to ``request``: all that comes until the server is silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(request)
        with suppress(TimeoutError):
            while piece := client.recv(1 << 16):
                received += piece
                client.settimeout(_SILENCE)
    return received


async def seed(url: str, session_ids: Iterable[str]) -> None:
    """Store a conversation of ``MESSAGES`` messages under each of ``session_ids``."""
    store = SQLAlchemyStore(url)
    text = "a sentence of the length that people write to one another in a chat, more or less"
    pair = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    for session_id in session_ids:
        await store.append(session_id, pair * (MESSAGES // 2))
    await store.aclose()


def measure(dose: Dose) -> list[Cell]:
    """Return a cell for each number of workers and each kind of request."""
    cells = []
    with TemporaryDirectory() as directory:
        store = f"sqlite:///{Path(directory) / 'sessions.db'}"
        anyio.run(seed, store, [KNOWN_ID])
        for kind, workers in SERVERS:
            with ExitStack() as stack:
                servers = {
                    name: stack.enter_context(serve(name, store, kind=kind, workers=workers))
                    for name in SUBJECTS
                }
                _check(servers["ours"])
                conditions = {"server": kind, "workers": workers}
                cells += [_measure(case, conditions, servers, dose) for case in _CASES]
    return cells


def _check(server: Server) -> None:
    """Raise where the middleware does not do what it is measured for."""
    headers, body = server.ask("/history", {SESSION_HEADER: KNOWN_ID})
    if headers.get(SESSION_HEADER.lower()) != KNOWN_ID or int(body) != MESSAGES:
        raise RuntimeError(f"the known conversation came back as {headers}, {body!r}")


def _measure(
    case: str, conditions: Mapping[str, object], servers: Mapping[str, Server], dose: Dose
) -> Cell:
    request = request_for(*_CASES[case])
    seconds = dose.seconds * _SECONDS_FOR_ONE
    sizes = {name: len(_exchange(server.port, request)) for name, server in servers.items()}
    for name, server in servers.items():
        load(server, request, sizes[name], seconds / 2)  # nobody counts it: caches are filled
    turns: dict[str, list[Turn]] = {name: [] for name in servers}
    order = list(servers)
    for _ in range(dose.rounds):
        shuffle(order)
        for name in order:
            turns[name].append(load(servers[name], request, sizes[name], seconds))
    samples = [_sample(name, turns[name]) for name in servers]
    return Cell("sockets", {**conditions, "case": case}, samples)


def _sample(name: str, turns: Sequence[Turn]) -> Sample:
    wall = [turn.seconds / len(turn.latencies) for turn in turns]
    percentiles = quantiles(chain.from_iterable(turn.latencies for turn in turns), n=100)
    figures = {
        "requests per second": 1 / median(wall),
        "p50 ms": percentiles[49] * 1e3,
        "p99 ms": percentiles[98] * 1e3,
    }
    return Sample(name, wall, [turn.cpu for turn in turns], figures=figures)


def _tell(cell: Cell) -> None:
    sys.stdout.write(", ".join(map(str, cell.conditions.values())) + "\n")
    for sample in cell.samples:
        figures = ", ".join(f"{key} {value:8.2f}" for key, value in sample.figures.items())
        cpu = median(sample.cpu) * 1e6
        sys.stdout.write(f"  {sample.name:10} {figures}, servers' CPU {cpu:6.1f} µs\n")
    rate = cell.ratio("bare app", to="ours")
    sys.stdout.write(f"  requests per second, beside the bare app's: {rate}\n")
    sys.stdout.write(
        f"  CPU, as multiples of the bare app's: {cell.ratio('ours', 'bare app', 'cpu')}\n"
    )


if __name__ == "__main__":
    for measured in measure(SHORT):
        _tell(measured)
