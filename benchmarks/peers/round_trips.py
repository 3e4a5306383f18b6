"""Round trips: counted on the wire, by something that stands between the store and PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measuring import Operation
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Peer

_HEADER = 5  # a message's type, and four bytes of length
_ASKING = frozenset(b"SQH")  # Sync, Query and Flush: what the client waits for an answer to
_PIECE = 65_536
_WARM_UP = 30  # operations, until every connection of the pool has met the statement
_COUNTED = 20


class _Counter:
    """Passes on what one database's clients send, and counts how often they ask."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client to the server, until one of them leaves."""
        from_server, to_server = await asyncio.open_connection(*self._server)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.TaskGroup() as tasks:
                answers = tasks.create_task(_copy(from_server, writer))
                await self._pass_on(reader, to_server)
                answers.cancel()
        for one in (to_server, writer):
            one.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(4)  # the start-up message has no type
        writer.write(first + await reader.readexactly(int.from_bytes(first) - 4))
        with suppress(asyncio.IncompleteReadError):
            while True:
                header = await reader.readexactly(_HEADER)
                length = int.from_bytes(header[1:]) - 4
                self.count += header[0] in _ASKING
                writer.write(header + await reader.readexactly(length))


async def round_trips(url: str, operation: Callable[[Peer], Operation]) -> float:
    """Return how many round trips one operation of ours takes, when all is warm."""
    parts = urlsplit(url)
    counter = _Counter(parts.hostname or "127.0.0.1", parts.port or 5432)
    server = await asyncio.start_server(counter.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ours = Ours()
    try:
        address = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?ssl=disable"
        await ours.open(address, Path())
        operate = operation(ours)
        await _repeat(operate, _WARM_UP)
        counter.count = 0
        await _repeat(operate, _COUNTED)
        return counter.count / _COUNTED
    finally:
        await ours.aclose()
        server.close()
        await server.wait_closed()


async def _repeat(operate: Callable[[], Awaitable[object]], times: int) -> None:
    for _ in range(times):
        await operate()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()  # who has said goodbye waits for that
