"""A database for a while: a PostgreSQL one with a random name, dropped in the end."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.results import POSTGRESQL


@asynccontextmanager
async def temporary_postgresql() -> AsyncIterator[str]:
    """Make a database, give its URL, and drop it with all that is still connected to it."""
    name = f"bench_{secrets.token_hex(6)}"
    await _execute(f"CREATE DATABASE {name}")
    try:
        yield f"{POSTGRESQL.rpartition('/')[0]}/{name}"
    finally:
        await _execute(f"DROP DATABASE {name} WITH (FORCE)")


async def settle(url: str) -> None:
    """Bring the planner's figures up to date after a fill, and the disk's work behind us."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _execute(statement: str) -> None:
    connection = await asyncpg.connect(POSTGRESQL)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
