"""`AnswerLog`, the events of an answer as far as this process knows them."""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from hermes_session_mw.session.event_loops import Sleeper, Wakers
from hermes_session_mw.stores.answers import AnswerState

_NEWEST = 16
"""Events that are kept as texts of their own, before they become lines of a longer one."""

_CHUNK = 16_384
"""Characters to which such a text grows, and that the newest events have, about."""

_EARLIER = 256
"""Events of such a text where they come before those that are here."""

_first_item = itemgetter(0)


class AnswerLog:
    """Events in order, which one task adds and many tasks, in any event loop, wait for.

    They are JSON texts of one line each. The older ones are lines of longer texts, since a short
    text takes several times its length of memory.

    Attributes:
        base: how many events come before the first one that is here.
        state: ``running`` until the end is known.
        size: characters of the events that were added.
        error: why no more is learned of the answer; None if nothing failed.
    """

    __slots__ = ("_newest_size", "_parts", "_wakers", "base", "error", "size", "state")

    def __init__(self, base: int = 0) -> None:
        self.base: int = base
        self.state: AnswerState = "running"
        self.size: int = 0
        self.error: Exception | None = None
        # The older events: how many come before those of each text, and the text. Then how many
        # come before the newest ones, and those. It is replaced as a whole, and of these things
        # only the newest list grows, so that other threads read what fits together.
        self._parts: tuple[tuple[tuple[int, str], ...], int, list[str]] = ((), base, [])
        self._newest_size = 0
        self._wakers = Wakers()

    @property
    def end(self) -> int:
        """The number of the newest event; 0 before there is one."""
        _, before, newest = self._parts
        return before + len(newest)

    @property
    def is_over(self) -> bool:
        """Whether no more events will come."""
        return self.state != "running" or self.error is not None

    def add(self, events: Sequence[str]) -> None:
        """Add the next events."""
        older, before, newest = self._parts
        newest.extend(events)
        size = sum(map(len, events))
        self.size, self._newest_size = self.size + size, self._newest_size + size
        if len(newest) >= _NEWEST or self._newest_size >= _CHUNK:
            self._newest_size = 0
            start, text = before, "\n".join(newest)
            if older and len(older[-1][1]) < _CHUNK:
                *rest, (start, chunk) = older
                older, text = tuple(rest), f"{chunk}\n{text}"
            self._parts = (*older, (start, text)), before + len(newest), []
        self._wakers.wake()

    def prepend(self, events: Sequence[str]) -> None:
        """Add the events just before the first one."""
        older, before, newest = self._parts
        start, end = self.base - len(events), self.base
        parts = []
        for first in range(start, end, _EARLIER):
            part = events[first - start : first - start + _EARLIER]
            parts.append((first, "\n".join(part)))
        self._parts = (*parts, *older), before, newest
        self.base = start

    def finish(self, state: AnswerState) -> None:
        """Note how the answer ended."""
        self.state = state
        self._wakers.wake()

    def fail(self, error: Exception) -> None:
        """Note that no more is learned."""
        self.error = error
        self._wakers.wake()

    def after(self, number: int) -> list[str]:
        """Return the next events after a number that is not below ``base``; none at the end."""
        older, before, newest = self._parts
        if number >= before:
            return newest[number - before :]
        place = bisect_right(older, number, key=_first_item)
        end = older[place][0] if place < len(older) else before
        # From the right, since most who read are close to the end.
        return older[place - 1][1].rsplit("\n", end - number)[number - end :]

    def wake(self, sleeper: Sleeper) -> None:
        """Wake a sleeper for every event, and the end."""
        self._wakers.add(sleeper)

    def forget(self, sleeper: Sleeper) -> None:
        """Wake it no more."""
        self._wakers.discard(sleeper)

    async def wait_beyond(self, number: int) -> None:
        """Wait for an event after this number, or the end."""
        await self._wakers.wait_until(lambda: self.end > number or self.is_over)

    async def wait_over(self) -> None:
        """Wait for the end."""
        await self._wakers.wait_until(lambda: self.is_over)
