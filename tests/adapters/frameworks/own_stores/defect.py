"""A defect of a framework's own store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermes_session_mw import SQLAlchemyStore


@dataclass(frozen=True, slots=True)
class Defect:
    """What is done with a framework's own store and with ours, and what is seen then.

    The page has all texts as they are.

    Attributes:
        done: what is done.
        see: does it in a new, empty place, and returns what is seen, in a few words.
        theirs: what is seen in the framework's own store.
        ours: what is seen in ours; the same where ours has the limit too.
        own: makes a place in the framework's own store, in a folder.
        over: makes one over a store of ours.
        framework: the framework and its own store.
    """

    done: str
    see: Callable[[Any], Awaitable[str]]
    theirs: str
    ours: str
    own: Callable[[Path], AbstractAsyncContextManager[Any]]
    over: Callable[[SQLAlchemyStore], Any]
    framework: str

    async def seen_in_own(self, folder: Path) -> str:
        """Return what is seen in the framework's own store."""
        async with self.own(folder) as place:
            return await self.see(place)

    async def seen_in_ours(self, folder: Path) -> str:
        """Return what is seen in ours, over a SQLite file."""
        store = SQLAlchemyStore(f"sqlite:///{folder}/ours.db")
        try:
            return await self.see(self.over(store))
        finally:
            await store.aclose()


def plainly(make: Callable[[Path], Any]) -> Callable[[Path], AbstractAsyncContextManager[Any]]:
    """Return what makes a place that needs no closing."""

    @asynccontextmanager
    async def made(folder: Path) -> AsyncIterator[Any]:
        yield make(folder)

    return made
