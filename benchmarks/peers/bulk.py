"""Bulk: other people's conversations, straight into our tables, to make them large.

Each has one message, and a random id, as minted ones are. The tables are there already.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import asyncpg

from benchmarks.peers.conversations import conversation
from benchmarks.peers.peer import is_postgresql

_SQLITE_SESSION = "INSERT INTO hermes_sessions (owner, id, next_seq, turns) VALUES ('', ?, 1, 1)"
_SQLITE_MESSAGE = (
    "INSERT INTO hermes_messages (owner, session_id, seq, turn_id, body) VALUES ('', ?, 0, ?, ?)"
)
_POSTGRESQL_SESSIONS = """
    INSERT INTO hermes_sessions (owner, id, next_seq, turns)
    SELECT '', md5(number::text), 1, 1 FROM generate_series(1, $1::int) AS number
"""
_POSTGRESQL_MESSAGES = """
    INSERT INTO hermes_messages (owner, session_id, seq, turn_id, body)
    SELECT '', md5(number::text), 0, $2, $3 FROM generate_series(1, $1::int) AS number
"""
_TURN = "turn"


class Bulk(Protocol):
    """Adds sessions to a database."""

    async def add(self, count: int) -> None:
        """Add ``count`` sessions, once."""
        ...


def bulk_for(url: str, directory: Path) -> Bulk:
    """Return what adds sessions to the database that ours has there."""
    return _PostgreSQL(url) if is_postgresql(url) else _SQLite(directory / "ours.db")


class _SQLite:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def add(self, count: int) -> None:
        # In the order of the ids, which makes the same tables as any other, but much sooner.
        ids = sorted(_ids(count))
        body = _body()
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.executemany(_SQLITE_SESSION, ((one,) for one in ids))
            connection.executemany(_SQLITE_MESSAGE, ((one, _TURN, body) for one in ids))
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _PostgreSQL:
    def __init__(self, url: str) -> None:
        self._url = url

    async def add(self, count: int) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            # Else it looks up the session of every message, one by one.
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(_POSTGRESQL_SESSIONS, count)
            await connection.execute(_POSTGRESQL_MESSAGES, count, _TURN, _body())
        finally:
            await connection.close()


def _ids(count: int) -> Iterator[str]:
    for number in range(count):
        yield hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


def _body() -> str:
    return json.dumps(conversation(1)[0])
