"""Floors: what nothing at all costs, a hop to a worker thread, and a round trip to the database."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio.to_thread
import asyncpg

from benchmarks.measuring import SHORT, Cell, Dose, Subject, compare
from benchmarks.peers.databases import temporary_postgresql
from benchmarks.peers.raw_sqlite import RawSQLite
from benchmarks.peers.table import show
from benchmarks.results import postgresql_version


def measure(dose: Dose) -> list[Cell]:
    """Measure what nothing at all costs: a hop, and a round trip."""
    cells = [asyncio.run(_sqlite(dose))]
    return [*cells, asyncio.run(_postgresql(dose))] if postgresql_version() else cells


async def _sqlite(dose: Dose) -> Cell:
    with TemporaryDirectory() as directory:
        raw = RawSQLite()
        await raw.open("", Path(directory))
        try:
            return await _compare("SQLite", Subject.here("bare round trip", raw.ask), dose)
        finally:
            await raw.aclose()


async def _postgresql(dose: Dose) -> Cell:
    async with temporary_postgresql() as url:
        connection = await asyncpg.connect(url)
        try:
            ask = Subject.here("bare round trip", lambda: connection.fetchval("SELECT 1"))
            return await _compare("PostgreSQL", ask, dose)
        finally:
            await connection.close()


async def _compare(database: str, round_trip: Subject, dose: Dose) -> Cell:
    hop = Subject.here("bare hop", lambda: anyio.to_thread.run_sync(_nothing))
    to_thread = Subject.here("asyncio.to_thread", lambda: asyncio.to_thread(_nothing))
    conditions = {"database": database}
    return await compare("floors", conditions, [hop, to_thread, round_trip], dose=dose)


def _nothing() -> None:
    """Do nothing."""


if __name__ == "__main__":
    show(measure(SHORT))
