"""Looking for an order of operations that overlapped, in which the model answers as the store did.

That is the algorithm of Wing and Gong, with Lowe's memory of what was tried: of the operations that
may come next, because no other one had ended before they began, one is taken, as long as there are
any; where none fits, the last choice was wrong.

Only a choice that has to do with what does not fit can be the wrong one. So a failure says which
places it has to do with, and choices that touch none of them are not made in another way
(conflict-directed backjumping).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from tests.long.torture.model.contract import READS, Operation, Place, Session, World, step, touched

_MOST = 100_000
"""Nodes that are looked at before the search is given up; most take as many as operations."""


class NoOrder(AssertionError):
    """The store's answers fit into no order of the operations."""


_Why = frozenset[Place] | None


@dataclass(frozen=True)
class _Node:
    done: int  # a bit for each operation
    low: int  # all operations before this one that have to be done are
    latest_call: float
    world: World


@dataclass(frozen=True)
class _Choice:
    at: int
    places: frozenset[Place]  # what it has to do with
    ended: frozenset[Place]  # what has to do with what can only come before it


class Search:
    """A search in one history, which ends with operations that see all of the world."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = sorted(operations, key=lambda each: each.call)
        self._needed = [not each.may_be_left_out for each in self._operations]
        self._optional = [at for at, needed in enumerate(self._needed) if not needed]
        self._all = sum(1 << at for at, needed in enumerate(self._needed) if needed)
        self._failed: dict[tuple[int, World], frozenset[Place]] = {}
        self._rank = -1, 0
        self._furthest = ""

    def run(self, begin: World) -> None:
        """Find an order.

        Raises:
            NoOrder: there is none.
        """
        places = {place for each in self._operations for place in touched(begin, each)}
        # So that all of an owner's sessions are known, also those that are not there yet.
        begin = World({**dict.fromkeys(places, Session()), **begin.sessions}, begin.keys)
        if self._why_not(self._node(0, 0, float("-inf"), begin)) is not None:
            raise NoOrder(self._furthest)

    def _why_not(self, begin: _Node) -> _Why:
        """Return None where the rest fits, or else the places that this has to do with.

        That is a recursion from node to node, as deep as there are operations.
        """
        stack = [(begin, self._try_all(begin))]
        why: _Why = None
        while stack:
            node, trying = stack[-1]
            try:
                after = trying.send(why)
            except StopIteration as end:
                why = end.value
                if why is not None:
                    self._failed[node.done, node.world] = why
                stack.pop()
            else:
                why = self._failed.get((after.done, after.world))
                if why is None:
                    stack.append((after, self._try_all(after)))
            if len(self._failed) > _MOST:
                raise NoOrder(f"gave up after {_MOST} nodes; {self._furthest}")
        return why

    def _try_all(self, node: _Node) -> Generator[_Node, _Why, _Why]:
        """Try the first choice, and then those that have to do with why the others failed.

        It yields what comes after a choice, and is sent why that does not fit.
        """
        if node.done & self._all == self._all:
            return None
        choices = self._choices(node)
        self._remember_furthest(node, choices)
        rest, places = choices[1:], frozenset[Place]()
        choice: _Choice | None = choices[0]
        while choice is not None:
            operation = self._operations[choice.at]
            worlds = step(node.world, operation)
            if not worlds:
                places |= choice.places
            for world in worlds:
                latest = max(node.latest_call, operation.call)
                after = self._node(node.done | 1 << choice.at, node.low, latest, world)
                why = yield after
                if why is None or why.isdisjoint(choice.places | choice.ended):
                    return why
                places |= why if why.isdisjoint(choice.places) else why | choice.places
            if worlds and _changes_nothing(operation) and not choice.ended:
                break  # what fits and changes nothing may as well come now
            choice = next((each for each in rest if not places.isdisjoint(each.places)), None)
            rest = [each for each in rest if each is not choice]
        return places

    def _node(self, done: int, low: int, latest_call: float, world: World) -> _Node:
        while low < len(self._operations) and (done >> low & 1 or not self._needed[low]):
            low += 1
        return _Node(done, low, latest_call, world)

    def _choices(self, node: _Node) -> list[_Choice]:
        """Return what may come next: what has to, as it ended; then what may be left out."""
        found, first_ret = [], float("inf")
        for at in range(node.low, len(self._operations)):
            operation = self._operations[at]
            if operation.call > first_ret:
                break
            if self._needed[at] and not node.done >> at & 1:
                found.append(at)
                first_ret = min(first_ret, operation.ret)
        found = [at for at in found if self._operations[at].call <= first_ret]
        found.sort(key=lambda at: self._operations[at].ret)
        left = [
            at
            for at in self._optional
            if not node.done >> at & 1
            and self._operations[at].call <= first_ret
            and self._operations[at].ret >= node.latest_call
        ]
        needed = [self._choice(node, at, left) for at in found]
        return needed + self._worth_trying(needed, [self._choice(node, at, left) for at in left])

    def _choice(self, node: _Node, at: int, left: Sequence[int]) -> _Choice:
        operation = self._operations[at]
        ended = [
            touched(node.world, self._operations[other])
            for other in left
            if self._operations[other].ret < operation.call
        ]
        places = frozenset(touched(node.world, operation))
        return _Choice(at, places, frozenset[Place]().union(*ended))

    def _worth_trying(self, needed: Sequence[_Choice], left: Sequence[_Choice]) -> list[_Choice]:
        """Return what of ``left`` may not as well come later than now.

        It may, as long as it has nothing to do with what comes next, nor comes too late then.
        """
        places = frozenset[Place]().union(*(each.places | each.ended for each in needed))
        found: list[_Choice] = []
        rest = list(left)
        while more := [each for each in rest if not places.isdisjoint(each.places)]:
            found += more
            places = places.union(*(each.places for each in more))
            rest = [each for each in rest if each not in more]
        return found

    def _remember_furthest(self, node: _Node, choices: Sequence[_Choice]) -> None:
        count = (node.done & self._all).bit_count()
        # Of those that came as far, the one that leaves out most tells most.
        rank = count, -node.done.bit_count()
        if rank <= self._rank:
            return
        self._rank = rank
        lines = [
            f"no order after {count} of {self._all.bit_count()} operations; none of these fits:",
            *(f"  {self._operations[each.at]}" for each in choices),
            "where the model has:",
            *(f"  {place}: {session}" for place, session in node.world.sessions.items()),
            f"  keys: {node.world.keys}",
        ]
        self._furthest = "\n".join(lines)


def _changes_nothing(operation: Operation) -> bool:
    return operation.name in READS or operation.error is not None


def check(begin: World, operations: Sequence[Operation]) -> None:
    """Hold the operations on a world, which was ``begin`` before them, against the model.

    Raises:
        NoOrder: the store's answers fit into no order of them.
    """
    Search(operations).run(begin)
