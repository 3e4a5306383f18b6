"""An asyncio engine, in the event loop itself.

Imported only if there is one: SQLAlchemy's asyncio extension needs greenlet, which SQLAlchemy does
not install by itself.
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import anyio
from sqlalchemy import Connection, event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from hermes_session_mw.database.connection import Database, database_of, passes_checks
from hermes_session_mw.database.connection_settings import check_settings
from hermes_session_mw.database.interruption import OperationTimeout, shut_down_socket
from hermes_session_mw.database.listener import Listener
from hermes_session_mw.database.workers.asyncio_listener import AsyncioListener
from hermes_session_mw.database.workers.executor import T, Work, invalidate_after
from hermes_session_mw.database.workers.worker_pool import PerLoop
from hermes_session_mw.exceptions import StoreMisconfigured


class _Places:
    """As many places as there may be connections: an operation has one while it runs.

    Whoever leaves a place hands its connection to the operation that has waited longest. Through
    SQLAlchemy's pool the same costs more than all else that is done around a short statement.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: float) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[Database | None]] = deque()

    async def take(self) -> Database | None:
        """Wait for a place; return the connection that is left there, if there is one."""
        if self._free:
            self._free -= 1
            return None
        waiter: asyncio.Future[Database | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                await self.leave(waiter.result())
            raise

    @property
    def are_unlimited(self) -> bool:
        """Whether there is always a free one."""
        return self._free == math.inf

    def is_awaited(self) -> bool:
        """Tell whether an operation waits for a place."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    async def leave(self, database: Database | None) -> None:
        """Leave a place, with its connection or without."""
        if self.is_awaited():
            self._waiting.popleft().set_result(database)
            return
        self._free += 1
        if database is not None:
            await greenlet_spawn(database.connection.close)


class _LoopState:
    """One event loop's engine: an asyncio driver's connections belong to their loop.

    Attributes:
        engine: the loop's engine, made by its first operation.
        lock: held while the engine is made.
        disposer: an asynchronous generator that disposes of the engine when the loop shuts down.
        connections: weak references to the driver's connections, which the pool closes and drops.
        places: those of its operations.
        running: how many operations run or wait for a connection.
        listener: hears notifications, if there were any to hear.
    """

    def __init__(self, places: float) -> None:
        self.engine: AsyncEngine | None = None
        self.places = _Places(places)
        self.lock = anyio.Lock()
        self.disposer: AsyncGenerator[None, None] | None = None
        self.connections: WeakSet[Any] = WeakSet()
        self.running = 0
        self.listener: AsyncioListener | None = None


async def _yield_to_waiting(state: _LoopState, engine: AsyncEngine) -> None:
    """Give a connection that just came back to the pool to an operation that waits for one.

    SQLAlchemy's pool is an ``asyncio.Queue``, which only wakes the next waiter. A caller that
    continues without a pause would take the connection again, and the waiters would time out.
    """
    checked_out = getattr(engine.pool, "checkedout", None)  # not every pool has a limit
    if checked_out is not None and state.running > checked_out():
        await asyncio.sleep(0)


async def _run_in_place(
    state: _LoopState, engine: AsyncEngine, operation: Callable[[], tuple[T, Database | None]]
) -> T:
    """Run an operation that has a place; it returns the connection too, if that is awaited."""
    value: T
    left: Database | None = None
    state.running += 1
    try:
        value, left = await greenlet_spawn(operation)
    finally:
        state.running -= 1
        await state.places.leave(left)
        if state.places.are_unlimited:
            await _yield_to_waiting(state, engine)
    return value


class AsyncioExecutor:
    """Runs work over an asyncio engine, one for each event loop.

    ``make``, ``prepare`` and ``owned`` are as for `ThreadExecutor`; ``timeout`` is the seconds for
    closing the connections. ``places`` is how many connections the pool has, for which operations
    wait here; where it is infinite, they wait in the pool.
    """

    def __init__(
        self,
        make: Callable[[], AsyncEngine],
        prepare: Callable[[Connection], None],
        *,
        owned: bool,
        timeout: float,
        places: float = math.inf,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._owned = owned
        self._timeout = timeout
        self._places = places
        self._states: PerLoop[_LoopState] = PerLoop(_terminate)

    async def run(
        self,
        work: Work[T],
        *,
        writes: bool,
        seconds: float,
        may_join: bool = False,  # noqa: ARG002  # as the other has it
    ) -> T:
        """See `Executor.run`."""
        state = self._state()
        waits = False
        # Not anyio.fail_after, which costs several times as much: the loop is asyncio's.
        try:
            async with asyncio.timeout(seconds) as limit:
                engine = state.engine or await self._make_ready(state)
                waits = True
                given = await state.places.take()
                waits = False
                operation = partial(self._work, state, engine, given, work, writes=writes)
                return await _run_in_place(state, engine, operation)
        except TimeoutError:
            if not limit.expired():
                raise  # the driver's own
            if waits:
                raise PoolTimeout("no operation has given its connection back") from None
            raise OperationTimeout from None

    def listener(self, channel: str) -> Listener:
        """See `Executor.listener`."""
        state = self._state()
        if state.listener is None:
            state.listener = AsyncioListener(channel, partial(self._make_ready, state))
        return state.listener

    async def aclose(self) -> None:
        """See `Executor.aclose`."""
        state = self._states.get()
        if state is None or state.engine is None:
            return
        if state.listener is not None:
            await state.listener.aclose()
        engine, state.engine = state.engine, None
        disposer, state.disposer = state.disposer, None
        await self._dispose(engine)
        if disposer is not None:
            await disposer.aclose()

    def __repr__(self) -> str:
        return "asyncio"

    async def _make_ready(self, state: _LoopState) -> AsyncEngine:
        async with state.lock:
            if state.engine is None:
                state.engine = await self._new_engine(state)
                state.disposer = self._dispose_with_loop(state, state.engine)
                await anext(state.disposer)
            return state.engine

    async def _dispose_with_loop(
        self, state: _LoopState, engine: AsyncEngine
    ) -> AsyncGenerator[None, None]:
        # ``asyncio.run`` and similar functions close all asynchronous generators at the loop's
        # end.
        try:
            yield
        finally:
            if state.engine is engine:
                state.engine = None
                await self._dispose(engine)

    async def _new_engine(self, state: _LoopState) -> AsyncEngine:
        engine = self._make()
        if self._owned:
            event.listen(
                engine.sync_engine,
                "connect",
                lambda _, record: state.connections.add(record.driver_connection),
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
        # Closing a connection waits for the server, which may not answer. Each cancelled dispose()
        # has removed at least one from the pool: after the timeout, the rest are closed quickly.
        while True:
            with anyio.CancelScope(deadline=deadline, shield=True) as scope:
                await engine.dispose()
            if not scope.cancelled_caught:
                return

    def _work(
        self,
        state: _LoopState,
        engine: AsyncEngine,
        given: Database | None,
        work: Work[T],
        *,
        writes: bool,
    ) -> tuple[T, Database | None]:
        """Return what ``work`` returns, and the connection if somebody waits for its place."""
        # One greenlet for the whole operation: entering one costs as much as a query.
        database = _usable(given, engine, writes=writes)
        is_new = database is None
        if database is None:
            database = database_of(engine.sync_engine.connect())
        connection = database.connection
        hands_on = False
        try:
            if is_new:
                check_settings(database)
            value = work(database)
            hands_on = database.is_direct and engine is state.engine and state.places.is_awaited()
        except Exception as exc:
            invalidate_after(exc, connection)
            raise
        finally:
            # Coverage does not follow greenlets.
            if not hands_on:  # pragma: no branch
                if self._owned and engine is not state.engine:  # pragma: no cover
                    connection.invalidate()  # the store was closed, and its pool with it
                connection.close()
        return value, database if hands_on else None

    def _state(self) -> _LoopState:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise StoreMisconfigured(
                "this database driver works under asyncio alone: under trio give the store a "
                "sync URL, such as sqlite:/// or postgresql+psycopg://"
            ) from None
        state = self._states.get(loop)
        if state is None:
            state = _LoopState(self._places)
            self._states.set(state)
        return state


def _usable(given: Database | None, engine: AsyncEngine, *, writes: bool) -> Database | None:
    """Return the connection of the operation before, if it may be used for the next one."""
    if given is None:
        return None
    connection = given.connection
    if connection.engine is engine.sync_engine and passes_checks(connection, writes=writes):
        return given
    connection.close()
    return None


def _terminate(state: _LoopState) -> None:
    """Terminate the connections of a loop that was closed without ``asyncio.run``'s shutdown.

    A regular close would need that loop.
    """
    for connection in list(state.connections):
        shut_down_socket(connection)
        # By driver; its errors are about the closed loop.
        with suppress(Exception):
            connection.terminate()
        with suppress(Exception):
            _call_without_loop(connection.stop)


def _call_without_loop(function: Callable[[], object]) -> None:
    """Call aiosqlite's ``stop()`` where no loop runs: it would have a running one told of the end.

    That loop may be closed by then, which is an exception in aiosqlite's thread.
    """
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
