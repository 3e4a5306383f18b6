"""Writers to one session that outlive their server, and note what was acknowledged."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from hermes_session_mw import AppendInDoubt, History, SQLAlchemyStore, StoreUnavailable
from tests.long.torture import checker
from tests.long.torture.writers import Report

Acknowledged = dict[tuple[str, int], int]
"""The length that each turn of each writer was given."""


def check(history: History, acknowledged: Acknowledged, writers: int = 6) -> None:
    """Hold the stored turns against the acknowledged ones, as the torture does."""
    reports = {str(number): Report() for number in range(writers)}
    for (name, turn), length in acknowledged.items():
        reports[name].acknowledged[turn] = length
    checker.check(history, reports)


async def all_agree(
    session_id: str, stores: Sequence[SQLAlchemyStore], acknowledged: Acknowledged
) -> None:
    """Hold what each store has of a session against what was acknowledged, and the others."""
    first, *others = [await store.load(session_id) for store in stores]
    check(first, acknowledged)
    assert all(other == first for other in others)


def turn_of(writer: str, turn: int) -> list[dict[str, Any]]:
    """Return a turn of three messages, as ``tests.long.torture.checker`` knows them."""
    return [{"writer": writer, "turn": turn, "part": part} for part in range(3)]


class Writers:
    """What the writers of one session have done so far.

    Those with an even number give each turn an id, and repeat it on the next store whatever
    happened. The others give none: they repeat what was not stored, and stop at what may have been.
    """

    def __init__(self, session_id: str, stores: Sequence[SQLAlchemyStore]) -> None:
        self.acknowledged: Acknowledged = {}
        self.errors: Counter[str] = Counter()
        self._session_id = session_id
        self._stores = stores
        self._stopped = False
        self._news = anyio.Event()

    async def more(self, turns: int) -> None:
        """Wait until that many more turns are acknowledged."""
        await self._wait_for(self.acknowledged.__len__, turns)

    async def more_errors(self, count: int) -> None:
        """Wait until that many more appends have failed."""
        await self._wait_for(self.errors.total, count)

    def stop(self) -> None:
        """Let every writer end with the turn that it is at."""
        self._stopped = True

    async def _wait_for(self, count: Callable[[], int], more: int) -> None:
        enough = count() + more
        with anyio.fail_after(30):
            while count() < enough:
                self._news = anyio.Event()
                await self._news.wait()

    async def write(self, number: int) -> None:
        """Append turns until stopped; anything but an unavailable store is a failure."""
        name, turn, at = str(number), 0, number
        while not self._stopped:
            try:
                store = self._stores[at % len(self._stores)]
                turn_id = None if number % 2 else f"{name}-{turn}"
                length = await store.append(self._session_id, turn_of(name, turn), turn_id=turn_id)
                self.acknowledged[name, turn] = length
                turn += 1
                self._news.set()
            except StoreUnavailable as exc:
                self.errors[f"{type(exc).__name__}: {exc}"] += 1
                self._news.set()
                if isinstance(exc, AppendInDoubt) and turn_id is None:
                    return
                at += 1
                await anyio.sleep(0.05)


@asynccontextmanager
async def writing(
    session_id: str, stores: Sequence[SQLAlchemyStore], count: int
) -> AsyncIterator[Writers]:
    """Let writers write until the block ends, and for as long as their last turns take."""
    writers = Writers(session_id, stores)
    with anyio.fail_after(80):  # a server that stands still lets its clients wait for ever
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(writers.write, number)
            yield writers
            writers.stop()
