"""One HTTP exchange over a socket of its own, which can be cut after any byte."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import h11

_PATIENCE = 120.0
"""Seconds after which a silent server is taken for one that has forgotten its client."""


@dataclass(frozen=True)
class Cut:
    """Where a client cuts its own connection.

    Attributes:
        sent: after so many bytes of the request; None to send it whole.
        received: after so many bytes of the response.
        how: by which segment of TCP the server learns of it.
    """

    sent: int | None
    received: int
    how: Literal["RST", "FIN"]


class WasCut(Exception):
    """The client has cut the connection, as it was to."""


class WasLost(Exception):
    """Somebody else has: the response has not come, or not to its end."""


@dataclass(frozen=True)
class Event:
    """One server-sent event; ``id`` and ``name`` are empty if it has none."""

    id: str
    name: str
    data: Any


class Exchange:
    """A request and its response.

    Attributes:
        status: of the response.
        headers: of the response, with names in lower case.
    """

    def __init__(self, cut: Cut | None = None) -> None:
        self.status: int = 0
        self.headers: dict[str, str] = {}
        self._cut = cut
        self._left = None if cut is None else cut.received
        self._parser = h11.Connection(h11.CLIENT)
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def send(
        self, port: int, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> None:
        """Send the request, and read the response's head.

        Raises:
            WasCut, WasLost: the connection has ended.
            TimeoutError: nothing has come for two minutes.
        """
        lines = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
        request = h11.Request(method=method, target=path, headers=list(lines.items()))
        data = self._parser.send(request) or b""
        data += self._parser.send(h11.Data(data=body)) or b""
        data += self._parser.send(h11.EndOfMessage()) or b""
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
                self._reader = reader
                await self._write(data)
                head = await self._next()
        except TimeoutError:
            raise
        except OSError as exc:
            raise WasLost(type(exc).__name__) from exc
        assert isinstance(head, h11.Response)
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def body(self) -> bytes:
        """Return the response's body; raise as ``send`` does."""
        return b"".join([chunk async for chunk in self._chunks()])

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events that came whole; raise as ``send`` does."""
        rest = b""
        async for chunk in self._chunks():
            *whole, rest = (rest + chunk).split(b"\n\n")
            for block in whole:
                event = _parse(block.decode())
                if event is not None:
                    yield event
        assert not rest, rest

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    event = await self._next()
            except TimeoutError:
                raise
            except OSError as exc:
                raise WasLost(type(exc).__name__) from exc
            if isinstance(event, h11.EndOfMessage):
                return
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _write(self, data: bytes) -> None:
        assert self._writer is not None
        sent = None if self._cut is None else self._cut.sent
        self._writer.write(data[:sent])
        await self._writer.drain()
        if sent is not None:
            self._hang_up()

    async def _next(self) -> object:
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as exc:  # it ended before its end
                raise WasLost(str(exc)) from exc
            if event is not h11.NEED_DATA:
                assert not isinstance(event, h11.ConnectionClosed)
                return event
            self._parser.receive_data(await self._read())

    async def _read(self) -> bytes:
        if self._left == 0:
            self._hang_up()
        most = 65536 if self._left is None else self._left
        data = await self._reader.read(most)
        if self._left is not None:
            self._left -= len(data)
        return data

    def _hang_up(self) -> None:
        assert self._writer is not None
        assert self._cut is not None
        if self._cut.how == "RST":
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            self._writer.transport.abort()
        else:
            self._writer.write_eof()
            self._writer.close()
        raise WasCut


def _parse(block: str) -> Event | None:
    fields = {"id": "", "event": ""}
    data: list[str] = []
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name:  # else it is a comment
            fields[name] = value
    if not data:
        return None
    return Event(fields["id"], fields["event"], json.loads("\n".join(data)))
