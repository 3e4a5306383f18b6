"""One turn at a time: who may write to a session, of all requests that ask for it."""

import random
from types import TracebackType
from typing import Self

import anyio

from hermes_session_mw.exceptions import ConfigurationError, SessionBusy, StoreError
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.session.conversation import Conversation
from hermes_session_mw.session.store_client import StoreClient, to_its_end
from hermes_session_mw.stores.models import MAX_LEASE

LEASE = 60.0
"""Seconds that a turn may take before another may begin."""

WAIT = 10.0
"""Seconds to wait for the turn."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class Turn:
    """A session's turn: taken by ``async with``, or by ``acquire()``.

    The end of its block gives it back. In an HTTP request whose response has not begun by then, the
    response does, because one that streams is made after the endpoint's last line: the middleware
    gives the turn back just before it sends the last part of the body, and at the latest when the
    application has returned. A recording that has not ended keeps the turn until then. So it is
    with a turn that was taken by ``acquire()``. ``release()`` gives it back at once.

    Attributes:
        fence: the number of this turn; every write in it is refused once there is a higher one.
        is_in_block: whether it is inside of its ``async with`` block.
        is_left: whether the block has ended, and the response is to give the turn back.
    """

    def __init__(
        self, session: Conversation, access: StoreClient, *, lease: float, wait: float
    ) -> None:
        """Take nothing yet.

        Raises:
            ConfigurationError: ``lease`` is not from 0 to ``MAX_LEASE``, or ``wait`` is negative.
        """
        if not 0 < lease <= MAX_LEASE or not wait >= 0:
            raise ConfigurationError(f"turn: {lease} and {wait} are no seconds to hold and to wait")
        self.fence: int = 0
        self.is_in_block: bool = False
        self.is_left: bool = False
        self._session = session
        self._access = access
        self._lease = lease
        self._wait = wait

    async def acquire(self) -> Self:
        """Wait for the turn, take it, and load the history; nothing where it is held already.

        A turn of the same request whose block was left is given back before.

        Raises:
            SessionBusy: the others took longer than ``wait``.
            RuntimeError: the request is in another turn of the session.
        """
        held = self._session.held
        if held is not None and held.is_left:
            await held.release()
        elif held is self:
            return self
        elif held is not None:
            raise RuntimeError("this request is in a turn of the session already")
        try:
            await self._take_in_time()
            self.is_left = False
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
        # Cut short it might be taken, by a number that nobody knows and cannot give back.
        await to_its_end(self._take)

    async def release(self) -> None:
        """Give the turn back; where that fails, it ends by itself with its lease."""
        if self._session.held is self:
            self._session.held = None
            await to_its_end(self._give_back)

    async def __aenter__(self) -> Self:
        await self.acquire()
        self.is_in_block = True
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Give the turn back, or leave that to the response.

        Raises:
            RuntimeError: an answer is still recorded, and no response is to come with it.
        """
        self.is_in_block = False
        session = self._session
        if session.held is not self:
            return
        is_recording = session.is_recording
        if session.keeps_turns and (is_recording or not session.is_told):
            self.is_left = True
            return
        await session.end()
        if is_recording and exc is None:
            raise RuntimeError(
                "the turn was left while an answer was recorded in it, which is stored as far as "
                "it came: end the recording inside of the turn's block"
            )

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

    async def _take(self) -> None:
        session = self._session
        store = self._access.having("acquire")
        work = store.acquire(session.id, self._lease, session.known_owner())
        self.fence = await self._access.whole("acquire", session.id, work)
        session.held = self
        session.open_up()

    async def _give_back(self) -> None:
        session = self._session
        try:
            work = self._access.having("release").release(
                session.id, self.fence, session.owner or ""
            )
            await self._access.whole("release", session.id, work)
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            # Its own text may hold ids.
            why = exc if isinstance(exc, StoreError) else type(exc).__name__
            logger.warning("session %s keeps its lease: %s", fingerprint(session.id), why)
            logger.debug("the failure in full", exc_info=exc)
