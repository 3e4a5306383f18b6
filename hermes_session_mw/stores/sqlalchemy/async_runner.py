"""An asyncio engine, in the event loop itself.

Imported only where there is one: SQLAlchemy's asyncio part needs greenlet, which it does not
bring by itself.
"""

import asyncio
from collections.abc import Callable

import anyio
from anyio.lowlevel import RunVar
from sqlalchemy.ext.asyncio import AsyncEngine

from ...exceptions import StoreMisconfigured
from .runner import T, Work, unique


class _Slot:
    """One event loop's engine: an asyncio driver's connections cannot leave their loop."""

    def __init__(self) -> None:
        self.engine: AsyncEngine | None = None
        self.lock = anyio.Lock()


class AsyncRunner:
    """Runs work over an asyncio engine, one for each event loop that asks.

    ``make``, ``prepare`` and ``owned`` are as for `ThreadRunner`; ``timeout`` is the seconds that
    closing connections may take.
    """

    def __init__(
        self,
        make: Callable[[], AsyncEngine],
        prepare: Work[None],
        *,
        owned: bool,
        timeout: float,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._owned = owned
        self._timeout = timeout
        self._slot: RunVar[_Slot] = RunVar(unique("engine"))

    async def run(self, work: Work[T], *, writes: bool) -> T:  # noqa: ARG002  # as the other has it
        """See `Runner.run`."""
        slot = self._own_slot()
        engine = slot.engine or await self._make_ready(slot)
        async with engine.connect() as connection:
            try:
                return await connection.run_sync(work)
            finally:
                if self._owned and engine is not slot.engine:
                    await connection.invalidate()  # the store was closed: no pool to go back to

    async def aclose(self) -> None:
        """See `Runner.aclose`."""
        slot = self._slot.get(None)
        if slot is None or slot.engine is None:
            return
        engine, slot.engine = slot.engine, None
        await self._dispose(engine)

    def __repr__(self) -> str:
        return "asyncio"

    async def _make_ready(self, slot: _Slot) -> AsyncEngine:
        async with slot.lock:
            slot.engine = slot.engine or await self._new_engine()
            return slot.engine

    async def _new_engine(self) -> AsyncEngine:
        engine = self._make()
        try:
            async with engine.connect() as connection:
                await connection.run_sync(self._prepare)
        except BaseException:
            await self._dispose(engine)
            raise
        return engine

    async def _dispose(self, engine: AsyncEngine) -> None:
        if not self._owned:
            return
        deadline = anyio.current_time() + self._timeout
        # Each connection says goodbye to the server, which may not answer; once time is up the
        # rest are cut off. A dispose that was cancelled has taken one out of the pool at least.
        while True:
            with anyio.CancelScope(deadline=deadline, shield=True) as scope:
                await engine.dispose()
            if not scope.cancelled_caught:
                return

    def _own_slot(self) -> _Slot:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise StoreMisconfigured(
                "this database driver works under asyncio alone: under trio give the store a "
                "sync URL, such as sqlite:/// or postgresql+psycopg://"
            ) from None
        slot = self._slot.get(None)
        if slot is None:
            slot = _Slot()
            self._slot.set(slot)
        return slot
