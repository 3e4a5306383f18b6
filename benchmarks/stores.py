"""Stores: load, load the newest, append, first sight, beside every peer and the floor.

All subjects of a database hold the same conversations, each in tables or a file of its own, filled
once. Conversations that are appended to are so many that none grows much. Concurrent operations
are of different conversations, as far as there are enough.

A subject that would take too long in a cell is left out of it, and `LEFT_OUT` says so; operations
of peers that fail are counted, as the figure "failed".
"""

import asyncio
import gc
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio.lowlevel

from benchmarks.judging import peers as peers_of
from benchmarks.measuring import SHORT, Cell, Dose, Operation, Subject, compare, longest_stall
from benchmarks.peers.conversations import conversation
from benchmarks.peers.databases import settle, temporary_postgresql
from benchmarks.peers.everyone import on_postgresql, on_sqlite
from benchmarks.peers.operations import (
    APPEND,
    FIRST_SIGHT,
    LOADS,
    Stock,
    expected,
    operate,
    subjects,
    verify,
)
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Peer
from benchmarks.peers.raw_asyncpg import RawAsyncpg
from benchmarks.peers.raw_sqlite import RawSQLite
from benchmarks.peers.round_trips import round_trips
from benchmarks.peers.table import show
from benchmarks.results import postgresql_version

LEFT_OUT: dict[str, str] = {}
"""Why a subject is missing, by its name and the cell."""

_STOCK = Stock(
    loaded={0: 8, 10: 8, 100: 8, 1_000: 4, 5_000: 2},
    appended={10: 128, 100: 64, 1_000: 32, 5_000: 4},
)
_STOCK_SHORT = Stock(loaded={0: 2, 10: 2, 100: 2}, appended={10: 32, 100: 2})
_ONE, _MANY = 1, 32
_FIRST_SIGHTS = (0, 100)  # lengths
_PARSE = "JSON parse"
_FILL_SECONDS = 60.0  # for one subject
_CELL_SECONDS = 4.0  # that a cell of the full dose should take, in fewer rounds if need be
_LEAST_ROUNDS = 5
_CALIBRATING = 4  # turns before the rounds, of an operation that is slower than a turn
_TURN_SECONDS = 0.8  # that one subject may take in a round
_TURN_SECONDS_SHORT = 0.2
_STALL_TURNS = 5  # for so many turns stalls are looked for


@dataclass(frozen=True)
class _Bench:
    """A database, those who are measured on it with the lengths that each holds, and how much."""

    database: str
    url: str
    stocked: dict[Peer, set[int]]
    stock: Stock
    dose: Dose


def measure(dose: Dose) -> list[Cell]:
    """Measure all subjects on SQLite, and on PostgreSQL where one answers."""
    LEFT_OUT.clear()
    with TemporaryDirectory() as directory:
        cells = asyncio.run(_measure("", Path(directory), [RawSQLite(), *on_sqlite()], dose))
    return [*cells, *asyncio.run(_on_postgresql(dose))] if postgresql_version() else cells


async def _on_postgresql(dose: Dose) -> list[Cell]:
    async with temporary_postgresql() as url:
        return await _measure(url, Path(), [RawAsyncpg(), *on_postgresql()], dose)


async def _measure(url: str, directory: Path, peers: Sequence[Peer], dose: Dose) -> list[Cell]:
    stock = _STOCK if dose.full else _STOCK_SHORT
    bench = _Bench("PostgreSQL" if url else "SQLite", url, {}, stock, dose)
    try:
        for peer in (Ours(), *peers):
            await peer.open(url, directory)
            bench.stocked[peer] = set()
            await _fill(bench, peer)
        if url:
            await settle(url)
        return [await _cell(bench, *which) for which in _which(stock, dose)]
    finally:
        gc.unfreeze()
        for peer in bench.stocked:
            await peer.aclose()


async def _fill(bench: _Bench, peer: Peer) -> None:
    """Store all conversations, the short ones first, until the time is over."""
    bench.stocked[peer].add(0)
    began = time.perf_counter()
    for length in bench.stock.lengths:
        messages = conversation(length)
        for session_id in (*bench.stock.to_load(length), *bench.stock.to_append(length)):
            await peer.fill(session_id, messages)
            if time.perf_counter() - began > _FILL_SECONDS:
                where = f"{peer.name} on {bench.database}, {length:,} messages"
                LEFT_OUT[where] = f"filling took over {_FILL_SECONDS:g} s"
                return
        bench.stocked[peer].add(length)


def _which(stock: Stock, dose: Dose) -> list[tuple[str, int, int]]:
    """Return operation, messages and operations at once of every cell."""
    lengths, at_once = stock.lengths, (_ONE, _MANY)
    cells = list(itertools.product((*LOADS, APPEND), lengths, at_once))
    cells += itertools.product((FIRST_SIGHT,), _FIRST_SIGHTS, at_once)
    return [
        (operation, length, many)
        for operation, length, many in cells
        # Two at once in one conversation would wait for each other.
        if (operation != APPEND or stock.appended[length] >= many)
        and (dose.full or many == _ONE or length == min(lengths))
    ]


async def _cell(bench: _Bench, operation: str, length: int, at_once: int) -> Cell:
    conditions = {
        "database": bench.database,
        "operation": operation,
        "messages": length,
        "at_once": at_once,
    }
    # Else each collection walks through all that the peers have imported and kept, which takes
    # longer than what is measured, and counts against whoever has its turn.
    gc.collect()
    gc.freeze()
    failures: dict[str, int] = {}
    ready, turns = [], 0.0
    for peer in (peer for peer, lengths in bench.stocked.items() if length in lengths):
        for subject in subjects(peer, operation, length, bench.stock):
            await verify(peer, subject, operation, length, bench.stock)
            turn = max(bench.dose.seconds, at_once * await _seconds(subject.operate))
            if turn > (_TURN_SECONDS if bench.dose.full else _TURN_SECONDS_SHORT):
                where = f"{operation}, {length:,} messages, {at_once} at once"
                where = f"{subject.name} on {bench.database}, {where}"
                LEFT_OUT[where] = f"a round would take {turn:.1f} s"
                continue
            ready.append(_forgiving(subject, failures))
            turns += turn
    if operation in LOADS:
        ready.append(Subject(_PARSE, _parse(operation, length)))
    dose = replace(bench.dose, rounds=_rounds(bench.dose, turns))
    cell = await compare("stores", conditions, ready, dose=dose, at_once=at_once)
    if operation in LOADS:
        await _look_for_stalls(cell, ready, at_once, dose)
        if bench.url:
            await _count_round_trips(cell, bench)
    for name in filter(failures.get, peers_of(cell)):
        cell.sample(name).figures["failed"] = failures[name]
    return cell


def _rounds(dose: Dose, turns: float) -> int:
    affordable = int(_CELL_SECONDS / turns) - _CALIBRATING
    return min(dose.rounds, max(_LEAST_ROUNDS, affordable))


async def _seconds(operation: Operation) -> float:
    began = time.perf_counter()
    await operation()
    return time.perf_counter() - began


def _forgiving(subject: Subject, failures: dict[str, int]) -> Subject:
    """Return the subject, whose failures under load are counted; ours has to raise them."""
    if subject.name == Ours.name:
        return subject

    async def try_it() -> None:
        try:
            await subject.operate()
        except Exception:  # noqa: BLE001  # as "database is locked", in any library's own words
            failures[subject.name] = failures.get(subject.name, 0) + 1

    return Subject(subject.name, try_it)


def _parse(operation: str, length: int) -> Operation:
    text = json.dumps(conversation(length)[-expected(operation, length) :])

    async def parse() -> object:
        return json.loads(text)

    return parse


async def _look_for_stalls(cell: Cell, ready: Sequence[Subject], at_once: int, dose: Dose) -> None:
    seconds = dose.seconds * _STALL_TURNS
    for subject in ready:
        if subject.name == _PARSE:
            # It is the reference for one history, and without a pause nobody else would work.
            stall = await longest_stall(_pausing(subject.operate), seconds=seconds)
        else:
            stall = await longest_stall(subject.operate, at_once=at_once, seconds=seconds)
        cell.sample(subject.name).stall = stall


def _pausing(operation: Operation) -> Operation:
    async def work() -> None:
        await operation()
        await anyio.lowlevel.checkpoint()

    return work


async def _count_round_trips(cell: Cell, bench: _Bench) -> None:
    operation, length = cell.conditions["operation"], cell.conditions["messages"]
    cell.sample(Ours.name).figures["round trips"] = await round_trips(
        bench.url, lambda peer: operate(peer, operation, length, bench.stock)
    )


if __name__ == "__main__":
    show(measure(SHORT))
    for who, why in LEFT_OUT.items():
        sys.stdout.write(f"left out: {who}: {why}\n")
