"""The floor on PostgreSQL: the least that keeps conversations, written by hand for nothing else.

One row of JSON for each message, parsed with one call for all rows, numbered by a counter. What it
leaves out is all the rest: owners, turn ids, limits, time-outs, retries.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.peers.peer import Message

_CONNECTIONS = 10
_TABLES = """
    CREATE TABLE IF NOT EXISTS raw_sessions (id text PRIMARY KEY, length bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS raw_messages (
        session text, seq bigint, body text NOT NULL, PRIMARY KEY (session, seq)
    );
"""


class RawAsyncpg:
    """A pool of asyncpg's; a load is one round trip, and an append one statement."""

    def __init__(self) -> None:
        self._pool: Any = None

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # it has no file
        """Connect, and make the tables."""
        # A connection goes back into the pool as it is: asyncpg's reset is another round trip.
        self._pool = await asyncpg.create_pool(
            url, min_size=_CONNECTIONS, max_size=_CONNECTIONS, reset=_leave
        )
        await self._pool.execute(_TABLES)

    def convert(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are."""
        return list(messages)

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Append all messages at once."""
        await self.append(session_id, list(messages))

    async def load(self, session_id: str) -> list[Message]:
        """Read one session's rows."""
        query = "SELECT body FROM raw_messages WHERE session = $1 ORDER BY seq"
        return _parse(await self._pool.fetch(query, session_id))

    async def load_last(self, session_id: str, count: int) -> list[Message]:
        """Read one session's newest rows."""
        query = "SELECT body FROM raw_messages WHERE session = $1 ORDER BY seq DESC LIMIT $2"
        return _parse((await self._pool.fetch(query, session_id, count))[::-1])

    async def append(self, session_id: str, turn: list[Message]) -> None:
        """Count and insert, in one statement."""
        await self._pool.execute(
            "WITH counter AS (INSERT INTO raw_sessions VALUES ($1, $2) ON CONFLICT (id) "
            "DO UPDATE SET length = raw_sessions.length + excluded.length RETURNING length) "
            "INSERT INTO raw_messages SELECT $1, counter.length - $2 + turn.place - 1, turn.body "
            "FROM counter, unnest($3::text[]) WITH ORDINALITY AS turn (body, place)",
            session_id,
            len(turn),
            [json.dumps(message) for message in turn],
        )

    async def first_sight(self, session_id: str) -> list[Message]:
        """Read one session's rows."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.close()


def _parse(rows: Sequence[Any]) -> list[Message]:
    messages: list[Message] = json.loads(f"[{','.join([row[0] for row in rows])}]")
    return messages


async def _leave(_connection: Any) -> None:
    """Leave a connection as it is."""
