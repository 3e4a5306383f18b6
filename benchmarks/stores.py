"""Stores: load, append, whole turns and more, beside every peer and the floor.

Each subject is a process of its own, with the packages that it asks for, and they take turns: while
one works, the others sleep. All hold the same conversations, each in a database of its own, filled
once. Conversations that are appended to are so many that none grows much. Concurrent
operations are of different conversations, as far as there are enough.

A turn loads a conversation and appends two messages to it. It costs more with each turn before it:
so all subjects do as many of them.

A subject that would take too long in a cell is left out of it, and `LEFT_OUT` says so; operations
that fail are counted, as the figure "failed".
"""

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import anyio.lowlevel

from benchmarks.measuring import SHORT, Cell, Dose, Operation, Subject, compare, longest_stall
from benchmarks.peers.conversations import conversation
from benchmarks.peers.databases import settle, temporary_postgresql
from benchmarks.peers.everyone import OURS, POSTGRESQL, SQLITE, everyone
from benchmarks.peers.operations import (
    APPEND,
    FIRST_SIGHT,
    LOADS,
    TURN,
    WRITES,
    Stock,
    expected,
    operate,
)
from benchmarks.peers.processes import Process, start
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
_TURNS = {_ONE: 16, _MANY: 2}
"""How many turns a subject does in each round, of each that goes on at the same time."""

_FIRST_SIGHTS = (0, 100)  # lengths
_PARSE = "JSON parse"
_FILL_SECONDS = 40.0  # for one subject
_CELL_SECONDS = 3.0  # that a cell of the full dose should take, in fewer rounds if need be
_LEAST_ROUNDS = 5
_CALIBRATING = 4  # turns before the rounds, of an operation that is slower than a turn
_TURN_SECONDS = 0.8  # that one subject may take in a round
_TURN_SECONDS_SHORT = 0.2
_STALL_TURNS = 5  # for so many turns stalls are looked for


@dataclass(frozen=True)
class _Bench:
    """Those who are measured on a kind of database, with the lengths that each holds; how much."""

    database: str
    stocked: dict[Process, list[int]]
    urls: dict[str, str]
    stock: Stock
    dose: Dose


def measure(dose: Dose) -> list[Cell]:
    """Measure all subjects on SQLite, and on PostgreSQL where one answers."""
    LEFT_OUT.clear()
    cells = asyncio.run(_measure(SQLITE, dose))
    return [*cells, *asyncio.run(_measure(POSTGRESQL, dose))] if postgresql_version() else cells


async def _measure(database: str, dose: Dose) -> list[Cell]:
    bench = _Bench(database, {}, {}, _STOCK if dose.full else _STOCK_SHORT, dose)
    async with AsyncExitStack() as stack:
        places = {}
        for entry in everyone(database):
            if entry.python.exists():
                place = await _place(database, stack)
                places[await stack.enter_async_context(start(entry))] = place
            else:
                LEFT_OUT[f"{entry.name} on {database}"] = "its environment is not installed"
        filling = asyncio.Semaphore(os.cpu_count() or 1)
        await asyncio.gather(*(_fill(bench, *one, filling) for one in places.items()))
        return [await _cell(bench, *which) for which in _which(bench.stock, dose)]


async def _place(database: str, stack: AsyncExitStack) -> tuple[str, str]:
    """Return a new database: a URL, or none and a directory for files."""
    if database == SQLITE:
        return "", stack.enter_context(TemporaryDirectory())
    return await stack.enter_async_context(temporary_postgresql()), ""


async def _fill(
    bench: _Bench, process: Process, place: tuple[str, str], free: asyncio.Semaphore
) -> None:
    """Have it store all conversations, the short ones first, until the time is over."""
    stock = bench.stock
    async with free:
        try:
            await process.ask("open", *place, [*stock.loaded.items()], [*stock.appended.items()])
            bench.stocked[process] = await process.ask("fill", _FILL_SECONDS)
        except RuntimeError as error:
            _leave_out(process, bench.database, error)
            return
    url, _ = place
    if url:
        bench.urls[process.name] = url
        await settle(url)
    for length in stock.lengths:
        if length not in bench.stocked[process]:
            where = f"{process.name} on {bench.database}, {length:,} messages"
            LEFT_OUT[where] = f"filling took over {_FILL_SECONDS:g} s"


def _which(stock: Stock, dose: Dose) -> list[tuple[str, int, int]]:
    """Return operation, messages and operations at once of every cell."""
    lengths, at_once = stock.lengths, (_ONE, _MANY)
    cells = list(itertools.product((*LOADS, APPEND, TURN), lengths, at_once))
    cells += itertools.product((FIRST_SIGHT,), _FIRST_SIGHTS, at_once)
    return [
        (operation, length, many)
        for operation, length, many in cells
        # Two at once in one conversation would wait for each other.
        if (operation not in WRITES or stock.appended[length] >= many)
        and (dose.full or many == _ONE or length == min(lengths))
    ]


async def _cell(bench: _Bench, operation: str, length: int, at_once: int) -> Cell:
    conditions = {
        "database": bench.database,
        "operation": operation,
        "messages": length,
        "at_once": at_once,
    }
    count = _TURNS[at_once] if operation == TURN else None
    failures: dict[str, int] = {}
    ready, processes, turns = [], [], 0.0
    for process in (one for one, lengths in bench.stocked.items() if length in lengths):
        where = f"{bench.database}, {operation}, {length:,} messages, {at_once} at once"
        try:
            seconds = await process.ask("prepare", operation, length)
        except RuntimeError as error:
            _leave_out(process, where, error)
            continue
        turn = max(bench.dose.seconds, (count or 1) * at_once * seconds)
        longest = _TURN_SECONDS if bench.dose.full else _TURN_SECONDS_SHORT
        if turn > longest and process.name != OURS:
            LEFT_OUT[f"{process.name} on {where}"] = f"a round would take {turn:.1f} s"
            continue
        ready.append(process.as_subject(failures))
        processes.append(process)
        turns += turn
    if operation in LOADS:
        ready.append(Subject.here(_PARSE, _parse(operation, length)))
    dose = replace(bench.dose, rounds=_rounds(bench.dose, turns))
    cell = await compare("stores", conditions, ready, dose=dose, at_once=at_once, count=count)
    if operation in LOADS:
        await _look_for_stalls(cell, processes, at_once, dose.seconds * _STALL_TURNS)
        if bench.urls:
            await _count_round_trips(cell, bench)
    for name, failed in failures.items():
        cell.sample(name).figures["failed"] = failed
    return cell


def _leave_out(process: Process, where: str, error: RuntimeError) -> None:
    """Leave a peer out where it failed before it was measured; what we fail at ends the group."""
    if process.name == OURS:
        raise error
    LEFT_OUT[f"{process.name} on {where}"] = str(error).splitlines()[0]


def _rounds(dose: Dose, turns: float) -> int:
    affordable = int(_CELL_SECONDS / turns) - _CALIBRATING
    return min(dose.rounds, max(_LEAST_ROUNDS, affordable))


def _parse(operation: str, length: int) -> Operation:
    text = json.dumps(conversation(length)[-expected(operation, length) :])

    async def parse() -> object:
        return json.loads(text)

    return parse


async def _look_for_stalls(
    cell: Cell, processes: Sequence[Process], at_once: int, seconds: float
) -> None:
    for process in processes:
        cell.sample(process.name).stall = await process.ask("stall", at_once, seconds)
    # The reference is one history, and without a pause nobody else would work.
    parse = _pausing(_parse(cell.conditions["operation"], cell.conditions["messages"]))
    cell.sample(_PARSE).stall = await longest_stall(parse, seconds=seconds)


def _pausing(operation: Operation) -> Operation:
    async def work() -> None:
        await operation()
        await anyio.lowlevel.checkpoint()

    return work


async def _count_round_trips(cell: Cell, bench: _Bench) -> None:
    operation, length = cell.conditions["operation"], cell.conditions["messages"]
    cell.sample(OURS).figures["round trips"] = await round_trips(
        bench.urls[OURS], lambda peer: operate(peer, operation, length, bench.stock)
    )


if __name__ == "__main__":
    show(measure(SHORT))
    for who, why in LEFT_OUT.items():
        sys.stdout.write(f"left out: {who}: {why}\n")
