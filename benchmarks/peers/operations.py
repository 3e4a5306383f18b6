"""Operations: what is measured of each peer, over which of its conversations."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.measuring import Operation, Subject
from benchmarks.peers.conversations import conversation
from benchmarks.peers.peer import Peer
from benchmarks.peers.raw_asyncpg import RawAsyncpg

LOAD = "load"
LOAD_NEWEST = "load last 20"
APPEND = "append"
FIRST_SIGHT = "first sight"
LOADS = (LOAD, LOAD_NEWEST)

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


def subjects(peer: Peer, operation: str, length: int, stock: Stock) -> list[Subject]:
    """Return the peer's ways to do ``operation``: one, but the floor has two ways to append."""
    found = [Subject(peer.name, operate(peer, operation, length, stock))]
    if isinstance(peer, RawAsyncpg) and operation == APPEND:
        at_once = _appending(peer, peer.append_at_once, stock.to_append(length))
        found.append(Subject(f"{peer.name}, one statement", at_once))
    return found


def operate(peer: Peer, operation: str, length: int, stock: Stock) -> Operation:
    """Return what does ``operation`` to one conversation of ``length`` after another."""
    if operation == APPEND:
        return _appending(peer, peer.append, stock.to_append(length))
    ways: dict[str, Callable[[str], Awaitable[Sequence[Any]]]] = {
        LOAD: peer.load,
        LOAD_NEWEST: lambda session_id: peer.load_last(session_id, NEWEST),
        FIRST_SIGHT: peer.first_sight,
    }
    return _rotating(ways[operation], stock.to_load(length))


async def verify(peer: Peer, subject: Subject, operation: str, length: int, stock: Stock) -> None:
    """Make sure that the operation, which nobody has called yet, does what it is measured for."""
    if operation == APPEND:
        first = stock.to_append(length)[0]
        before = len(await peer.load(first))
        await subject.operate()
        grown = len(await peer.load(first)) - before
        assert grown == len(conversation(2)), f"{subject.name} has appended {grown} messages"
    else:
        messages: Any = await subject.operate()
        wanted = expected(operation, length)
        assert len(messages) == wanted, f"{subject.name}: {len(messages)} instead of {wanted}"


def _appending(
    peer: Peer, append: Callable[[str, Any], Awaitable[None]], ids: Sequence[str]
) -> Operation:
    turn = peer.convert(conversation(2))
    return _rotating(lambda session_id: append(session_id, turn), ids)


def _rotating(operation: Callable[[str], Awaitable[object]], ids: Sequence[str]) -> Operation:
    endless = itertools.cycle(ids)
    return lambda: operation(next(endless))
