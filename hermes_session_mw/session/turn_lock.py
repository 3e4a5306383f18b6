"""Turns: one request at a time adds to a session.

A *turn* is a group of messages that is stored together, such as a question and its answer. Two
requests of one session that load, ask a model and append at the same time store both turns whole,
but neither model has seen the other turn. ``session.turn()`` prevents that. These are the rules,
for every store and all processes together; the rest of the package refers to them here.

**The lease.** The exclusive right to add a turn is a lease: ``acquire`` sets the time until which
the session is taken, in the session's row. No lock and no transaction is open in the database
meanwhile. A second ``acquire`` is refused with ``SessionBusy`` until the lease is released or has
expired. The time is the database's own clock, so that clocks of machines need not agree.

**The fence.** A lease can expire while its holder is still at work: a model that takes minutes, a
paused process. So each ``acquire`` also returns a number that is greater than all before, the
*fence* (a fencing token), and every write in a turn sends it along. The store refuses a write whose
fence is not the session's newest, with ``TurnLost``, in the write's own transaction. The lease
decides when another turn may begin; only the fence keeps a late holder from writing.

    A: acquire -> 7   load   ask a model ...   (lease expires)   append(fence=7): TurnLost
    B:                                         acquire -> 8      load   append(fence=8): stored

Fences only grow, also if the session is pruned and its id is used again.

**Waiting.** `Turn` asks again until it has the lease or its ``wait`` is over, with pauses that grow
and are random, since no database says when a lease ends. There is no queue, and no order.

**The end.** A turn ends at the end of its block, or with the response (see `Turn`). ``release``
ends the lease only if its fence is still the newest. The lease of a process that dies expires.

**Who takes part.** Only requests that enter ``turn()``. Others neither wait nor send a fence, and
their appends are stored whole, before or after the turn's own. A request that is no turn
(``session.is_turn``) may enter, takes no lease, and stores nothing.
"""

import random
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from hermes_session_mw.exceptions import ConfigurationError, SessionBusy, StoreError
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.session.store_client import StoreClient, run_uncancelled
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.validation import check_lease

if TYPE_CHECKING:
    from hermes_session_mw.session.session import HermesSession

LEASE = 60.0
"""Seconds after which a lease expires, unless another number is asked for."""

PREPARATION = 10.0
"""The same where an answer is to follow, which takes the lease over and renews it."""

WAIT = 10.0
"""Seconds to wait for the lease, unless another number is asked for."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class Turn:
    """A session's turn: taken by ``async with``, or by ``acquire()``.

    The end of its block releases it. In an HTTP request whose response has not begun by then, the
    response does, because one that streams is made after the endpoint's last line: the middleware
    releases the turn just before it sends the last part of the body, and at the latest when the
    application has returned. A recording that has not ended keeps the turn until then. So it is
    with a turn that was taken by ``acquire()``. ``release()`` releases it at once.

    The lease and the fence are explained at the head of this module.

    Attributes:
        fence: the number of this turn; every write in it is refused once there is a higher one.
        is_in_block: whether it is inside of its ``async with`` block.
        is_left: whether the block has ended, and the response is to release the turn.
    """

    def __init__(
        self, session: "HermesSession", store: StoreClient, *, lease: float, wait: float
    ) -> None:
        """Prepare the turn, without the lease; raise ``ConfigurationError`` as ``turn()`` does."""
        check_lease(lease, ConfigurationError)
        if not wait >= 0:
            raise ConfigurationError(f"wait: {wait} is not 0 or more seconds")
        self.fence: int = 0
        self.is_in_block: bool = False
        self.is_left: bool = False
        self._session = session
        self._store = store
        self._lease = lease
        self._wait = wait

    async def acquire(self) -> Self:
        """Wait for the lease, take it, and load the history; do nothing where it is held already.

        A turn of the same request whose block has ended is released before.

        Raises:
            SessionBusy: no other turn ended within ``wait`` seconds.
            RuntimeError: the request is in another turn of the session.
        """
        if not self._session.is_turn:
            await self._session.load()
            return self
        held = self._session.current_turn
        if held is not None and held.is_left:
            await held.release()
        elif held is self:
            return self
        elif held is not None:
            raise RuntimeError("this request is in a turn of the session already")
        try:
            await self._enter()
            while (found := self._session.derivation) is not None and found.is_overtaken():
                await found.search()  # which releases this turn
                await self._enter()
            self._session.derivation = None
        except BaseException:
            await self.release()
            raise
        return self

    async def extend(self, lease: float | None = None) -> None:
        """Extend the lease to ``lease`` seconds from now; by default to as many as at first.

        Raises:
            TurnLost: another has begun since.
        """
        seconds = self._lease if lease is None else lease
        session = self._session
        if not session.is_turn:
            return
        owner = session.owner or ""
        await self._store.call(LifecycleStore.extend, session.id, self.fence, seconds, owner)

    async def take(self) -> None:
        """Take the lease and make this the session's turn, or raise ``SessionBusy``."""
        # Cancelled halfway the lease might be taken with a fence that is lost, and never released.
        await run_uncancelled(self._take)

    async def release(self) -> None:
        """Release the lease; where that fails, it expires."""
        if self._session.current_turn is self:
            self._session.current_turn = None
            await run_uncancelled(self._release)

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
        """Release the turn, or leave that to the response."""
        self.is_in_block = False
        session = self._session
        if session.current_turn is not self:
            return
        is_recording = session.is_recording
        if session.response_ends_turn and (is_recording or not session.is_told):
            self.is_left = True
            return
        await session.end()
        if is_recording and exc is None:
            raise RuntimeError(
                "the turn was left while an answer was recorded in it, which is stored as far as "
                "it came: end the recording inside of the turn's block"
            )

    async def _enter(self) -> None:
        await self._take_in_time()
        self.is_left = False
        await self._session.load()

    async def _take_in_time(self) -> None:
        deadline = anyio.current_time() + self._wait
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self.take()
            except SessionBusy as busy:
                remaining = deadline - anyio.current_time()
                if remaining <= 0:
                    raise
                # With jitter, so that waiting requests do not retry in step; never longer than the
                # lease, since the database does not report its end.
                longest = min(pause, remaining, max(busy.retry_after, _FIRST_PAUSE))
            await anyio.sleep(random.uniform(longest / 2, longest))  # noqa: S311
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _take(self) -> None:
        session = self._session
        owner = session.known_owner()
        self.fence = await self._store.call(LifecycleStore.acquire, session.id, self._lease, owner)
        session.current_turn = self
        session.register_open()

    async def _release(self) -> None:
        session = self._session
        owner = session.owner or ""
        try:
            await self._store.call(LifecycleStore.release, session.id, self.fence, owner)
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            # Its own text may hold ids.
            why = exc if isinstance(exc, StoreError) else type(exc).__name__
            logger.warning("session %s keeps its lease: %s", fingerprint(session.id), why)
            logger.debug("the failure in full", exc_info=exc)
