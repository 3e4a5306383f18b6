"""An asyncio engine, in the event loop itself.

Imported only where there is one: SQLAlchemy's asyncio part needs greenlet, which it does not
bring by itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import anyio
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from hermes_session_mw.database.connection import database_of
from hermes_session_mw.database.connection_settings import check_settings
from hermes_session_mw.database.per_loop import PerLoop
from hermes_session_mw.database.pool_checks import shut_down
from hermes_session_mw.database.workers.executor import T, TimeIsUp, Work, give_up_after
from hermes_session_mw.exceptions import StoreMisconfigured


class _Slot:
    """One event loop's engine: an asyncio driver's connections cannot leave their loop.

    ``watch`` ends with the loop, if that ends as asyncio has it, and has the engine disposed.
    """

    def __init__(self) -> None:
        self.engine: AsyncEngine | None = None
        self.lock = anyio.Lock()
        self.watch: AsyncGenerator[None, None] | None = None
        self.connections: WeakSet[Any] = WeakSet()
        self.running = 0


async def _let_others_go_first(slot: _Slot, engine: AsyncEngine) -> None:
    """Let one who waits for a connection have the one that was just given back.

    asyncio's queue, which is SQLAlchemy's pool, only wakes them: who goes on without a pause takes
    it again, and others wait until their time is up.
    """
    lent = getattr(engine.pool, "checkedout", None)  # not every pool has a limit
    if lent is not None and slot.running > lent():
        await asyncio.sleep(0)


class AsyncioExecutor:
    """Runs work over an asyncio engine, one for each event loop that asks.

    ``make``, ``prepare`` and ``owned`` are as for `ThreadExecutor`; ``timeout`` is the seconds that
    closing connections may take.
    """

    def __init__(
        self,
        make: Callable[[], AsyncEngine],
        prepare: Callable[[Connection], None],
        *,
        owned: bool,
        timeout: float,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._owned = owned
        self._timeout = timeout
        self._slots: PerLoop[_Slot] = PerLoop(_cut_off)

    async def run(self, work: Work[T], *, writes: bool, seconds: float) -> T:  # noqa: ARG002  # as the other has it
        """See `Executor.run`."""
        slot = self._own_slot()
        # Not anyio's, which costs several times as much; there is no other event loop here.
        try:
            async with asyncio.timeout(seconds) as limit:
                engine = slot.engine or await self._make_ready(slot)
                slot.running += 1
                try:
                    return await greenlet_spawn(self._work, work, engine, slot)
                finally:
                    slot.running -= 1
                    await _let_others_go_first(slot, engine)
        except TimeoutError:
            if limit.expired():
                raise TimeIsUp from None
            raise  # the driver's own

    async def aclose(self) -> None:
        """See `Executor.aclose`."""
        slot = self._slots.get()
        if slot is None or slot.engine is None:
            return
        engine, slot.engine = slot.engine, None
        watch, slot.watch = slot.watch, None
        await self._dispose(engine)
        if watch is not None:
            await watch.aclose()

    def __repr__(self) -> str:
        return "asyncio"

    async def _make_ready(self, slot: _Slot) -> AsyncEngine:
        async with slot.lock:
            if slot.engine is None:
                slot.engine = await self._new_engine(slot)
                slot.watch = self._until_the_loop_ends(slot, slot.engine)
                await anext(slot.watch)
            return slot.engine

    async def _until_the_loop_ends(
        self, slot: _Slot, engine: AsyncEngine
    ) -> AsyncGenerator[None, None]:
        # ``asyncio.run`` and its like close all generators that were begun, as the last thing that
        # a loop does.
        try:
            yield
        finally:
            if slot.engine is engine:
                slot.engine = None
                await self._dispose(engine)

    async def _new_engine(self, slot: _Slot) -> AsyncEngine:
        engine = self._make()
        if self._owned:
            event.listen(
                engine.sync_engine,
                "connect",
                lambda _, record: slot.connections.add(record.driver_connection),
            )
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

    def _work(self, work: Work[T], engine: AsyncEngine, slot: _Slot) -> T:
        # One greenlet for all of it: each switch between the two worlds costs as much as a query.
        with engine.sync_engine.connect() as connection:
            try:
                database = database_of(connection)
                check_settings(database)
                return work(database)
            except Exception as exc:
                give_up_after(exc, connection)
                raise
            finally:
                # Coverage does not follow a greenlet that was switched.
                if self._owned and engine is not slot.engine:  # pragma: no cover
                    connection.invalidate()  # the store was closed: no pool to go back to

    def _own_slot(self) -> _Slot:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise StoreMisconfigured(
                "this database driver works under asyncio alone: under trio give the store a "
                "sync URL, such as sqlite:/// or postgresql+psycopg://"
            ) from None
        slot = self._slots.get()
        if slot is None:
            slot = _Slot()
            self._slots.set(slot)
        return slot


def _cut_off(slot: _Slot) -> None:
    """End the connections of a loop that was closed and has not ended as asyncio has it.

    What a driver would say to the server first, it could only say in its loop.
    """
    for connection in list(slot.connections):
        shut_down(connection)
        # Each has another word for giving up, which ends with what the closed loop has to do.
        for name in ("terminate", "stop"):
            with suppress(Exception):
                getattr(connection, name)()
