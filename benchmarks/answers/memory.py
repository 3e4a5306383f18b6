"""What a running answer takes of memory, beside a bare stream of the same pieces.

Each has said 50 pieces, which its client has, and is silent then. Each measure has a new server,
whose memory is read before and after the streams are opened; there are none between that ended.
"""

import argparse
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.answers.app import HELD
from benchmarks.answers.servers import PATIENCE, Server, database, serve

_AT_ONCE = 50
_WARMING = 100
_SPARE_FILES = 200


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this measure's options."""
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1)


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Measure, and yield the figures."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.streams + _SPARE_FILES > hard:
        raise RuntimeError(f"a process may have {hard} files open")
    yield f"{options.streams} streams, {HELD} pieces each"
    for _ in range(options.rounds):
        sizes = {kind: _kilobytes(kind, options.streams) for kind in ("bare", "record", "answer")}
        told = ", ".join(f"{kind} {size:.1f} kB" for kind, size in sizes.items())
        ours = sizes["answer"] - sizes["bare"]
        yield f"  {told}; of an answer, ours are {ours:.1f} kB each"


def _kilobytes(kind: str, streams: int) -> float:
    with (
        database("sqlite", "") as made,
        serve(made.url, 1, "app") as (server,),
        ExitStack() as open_,
    ):
        for warming in (True, False):
            before = server.facts()["memory"]
            count = _WARMING if warming else streams
            for _ in range(0, count, _AT_ONCE):
                _open(server, f"/{kind}/hold", open_)
        time.sleep(1)  # for what is written a moment later
        return (server.facts()["memory"] - before) / 1000 / streams


def _open(server: Server, path: str, open_: ExitStack) -> None:
    clients = []
    for _ in range(_AT_ONCE):
        client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        clients.append(open_.enter_context(client))
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    for client in clients:
        received = b""
        while f"word{HELD - 1:03}".encode() not in received:
            piece = client.recv(1 << 16)
            if not piece:
                raise RuntimeError(f"the server hung up after {received[-300:]!r}")
            received += piece
