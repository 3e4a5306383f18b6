"""A process that does random operations, and writes down what came of each.

``python -m tests.long.torture.model.worker BACKEND URL NAME SEED JOURNAL TIMEOUT`` reads lines from
its standard input: a window's name, and how many operations to do in it. When they are done it
closes its store, and writes down that it did.
"""

import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from hermes_session_mw import (
    HermesSessionError,
    LifecycleStore,
    SessionBusy,
    SessionConflict,
    SQLAlchemyStore,
    StoreUnavailable,
)
from tests.long.torture.model.calls import GIVEN_TURN, call
from tests.long.torture.model.contract import LONGEST_LEASE, Place
from tests.long.torture.model.journal import KEYS, OWNERS, SESSIONS, Write, writing

_SHARED_TURNS = 6
_ANYHOW = {
    "append": 24,
    "replace": 8,
    "repeat": 6,
    "rewind": 5,
    "compact": 6,
    "acquire": 12,
    "stale": 4,
    "fork": 7,
    "rotate": 5,
    "delete": 2,
    "prune": 3,
    "bind_key": 6,
    "move_key": 3,
    "drop_key": 3,
    "find_key": 4,
    "load": 8,
    "find_turn": 3,
    "archived": 2,
    "info": 2,
    "list": 2,
}
_IN_A_TURN = {"append": 5, "replace": 2, "rewind": 2, "compact": 2, "extend": 2, "release": 2}


class Worker:
    """Does operations on a store, one after the other."""

    def __init__(self, store: LifecycleStore, name: str, seed: str, write: Write) -> None:
        self._store = store
        self._name = name
        self._random = random.Random(seed)
        self._write = write
        self._number = 0
        self._window = ""
        self._seen: dict[Place, list[str]] = {}
        self._fences: dict[Place, int] = {}
        self._lost: dict[Place, int] = {}
        self._again: tuple[Place, dict[str, Any]] | None = None

    async def work(self, window: str, count: int) -> None:
        """Do so many operations."""
        self._window = window
        # The model does not know the fences of before, nor what was in doubt.
        self._fences, self._lost, self._again = {}, {}, None
        last = self._number + count
        while self._number < last:
            await self._do_one()
            if self._random.random() < 0.02:
                await anyio.sleep(self._random.uniform(0, LONGEST_LEASE))

    async def _do_one(self) -> None:
        if self._again is not None:
            (place, given), self._again = self._again, None
            await self._append_these(place, given)
        elif self._fences and self._random.random() < 0.6:
            place = self._random.choice(list(self._fences))
            await self._do_any(_IN_A_TURN, place, self._fences[place])
        else:
            place = self._random.choice(OWNERS), self._random.choice(SESSIONS)
            await self._do_any(_ANYHOW, place, None)

    async def _do_any(self, weights: Mapping[str, int], place: Place, fence: int | None) -> None:
        (choice,) = self._random.choices(list(weights), list(weights.values()))
        await getattr(self, f"_{choice}")(place, fence)

    async def _do(self, name: str, place: Place, **given: Any) -> Any:
        """Do an operation; return what it answered, or its error."""
        self._number += 1
        number = self._number
        begun = {"number": number, "name": name, "place": place, "arguments": given}
        self._write({"call": time.monotonic(), **begun})
        try:
            value = await call(self._store, name, place, given)
        except HermesSessionError as exc:
            self._write({"number": number, "ret": time.monotonic(), "error": _told(exc)})
            return exc
        self._write({"number": number, "ret": time.monotonic(), "value": value})
        return value

    async def _load(self, place: Place, _fence: int | None) -> None:
        limit = self._random.choice([None, None, 0, 1, 3])
        found = await self._do("load", place, limit=limit)
        if limit is None and isinstance(found, list):
            self._seen[place] = found[0]

    async def _look(self, place: Place) -> list[str]:
        """Return the history as it is, or as it was the last time."""
        if place not in self._seen or self._random.random() < 0.7:
            found = await self._do("load", place, limit=None)
            if isinstance(found, list):
                self._seen[place] = found[0]
        return self._seen.get(place, [])

    async def _append(self, place: Place, fence: int | None) -> None:
        given = self._turn(fence)
        if self._random.random() < 0.2:
            given["expected_length"] = len(await self._look(place))
        await self._append_these(place, given)

    async def _replace(self, place: Place, fence: int | None) -> None:
        given = self._turn(fence)
        length = len(await self._look(place))
        # Now and then more than there is, which is refused.
        given["replace_from"] = max(length - self._random.randint(-1, 4), 0)
        if self._random.random() < 0.2:
            given["expected_length"] = length
        await self._append_these(place, given)

    async def _repeat(self, place: Place, fence: int | None) -> None:
        given = self._shared_turn(fence)
        if self._random.random() < 0.2:
            given["messages"][-1] = f"{self._name}.{self._number + 1}.{len(given['messages']) - 1}"
        await self._append_these(place, given)

    def _turn(self, fence: int | None) -> dict[str, Any]:
        kind = self._random.choice(["own", "own", "shared", "none"])
        if kind == "shared":
            return self._shared_turn(fence)
        name = f"{self._name}.{self._number + 1}"
        turn_id = None if kind == "none" else f"{GIVEN_TURN}{name}"
        return _given(name, self._random.randint(1, 3), turn_id, fence)

    def _shared_turn(self, fence: int | None) -> dict[str, Any]:
        """Return a turn that others store too, under the same id."""
        number = self._random.randrange(_SHARED_TURNS)
        name = f"{self._window}-{number}"
        return _given(name, 1 + number % 3, f"{GIVEN_TURN}{name}", fence)

    async def _append_these(self, place: Place, given: dict[str, Any]) -> None:
        came = await self._do("append", place, **given)
        if isinstance(came, StoreUnavailable) and given["turn_id"] is not None:
            self._again = place, given  # as a caller does who must not lose it

    async def _rewind(self, place: Place, fence: int | None) -> None:
        length = max(len(await self._look(place)) - self._random.randint(0, 4), 0)
        await self._do("rewind", place, length=length, fence=fence)

    async def _compact(self, place: Place, fence: int | None) -> None:
        seen = await self._look(place)
        cut = self._random.randint(0, len(seen))
        skipped = self._random.choice([0, 0, 1])
        if cut <= skipped:
            return
        count = self._random.randint(1, 2)
        summary = [f"{self._name}.{self._number + 1}.{part}" for part in range(count)]
        replaced = seen[skipped:cut]
        given = {"replaced": replaced, "summary": summary, "skipped": skipped, "fence": fence}
        await self._do("compact", place, **given)

    async def _acquire(self, place: Place, _fence: int | None) -> None:
        came = await self._do("acquire", place, seconds=self._seconds())
        if isinstance(came, int):
            self._lost[place] = self._fences.pop(place, came)
            self._fences[place] = came

    def _seconds(self) -> float:
        return round(self._random.uniform(0.05, LONGEST_LEASE), 3)

    async def _extend(self, place: Place, fence: int | None) -> None:
        await self._do("extend", place, fence=fence, seconds=self._seconds())

    async def _release(self, place: Place, fence: int | None) -> None:
        await self._do("release", place, fence=fence)
        self._lost[place] = self._fences.pop(place, fence or 0)

    async def _stale(self, place: Place, _fence: int | None) -> None:
        """Write as somebody who is late, where this one is."""
        if place in self._lost:
            await self._do_any(_IN_A_TURN, place, self._lost[place])

    async def _fork(self, place: Place, _fence: int | None) -> None:
        length = self._random.choice([None, None, 0, 1, 2, 5])
        await self._do("fork", place, new_id=self._random.choice(SESSIONS), length=length)

    async def _rotate(self, place: Place, _fence: int | None) -> None:
        owner = place[0]
        other = owner[:-1] + ("b" if owner.endswith("a") else "a")
        new_owner = self._random.choice([None, owner, other])
        new_id = self._random.choice(SESSIONS)
        await self._do("rotate", place, new_id=new_id, new_owner=new_owner)

    async def _delete(self, place: Place, _fence: int | None) -> None:
        await self._do("delete", place)

    async def _prune(self, place: Place, _fence: int | None) -> None:
        seconds = self._random.choice([0, 1, 2, 3600])
        await self._do("prune", place, seconds=seconds)

    async def _bind_key(self, place: Place, _fence: int | None) -> None:
        await self._do("bind_key", self._key_of(place), new_id=place[1])

    async def _move_key(self, place: Place, _fence: int | None) -> None:
        await self._do("move_key", self._key_of(place), session_id=place[1])

    async def _drop_key(self, place: Place, _fence: int | None) -> None:
        await self._do("drop_key", self._key_of(place))

    async def _find_key(self, place: Place, _fence: int | None) -> None:
        await self._do("find_key", self._key_of(place))

    def _key_of(self, place: Place) -> Place:
        return place[0], self._random.choice(KEYS)

    async def _find_turn(self, place: Place, _fence: int | None) -> None:
        number = self._random.randrange(_SHARED_TURNS)
        await self._do("find_turn", place, turn_id=f"{GIVEN_TURN}{self._window}-{number}")

    async def _archived(self, place: Place, _fence: int | None) -> None:
        await self._do("archived", place)

    async def _info(self, place: Place, _fence: int | None) -> None:
        await self._do("info", place)

    async def _list(self, place: Place, _fence: int | None) -> None:
        await self._do("list", place)


def _given(name: str, count: int, turn_id: str | None, fence: int | None) -> dict[str, Any]:
    return {
        "messages": [f"{name}.{part}" for part in range(count)],
        "turn_id": turn_id,
        "expected_length": None,
        "replace_from": None,
        "fence": fence,
    }


def _told(error: HermesSessionError) -> list[Any]:
    if isinstance(error, SessionConflict):
        return [type(error).__name__, error.expected, error.actual]
    if isinstance(error, SessionBusy):
        return [type(error).__name__, error.retry_after]
    return [type(error).__name__]


async def _main(*arguments: str) -> None:
    url, name, seed, journal, seconds = arguments
    write = writing(Path(journal))
    store = SQLAlchemyStore(url, timeout=float(seconds))
    worker = Worker(store, name, seed, write)
    write({"ready": name})
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        window, count = line.split()
        await worker.work(window, int(count))
        await store.aclose()
        write({"done": window})


if __name__ == "__main__":
    anyio.run(_main, *sys.argv[2:], backend=sys.argv[1])
