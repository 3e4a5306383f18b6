"""A client holds every event against those that it has, and cuts where it is told to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import pytest

from tests.long.cuts.clients import Client, Question
from tests.long.cuts.exchanges import Cut
from tests.long.cuts.record import Record

HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
QUESTION = Question("key")
ONE, TWO, THREE = (f'id: a:{number}\ndata: "{number}"\n\n' for number in (1, 2, 3))
END = 'event: end\ndata: {"state": "completed"}\n\n'


@pytest.fixture
def anyio_backend() -> str:
    """The program runs with asyncio alone."""
    return "asyncio"


@asynccontextmanager
async def serving(*bodies: str, is_whole: bool = True) -> AsyncGenerator[tuple[int, list[str]]]:
    """Answer each request with the next of the bodies; yield the port, and what came.

    At the end of the block all requests have ended.
    """
    came: list[str] = []
    remaining, done = list(bodies), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            body = remaining.pop(0).encode()
            head = await reader.readuntil(b"\r\n\r\n")
            came.append(
                (head + (await reader.readuntil(b"}") if b"POST" in head else b"")).decode()
            )
            writer.write(f"{HEAD}{len(body):x}\r\n".encode() + body + b"\r\n")
            if is_whole:
                writer.write(b"0\r\n\r\n")
                came.append("FIN" if await reader.read() == b"" else "more")
        except asyncio.IncompleteReadError as exc:
            came.extend([exc.partial.decode(), "FIN"])
        except OSError:
            came.append("RST")
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        if not remaining:
            done.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], came
        await asyncio.wait_for(done.wait(), 30)


async def test_a_whole_answer_is_seen() -> None:
    """Its events are kept, and its end is told."""
    record = Record()
    async with serving(ONE + TWO + ": keepalive\n\n" + END) as (port, _):
        outcome = await Client(record, port, "s", "c").visit("post", QUESTION)
    assert (outcome.kind, outcome.detail, outcome.key) == ("ended", "completed", "key")
    assert (record.sightings[0].texts, record.sightings[0].told) == (["1", "2"], "completed")
    assert record.violations == []


@pytest.mark.parametrize(
    ("body", "violation"),
    [
        (ONE + ONE + END, "a:1 came where a:2 had to"),
        (ONE + THREE + END, "a:3 came where a:2 had to"),
        (TWO + END, "a:2 came where a:1 had to"),
        (ONE + 'id: b:2\ndata: "2"\n\n' + END, "events of b in the stream of a"),
        (ONE, "a stream has ended without an end"),
    ],
)
async def test_a_wrong_stream_is_a_violation(body: str, violation: str) -> None:
    """A gap, a doubled event, another answer's event and a missing end are noted."""
    record = Record()
    async with serving(body) as (port, _):
        await Client(record, port, "s", "c").visit("post", QUESTION)
    assert any(violation in each for each in record.violations)


async def test_a_client_goes_on_after_what_it_has() -> None:
    """It sends its cursor, and takes the events that follow it and no others."""
    record = Record()
    async with serving(ONE + TWO, is_whole=False) as (port, came):
        client = Client(record, port, "s", "c")
        assert (await client.visit("post", QUESTION)).kind == "lost"
    for body, count in ((THREE + END, 0), (TWO + END, 1)):
        async with serving(body) as (other, came):
            client._port = other
            assert (await client.visit("header")).kind == "ended"
        assert f"Last-Event-ID: a:{count + 2}\r\n" in came[0]
        assert len(record.violations) == count
    assert record.sightings[0].texts == ["1", "2", "3"]


@pytest.mark.parametrize("how", ["RST", "FIN"])
@pytest.mark.parametrize("where", ["request", "before the response", "response"])
async def test_a_client_cuts_its_connection(where: str, how: Literal["RST", "FIN"]) -> None:
    """After so many bytes it ends it, in the way that it is told to, and keeps what came whole."""
    record = Record()
    received = len(HEAD) + len("31\r\n") + len(ONE) + 5 if where == "response" else 0
    cut = Cut(40 if where == "request" else None, received, how)
    async with serving(ONE + TWO + END) as (port, came):
        assert (await Client(record, port, "s", "c").visit("post", QUESTION, cut)).kind == "cut"
    assert record.cuts == {f"client, {how}": 1}
    assert [each.texts for each in record.sightings] == ([["1"]] if received else [])
    if where == "request":
        assert came[0] in (how, "POST /chat HTTP/1.1\r\nHost: localhost\r\nCo"[:40])
    if where == "request" or how == "RST":
        assert came[-1] == how
