"""One turn at a time: who may write to a session, of all requests that ask for it."""

import random
from types import TracebackType
from typing import Self

import anyio

from .access import StoreAccess
from .conversation import Conversation
from .exceptions import ConfigurationError, SessionBusy, StoreError
from .logging import fingerprint, logger
from .stores.records import MAX_LEASE

LEASE = 60.0
"""Seconds that a turn may take before another may begin."""

WAIT = 10.0
"""Seconds to wait for the turn."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class Turn:
    """A session's turn: taken by ``async with``, or by ``acquire()`` and ``release()``.

    A streaming endpoint acquires it before it begins its response, so that a refusal can still be
    one. Whatever is not released is so by the middleware, once the application has returned.

    Attributes:
        fence: the number of this turn; every write in it is refused once there is a higher one.
    """

    def __init__(
        self, session: Conversation, access: StoreAccess, *, lease: float, wait: float
    ) -> None:
        """Take nothing yet.

        Raises:
            ConfigurationError: ``lease`` is not from 0 to ``MAX_LEASE``, or ``wait`` is negative.
        """
        if not 0 < lease <= MAX_LEASE or not wait >= 0:
            raise ConfigurationError(f"turn: {lease} and {wait} are no seconds to hold and to wait")
        self.fence: int = 0
        self._session = session
        self._access = access
        self._lease = lease
        self._wait = wait

    async def acquire(self) -> Self:
        """Wait for the turn, take it, and load the history; nothing where it is held already.

        Raises:
            SessionBusy: the others took longer than ``wait``.
            RuntimeError: the request is in another turn of the session.
        """
        if self._session.held is self:
            return self
        if self._session.held is not None:
            raise RuntimeError("this request is in a turn of the session already")
        await self._take_in_time()
        try:
            await self._session.load()
        except BaseException:
            await self.release()
            raise
        return self

    async def extend(self, lease: float | None = None) -> None:
        """Keep the turn for ``lease`` seconds from now; by default for as long as at first.

        Raises:
            TurnLost: another has begun since.
        """
        store, owner = self._access.having("extend"), self._session.owner or ""
        seconds = self._lease if lease is None else lease
        session_id = self._session.id
        work = store.extend(session_id, self.fence, seconds, owner)
        await self._access.whole("extend", session_id, work)

    async def take(self) -> None:
        """Take the turn, if it is free, and tell the session.

        Raises:
            SessionBusy: it is not.
        """
        session = self._session
        store = self._access.having("acquire")
        work = store.acquire(session.id, self._lease, session.known_owner())
        self.fence = await self._access.whole("acquire", session.id, work)
        session.held = self
        session.open_up()

    async def release(self) -> None:
        """Give the turn back; where that fails, it ends by itself with its lease."""
        session = self._session
        if session.held is not self:
            return
        session.held = None
        store = self._access.having("release")
        try:
            work = store.release(session.id, self.fence, session.owner or "")
            await self._access.whole("release", session.id, work)
        except StoreError as exc:
            logger.warning("session %s keeps its lease: %s", fingerprint(session.id), exc)

    async def __aenter__(self) -> Self:
        return await self.acquire()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.release()

    async def _take_in_time(self) -> None:
        deadline = anyio.current_time() + self._wait
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self.take()
            except SessionBusy as busy:
                left = deadline - anyio.current_time()
                if left <= 0:
                    raise
                # With jitter, so that those who wait do not ask in step; never longer than the
                # lease, whose end nobody tells of.
                longest = min(pause, left, max(busy.retry_after, _FIRST_PAUSE))
            await anyio.sleep(random.uniform(longest / 2, longest))  # noqa: S311
            pause = min(pause * 2, _LONGEST_PAUSE)
