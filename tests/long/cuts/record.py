"""What the clients of a run saw, and how often."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sighting:
    """What one client saw of one answer.

    Attributes:
        client, session, answer: whose it is.
        key: of the question, if the client knows it.
        texts: the texts of its events, in order, from the first one.
        told: the state that the client was told at the end, if it was.
        is_whole: whether the client was told that there is nothing after these events.
    """

    client: str
    session: str
    answer: str
    key: str | None = None
    texts: list[str] = field(default_factory=list)
    told: str | None = None
    is_whole: bool = False


@dataclass
class Record:
    """All clients' notes.

    Attributes:
        cuts: how many cuts there were of each kind.
        outcomes: how many exchanges ended in which way.
        rejoined: how many streams began after an event that the client had.
        sightings: what was seen of each answer.
        replays: the messages that were told to a repeated request, by its key.
        looks: histories that were loaded, by session.
        stoppable: sessions whose answers a client has asked to stop.
        violations: what must not be.
    """

    cuts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    rejoined: int = 0
    sightings: list[Sighting] = field(default_factory=list)
    replays: list[tuple[str, list[Any]]] = field(default_factory=list)
    looks: list[tuple[str, list[Any]]] = field(default_factory=list)
    stoppable: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    @property
    def cut(self) -> int:
        """How many cuts there were."""
        return self.cuts.total()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of the run."""
    while not condition():  # noqa: ASYNC110  # of what has no event
        await asyncio.sleep(0.02)
