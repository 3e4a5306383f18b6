"""The floor on SQLite: the least that keeps conversations, written by hand for nothing else.

One row of JSON for each message, parsed with one call for all rows, numbered by a counter. What it
leaves out is all the rest: owners, turn ids, limits, time-outs, retries.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from benchmarks.peers.peer import Message

T = TypeVar("T")

_THREADS = 4
_PATIENCE = 60  # seconds that SQLite waits for its lock
_TABLES = """
    CREATE TABLE IF NOT EXISTS raw_sessions (id TEXT PRIMARY KEY, length INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS raw_messages (
        session TEXT, seq INTEGER, body TEXT NOT NULL, PRIMARY KEY (session, seq)
    ) WITHOUT ROWID;
"""


class RawSQLite:
    """sqlite3, in WAL mode with ``synchronous=FULL``; an operation is a hop to one of 4 threads."""

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._path: Path

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # it is SQLite's
        """Make the tables."""
        self._path = directory / "raw.db"
        await self._hop(lambda: self._connection().executescript(_TABLES))

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Append all messages at once."""
        await self.append(session_id, list(messages))

    async def load(self, session_id: str) -> list[Message]:
        """Read one session's rows."""
        query = "SELECT body FROM raw_messages WHERE session = ? ORDER BY seq"
        return await self._hop(partial(self._read, query, session_id))

    async def load_last(self, session_id: str, count: int) -> list[Message]:
        """Read one session's newest rows."""
        query = "SELECT body FROM raw_messages WHERE session = ? ORDER BY seq DESC LIMIT ?"
        return await self._hop(partial(self._read, query, session_id, count))

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Count and insert, in one transaction."""
        await self._hop(partial(self._append, session_id, turn))

    async def first_sight(self, session_id: str) -> list[Message]:
        """Read one session's rows."""
        return await self.load(session_id)

    async def ask(self) -> None:
        """Make the least round trip there is."""
        await self._hop(lambda: self._connection().execute("SELECT 1").fetchall())

    async def aclose(self) -> None:
        """Close all threads' connections."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()

    async def _hop(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._threads)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _read(self, query: str, session_id: str, *newest: int) -> list[Message]:
        rows = self._connection().execute(query, (session_id, *newest)).fetchall()
        return _parse(rows[::-1] if newest else rows)

    def _append(self, session_id: str, turn: list[Message]) -> None:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            length = connection.execute(
                "INSERT INTO raw_sessions VALUES (?, ?) "
                "ON CONFLICT (id) DO UPDATE SET length = length + excluded.length RETURNING length",
                (session_id, len(turn)),
            ).fetchone()[0]
            rows = enumerate(turn, length - len(turn))
            connection.executemany(
                "INSERT INTO raw_messages VALUES (?, ?, ?)",
                [(session_id, seq, json.dumps(message)) for seq, message in rows],
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _parse(rows: Sequence[Any]) -> list[Message]:
    messages: list[Message] = json.loads(f"[{','.join([row[0] for row in rows])}]")
    return messages
