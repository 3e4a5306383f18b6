"""Clients of answers: each is one request by HTTP/1.1 on a connection of its own."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a client gets it: its number, and the time at which it was said."""

    number: int
    said_at: float


async def events(port: int, path: str, after: str | None = None) -> AsyncGenerator[Event, None]:
    """Send a GET, and yield the events of its response, from after a cursor.

    Raises:
        RuntimeError: the response is none of events.
    """
    async with _connected(port) as (reader, writer):
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [] if after is None else [f"Last-Event-ID: {after}"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{path}: {status!r}")
        number = 0
        # An event is never cut by the chunks of the transfer.
        async for line in reader:
            if line.startswith(b"id: "):
                number = int(line.rpartition(b":")[2])
            elif line.startswith(b"data: ") and number:
                yield Event(number, float(json.loads(line[6:])))


@asynccontextmanager
async def _connected(
    port: int,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
