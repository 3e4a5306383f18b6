"""A process of this version or of 0.1.0, which writes until it is killed, or reads.

It is run as a file, and asks nothing of the package but what 0.1.0 has: ``python -P
version_worker.py URL NAME LOG`` writes, and adds a line of JSON to the log for what was
acknowledged: the messages, and the id of its own session. ``python -P version_worker.py URL read
ID...`` prints the sessions as JSON.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import anyio

from hermes_session_mw import SessionBusy, SQLAlchemyStore

SHARED, TURNS = "shared", "turns"
"""The sessions that all processes write to: turns of one append, and turns of two by a lease."""


class _Writer:
    """The operations of one process; each returns the names of the messages that it has stored."""

    def __init__(self, store: SQLAlchemyStore, name: str) -> None:
        self._store = store
        self._name = name
        self.own = f"{name}-0"

    async def append(self, name: str) -> list[str]:
        """Add a turn to the own session."""
        names = [f"{name}-a", f"{name}-b"]
        await self._store.append(self.own, [{"name": each} for each in names], turn_id=name)
        return names

    async def append_shared(self, name: str) -> list[str]:
        """Add a turn beside all the others'."""
        said = {"name": name, "role": "user", "content": f"Said by {self._name}."}
        await self._store.append(SHARED, [said], turn_id=name)
        return [name]

    async def append_in_turn(self, name: str) -> list[str]:
        """Add two turns under one lease, between which nobody else comes."""
        try:
            fence = await self._store.acquire(TURNS, 300)
        except SessionBusy:
            return []
        names = [f"{name}-1", f"{name}-2"]
        for each in names:
            await self._store.append(TURNS, [{"name": each}], turn_id=each, fence=fence)
        await self._store.release(TURNS, fence)
        return names

    async def rewind(self, _name: str) -> list[str]:
        """Move the last message to the archive."""
        length = (await self._store.load(self.own, limit=0)).length
        await self._store.rewind(self.own, length - 1)
        return []

    async def compact(self, name: str) -> list[str]:
        """Replace the first messages by a summary."""
        history = await self._store.load(self.own)
        await self._store.compact(self.own, history.messages[:2], [{"name": name}])
        return [name]

    async def rotate(self, name: str) -> list[str]:
        """Move the own session, which has a title and a key, to another id."""
        await self._store.rename(self.own, name)
        assert await self._store.bind_key(self._name, self.own) == self.own
        await self._store.rotate(self.own, f"{self._name}-{name}")
        self.own = f"{self._name}-{name}"
        assert await self._store.find_key(self._name) == self.own
        return []

    async def fork_and_delete(self, name: str) -> list[str]:
        """Make a copy of the own session by a fork, one by an import, and remove both."""
        length = await self._store.fork(self.own, f"{self.own}.fork")
        lines = await self._store.export(self.own)
        await self._store.import_(lines, session_id=f"{self.own}.{name}")
        for copy in (f"{self.own}.fork", f"{self.own}.{name}"):
            assert (await self._store.load(copy)).length == length
            assert await self._store.delete(copy)
        return []


async def _write(url: str, name: str, log: str) -> None:
    store = SQLAlchemyStore(url, timeout=60)
    writer = _Writer(store, name)
    operations = (
        *(writer.append, writer.append_shared, writer.append_in_turn, writer.append),
        *(writer.rewind, writer.append_shared, writer.compact, writer.append_in_turn),
        *(writer.fork_and_delete, writer.rotate),
    )
    with Path(log).open("a", encoding="utf-8") as acknowledged:  # noqa: ASYNC230  # nobody waits
        for number, operation in zip(itertools.count(), itertools.cycle(operations), strict=False):
            stored = await operation(f"{name}.{number}")
            acknowledged.write(json.dumps({"stored": stored, "own": writer.own}) + "\n")
            acknowledged.flush()


async def read(store: SQLAlchemyStore, *ids: str) -> dict[str, Any]:
    """Return what the store has of the sessions, as JSON has it."""
    found: dict[str, Any] = {}
    for each in ids:
        info = await store.info(each)
        assert info is not None
        history, archived = await store.load(each), await store.archived(each)
        found[each] = {
            "title": info.title,
            "times": [info.created_at.timestamp(), info.updated_at.timestamp()],
            "messages": history.messages,
            "archived": [[old.message, old.turn_id] for old in archived],
            "export": [json.loads(line) for line in (await store.export(each)).splitlines()[1:]],
        }
    return found


async def _read(url: str, *ids: str) -> None:
    store = SQLAlchemyStore(url, timeout=60)
    sys.stdout.write(json.dumps(await read(store, *ids)))
    await store.aclose()


async def _main(*words: str) -> None:
    url, name, *rest = words
    await (_read(url, *rest) if name == "read" else _write(url, name, *rest))


if __name__ == "__main__":
    anyio.run(_main, *sys.argv[1:])
