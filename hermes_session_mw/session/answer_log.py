"""`AnswerLog`, the events of an answer as far as this process knows them."""

from collections.abc import Sequence

from hermes_session_mw.session.event_loops import Wakers
from hermes_session_mw.stores.answers import AnswerState


class AnswerLog:
    """Events in order, which one task adds and many tasks, in any event loop, wait for.

    Attributes:
        base: how many events come before the first one that is here.
        events: the events with the numbers from ``base + 1``.
        state: ``running`` until the end is known.
        error: why no more is learned of the answer; None if nothing failed.
    """

    __slots__ = ("_wakers", "base", "error", "events", "state")

    def __init__(self, base: int = 0) -> None:
        self.base: int = base
        self.events: list[object] = []
        self.state: AnswerState = "running"
        self.error: Exception | None = None
        self._wakers = Wakers()

    @property
    def end(self) -> int:
        """The number of the newest event; 0 before there is one."""
        return self.base + len(self.events)

    @property
    def is_over(self) -> bool:
        """Whether no more events will come."""
        return self.state != "running" or self.error is not None

    def add(self, events: Sequence[object]) -> None:
        """Add the next events."""
        self.events.extend(events)
        self._wakers.wake()

    def finish(self, state: AnswerState) -> None:
        """Note how the answer ended."""
        self.state = state
        self._wakers.wake()

    def fail(self, error: Exception) -> None:
        """Note that no more is learned."""
        self.error = error
        self._wakers.wake()

    def after(self, number: int) -> list[object]:
        """Return the events after a number that is not below ``base``."""
        return self.events[number - self.base :]

    async def wait_beyond(self, number: int) -> None:
        """Wait for an event after this number, or the end."""
        await self._wakers.wait_until(lambda: self.end > number or self.is_over)

    async def wait_over(self) -> None:
        """Wait for the end."""
        await self._wakers.wait_until(lambda: self.is_over)
