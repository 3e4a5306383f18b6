"""How worker threads get word to an event loop: one wake-up for all that is done by then."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import anyio

from hermes_session_mw.database.per_loop import native_token

Wake = Callable[[Callable[[], None]], object]
"""An event loop's way of being asked, from any thread, to call a function."""


class Waiting(Protocol):
    """One caller's wait for word."""

    async def word(self, seconds: float) -> bool:
        """Tell whether word came within ``seconds``."""
        ...

    def end(self) -> None:
        """In the event loop: word is here."""
        ...


_MOST_AT_ONCE = 16
"""Waits that end together, at most: the first of them should not wait long for the last."""

_LONGEST_DELAY = 0.005
"""Seconds after which a word that was held back is delivered in any case."""


class CompletionQueue:
    """Where threads leave word for one event loop; made inside of it."""

    def __init__(self) -> None:
        token = native_token()
        self._loop = token if isinstance(token, asyncio.AbstractEventLoop) else None
        self._wake: Wake = token.call_soon_threadsafe if self._loop else token.run_sync_soon
        self._done: deque[Waiting] = deque()
        self._woken = False
        self._waits = 0
        self._looks = False

    def wait(self) -> Waiting:
        """In the event loop: begin a wait."""
        if self._loop is None:
            return _InAnyio()
        self._waits += 1
        self._look_later()
        return _InAsyncio(self._loop)

    def put(self, waiting: Waiting, *, more: bool) -> None:
        """In any thread: end the wait, in the event loop.

        ``more`` says that this thread has more to do at once. The loop is then left alone a little
        longer, if it looks by itself: woken, it would take the interpreter lock from that thread.
        """
        self._done.append(waiting)
        hold_back = more and self._loop is not None and len(self._done) < _MOST_AT_ONCE
        if not hold_back and not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                self._wake(self._deliver)

    def _deliver(self) -> None:
        # Before the first is taken, so that whoever comes too late for this round begins another.
        self._woken = False
        while self._done:
            self._done.popleft().end()
            self._waits -= 1

    def _look_later(self) -> None:
        # The next job of that thread may hang, and what came before must not hang with it.
        if not self._looks and self._loop is not None:
            self._looks = True
            self._loop.call_later(_LONGEST_DELAY, self._look)

    def _look(self) -> None:
        self._looks = False
        self._deliver()
        if self._waits:
            self._look_later()


class _InAnyio:
    def __init__(self) -> None:
        self._event = anyio.Event()

    async def word(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._event.wait()
        return self._event.is_set()

    def end(self) -> None:
        self._event.set()


class _InAsyncio:
    """The same with the loop's own means, which cost a fraction (docs/speed.md)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[object | None] = loop.create_future()

    async def word(self, seconds: float) -> bool:
        timer = self._loop.call_later(seconds, self._set, None)
        try:
            return await self._future is not None
        finally:
            timer.cancel()

    def end(self) -> None:
        self._set(self)

    def _set(self, word: object | None) -> None:
        if not self._future.done():
            self._future.set_result(word)
