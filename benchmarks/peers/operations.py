"""Operations: what is measured of each peer, over which of its conversations."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.measuring import Operation
from benchmarks.peers.conversations import conversation
from benchmarks.peers.peer import Peer

LOAD = "load"
LOAD_NEWEST = "load last 20"
APPEND = "append"
TURN = "turn"
FIRST_SIGHT = "first sight"
LIST_PAGE = "list page"  # of ours alone
LOADS = (LOAD, LOAD_NEWEST)
WRITES = (APPEND, TURN)

NEWEST = 20


class Stock:
    """Which conversations a database holds: for each length, so many to load, so many to add to.

    Those that are appended to are others than those that are loaded.
    """

    def __init__(self, loaded: dict[int, int], appended: dict[int, int]) -> None:
        self.loaded = loaded
        self.appended = appended

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the lengths that are stored, the shortest first."""
        return tuple(sorted(self.appended))

    def to_load(self, length: int) -> list[str]:
        """Return the ids of the conversations of ``length`` that nobody appends to."""
        return [self._id(LOAD, length, number) for number in range(self.loaded[length])]

    def to_append(self, length: int) -> list[str]:
        """Return the ids of the conversations that had ``length`` messages when it began."""
        return [self._id(APPEND, length, number) for number in range(self.appended[length])]

    def _id(self, purpose: str, length: int, number: int) -> str:
        return f"{purpose}-{length}-{number}"


class Scattered(Stock):
    """Has ids that lie far apart from each other in a large table, as minted ones do."""

    def _id(self, purpose: str, length: int, number: int) -> str:
        plain = super()._id(purpose, length, number)
        return hashlib.md5(plain.encode(), usedforsecurity=False).hexdigest()


def expected(operation: str, length: int) -> int:
    """Return how many messages a load has to return."""
    return min(length, NEWEST) if operation == LOAD_NEWEST else length


def operate(peer: Peer, operation: str, length: int, stock: Stock) -> Operation:
    """Return what does ``operation`` to one conversation of ``length`` after another."""
    turn = peer.convert(conversation(2))

    async def load_and_append(session_id: str) -> None:
        await peer.load(session_id)
        await peer.append(session_id, turn)

    ways: dict[str, Callable[[str], Awaitable[object]]] = {
        LOAD: peer.load,
        LOAD_NEWEST: lambda session_id: peer.load_last(session_id, NEWEST),
        FIRST_SIGHT: peer.first_sight,
        APPEND: lambda session_id: peer.append(session_id, turn),
        TURN: load_and_append,
    }
    ids = stock.to_append(length) if operation in WRITES else stock.to_load(length)
    return _rotating(ways[operation], ids)


async def verify(peer: Peer, perform: Operation, operation: str, length: int, stock: Stock) -> None:
    """Make sure that ``perform``, which nobody has called yet, does what it is measured for."""
    if operation in WRITES:
        first = stock.to_append(length)[0]
        before = len(await peer.load(first))
        await perform()
        grown = len(await peer.load(first)) - before
        assert grown == len(conversation(2)), f"{operation} has appended {grown} messages"
    else:
        messages: Any = await perform()
        wanted = expected(operation, length)
        assert len(messages) == wanted, f"{operation}: {len(messages)} instead of {wanted}"


def _rotating(operation: Callable[[str], Awaitable[object]], ids: Sequence[str]) -> Operation:
    endless = itertools.cycle(ids)
    return lambda: operation(next(endless))
