"""Growth: what an operation costs as a conversation, the number of them, or the load grows.

The rows that make a database large go straight into the tables, in plain SQL. The conversations
that are measured lie between them, and are stored the usual way. All lengths take turns in the same
rounds, and so do all numbers of sessions, each in a database of its own.
"""

import asyncio
import gc
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import SHORT, Cell, Dose, Operation, Sample, Subject, compare
from benchmarks.peers.bulk import bulk_for
from benchmarks.peers.conversations import conversation
from benchmarks.peers.databases import settle, temporary_postgresql
from benchmarks.peers.everyone import OURS
from benchmarks.peers.operations import (
    APPEND,
    LIST_PAGE,
    LOAD,
    LOAD_NEWEST,
    Scattered,
    Stock,
    operate,
    verify,
)
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Peer
from benchmarks.peers.raw_asyncpg import RawAsyncpg
from benchmarks.peers.raw_sqlite import RawSQLite
from benchmarks.peers.table import show
from benchmarks.results import postgresql_version

_LENGTHS = (10, 100, 1_000, 10_000, 100_000)
_SESSIONS = (1, 1_000, 100_000, 1_000_000)
_AT_ONCE = (1, 8, 32, 128)
_MOST_SHORT = 10_000
_MOST_AT_ONCE_SHORT = 32
_MOST_MEASURED = 64  # sessions that are loaded, and as many that are appended to
_SESSION_LENGTH = 10
_REQUESTED_LENGTH = 100
_MOST_LOADED = 8  # sessions
_TURN = 1_000  # messages


@dataclass(frozen=True)
class _Measured:
    """One value of what grows, and who is measured there, over which conversations."""

    value: int
    name: str
    peer: Peer
    length: int
    stock: Stock


def measure(dose: Dose) -> list[Cell]:
    """Measure all axes on SQLite, and on PostgreSQL where one answers."""
    cells = asyncio.run(_measure("SQLite", dose))
    return [*cells, *asyncio.run(_measure("PostgreSQL", dose))] if postgresql_version() else cells


async def _measure(database: str, dose: Dose) -> list[Cell]:
    cells: list[Cell] = []
    gc.collect()
    gc.freeze()
    try:
        for axis in (_messages, _sessions, _requests):
            async with AsyncExitStack() as stack:
                cells += await axis(database, stack, dose)
    finally:
        gc.unfreeze()
    return cells


async def _messages(database: str, stack: AsyncExitStack, dose: Dose) -> list[Cell]:
    lengths = [length for length in _LENGTHS if dose.full or length <= _MOST_SHORT]
    stock = Stock(loaded=dict.fromkeys(lengths, 1), appended={})
    place = await _place(database, stack)
    peers = await _open(place, stack, with_floor=True)
    for peer, length in itertools.product(peers.values(), lengths):
        await _store(peer, stock.to_load(length)[0], length)
    await _settle(place)
    measured = [
        _Measured(length, name, peer, length, stock)
        for length in lengths
        for name, peer in peers.items()
    ]
    return await _in_turns("messages in the session", LOAD_NEWEST, database, measured, dose)


async def _sessions(database: str, stack: AsyncExitStack, dose: Dose) -> list[Cell]:
    """Compare ours alone, since the floor has other tables."""
    measured = []
    for count in (count for count in _SESSIONS if dose.full or count <= _MOST_SHORT):
        place = await _place(database, stack)
        ours = (await _open(place, stack, with_floor=False))[OURS]
        some = min(_MOST_MEASURED, (count + 1) // 2)
        stock = Scattered(loaded={_SESSION_LENGTH: some}, appended={_SESSION_LENGTH: some})
        await _fill(ours, _SESSION_LENGTH, stock)
        await bulk_for(*place).add(max(0, count - 2 * some))
        await _settle(place)
        measured.append(_Measured(count, OURS, ours, _SESSION_LENGTH, stock))
    cells = []
    for operation in (LOAD, LIST_PAGE, APPEND):
        cells += await _in_turns("sessions", operation, database, measured, dose)
    return cells


async def _requests(database: str, stack: AsyncExitStack, dose: Dose) -> list[Cell]:
    at_once = [many for many in _AT_ONCE if dose.full or many <= _MOST_AT_ONCE_SHORT]
    stock = Stock(
        loaded={_REQUESTED_LENGTH: _MOST_LOADED}, appended={_REQUESTED_LENGTH: max(at_once)}
    )
    place = await _place(database, stack)
    peers = await _open(place, stack, with_floor=True)
    for peer in peers.values():
        await _fill(peer, _REQUESTED_LENGTH, stock)
    await _settle(place)
    cells = []
    for operation, many in itertools.product((LOAD, APPEND), at_once):
        measured = [
            _Measured(many, name, peer, _REQUESTED_LENGTH, stock) for name, peer in peers.items()
        ]
        cells += await _in_turns("requests at once", operation, database, measured, dose, many)
    return cells


async def _place(database: str, stack: AsyncExitStack) -> tuple[str, Path]:
    """Return a new database: a URL, or none and a directory for files."""
    if database == "SQLite":
        return "", Path(stack.enter_context(TemporaryDirectory()))
    return await stack.enter_async_context(temporary_postgresql()), Path()


async def _open(
    place: tuple[str, Path], stack: AsyncExitStack, *, with_floor: bool
) -> dict[str, Peer]:
    peers: dict[str, Peer] = {OURS: Ours()}
    if with_floor:
        peers |= {"raw asyncpg": RawAsyncpg()} if place[0] else {"raw sqlite3": RawSQLite()}
    for peer in peers.values():
        await peer.open(*place)
        stack.push_async_callback(peer.aclose)
    return peers


async def _fill(peer: Peer, length: int, stock: Stock) -> None:
    for session_id in (*stock.to_load(length), *stock.to_append(length)):
        await peer.fill(session_id, conversation(length))


async def _store(peer: Peer, session_id: str, length: int) -> None:
    """Store a long conversation in turns of a length that any store takes."""
    messages = conversation(length)
    await peer.fill(session_id, messages[:_TURN])
    for start in range(_TURN, length, _TURN):
        await peer.append(session_id, peer.convert(messages[start : start + _TURN]))


async def _settle(place: tuple[str, Path]) -> None:
    url, _ = place
    if url:
        await settle(url)


async def _in_turns(
    axis: str,
    operation: str,
    database: str,
    measured: Sequence[_Measured],
    dose: Dose,
    at_once: int = 1,
) -> list[Cell]:
    """Measure all values in the same rounds, and return a cell for each of them."""
    subjects = []
    for one in measured:
        work = await _work(one, operation)
        subjects.append(Subject.here(f"{one.name} at {one.value}", work))
    together = await compare("growth", {}, subjects, dose=dose, at_once=at_once)
    samples: dict[int, list[Sample]] = {}
    for one, sample in zip(measured, together.samples, strict=True):
        samples.setdefault(one.value, []).append(replace(sample, name=one.name))
    shared = {"operation": operation, "database": database}
    return [
        Cell("growth", {"axis": axis, "value": value, **shared}, some)
        for value, some in samples.items()
    ]


async def _work(one: _Measured, operation: str) -> Operation:
    """Return what does ``operation``, which does what it is measured for."""
    if operation == LIST_PAGE:
        assert isinstance(one.peer, Ours)
        assert await one.peer.list_page()
        return one.peer.list_page
    work = operate(one.peer, operation, one.length, one.stock)
    await verify(one.peer, work, operation, one.length, one.stock)
    return work


if __name__ == "__main__":
    show(measure(SHORT))
