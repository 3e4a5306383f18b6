"""Runs a sync engine in worker threads: one hand-over per operation, on asyncio and trio.

A thread keeps its connection between operations, in a ``threading.local``, so that it does not use
the pool each time. It gives the connection back when it becomes idle, and after an error.
"""

import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, event

from hermes_session_mw.database.connection import Database, database_of, passes_checks
from hermes_session_mw.database.connection_settings import check_settings
from hermes_session_mw.database.listener import Listener
from hermes_session_mw.database.workers.engine_slot import EngineSlot
from hermes_session_mw.database.workers.executor import WAIT_SHARE, T, Work, invalidate_after
from hermes_session_mw.database.workers.shared_transaction import run_shared
from hermes_session_mw.database.workers.thread_listener import ThreadListener
from hermes_session_mw.database.workers.worker_pool import (
    CompletionQueue,
    PerLoop,
    Task,
    WorkerPool,
)
from hermes_session_mw.exceptions import StoreUnavailable


class ThreadExecutor:
    """Runs work in worker threads, which share one sync engine.

    ``make`` returns the engine, and ``prepare`` sets it up over its first connection; ``aclose()``
    disposes of it if it is ``owned``. ``threads`` run at once for all event loops, and ``writers``
    more write; None lets all of them write. ``timeout`` is the seconds to wait for the thread that
    makes the engine, and the seconds after which a thread with an abandoned task counts as hung.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        prepare: Callable[[Connection], None],
        *,
        owned: bool,
        threads: int,
        writers: int | None,
        timeout: float,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._owned = owned
        self._max_readers = threads
        self._max_writers = writers
        self._timeout = timeout
        self._slot = EngineSlot(owned=owned)
        self._listeners: dict[str, ThreadListener] = {}
        self._inherited: list[object] = []
        self._lock = threading.Lock()
        # Of each thread: its task, and the connection that it keeps.
        self._local = threading.local()
        self._completions: PerLoop[CompletionQueue] = PerLoop()
        self._make_workers()
        _executors.add(self)

    def _make_workers(self) -> None:
        # Writers have separate threads if they wait for each other and readers do not.
        on_idle = partial(_become_idle, self._slot, self._local)
        self._readers = self._writers = WorkerPool(self._max_readers, on_idle)
        if self._max_writers is not None:
            self._writers = WorkerPool(self._max_writers, on_idle)
        self._stop_workers = weakref.finalize(self, _drop, self._slot, self._readers, self._writers)

    def run(
        self, work: Work[T], *, writes: bool, seconds: float, may_join: bool = False
    ) -> Coroutine[Any, Any, T]:
        """See `Executor.run`."""
        workers = self._writers if writes else self._readers
        if workers.is_hung(self._timeout * WAIT_SHARE):
            raise StoreUnavailable(
                f"threads that hang in the database's driver: {len(workers.abandoned)}; try again; "
                "if it lasts, see whether the database answers"
            )
        completions = self._completions.get()
        if completions is None:
            completions = CompletionQueue()
            self._completions.set(completions)
        # Where writers have a thread of their own, it commits those that wait together.
        joining = work if may_join and writes and self._writers is not self._readers else None
        in_thread = partial(self._run, work, self._slot.closings, writes=writes)
        task: Task[T] = Task(in_thread, completions, seconds, workers.abandoned, joining)
        try:
            workers.put(task)
        except RuntimeError:
            task.complete(more=False)  # or the loop would look for its end for ever
            raise
        return task.result()

    def listener(self, channel: str) -> Listener:
        """See `Executor.listener`."""
        listener = self._listeners.get(channel)
        if listener is None:  # of two that are made at once one is kept
            made = ThreadListener(channel, weakref.WeakMethod(self._ready_engine), self._slot)
            listener = self._listeners.setdefault(channel, made)
        return listener

    async def aclose(self) -> None:
        """See `Executor.aclose`."""
        for listener in tuple(self._listeners.values()):
            listener.close()
        for task in self._abandoned():
            task.abort()
        engine = self._slot.take()
        ending = _stop_workers(self._readers, self._writers)
        if engine is not None and self._owned:
            with anyio.move_on_after(self._timeout, shield=True):
                try:
                    await anyio.to_thread.run_sync(_dispose, engine, ending, abandon_on_cancel=True)
                except RuntimeError:  # the system cannot start a thread
                    engine.dispose()

    def __repr__(self) -> str:
        count = len(self._abandoned())
        hung = f"hung threads: {count}, " if count else ""
        return hung + ("no engine yet" if self._engine is None else self._engine.pool.status())

    @property
    def _engine(self) -> Engine | None:
        return self._slot.engine

    def _abandoned(self) -> set[Task[Any]]:
        return self._readers.abandoned | self._writers.abandoned

    def _run(self, work: Work[T], closings: int, task: Task[T], *, writes: bool) -> T:
        self._local.task = task
        try:
            engine = self._slot.engine or self._ready_engine(closings)
            return self._run_on(engine, work, task, writes=writes)
        finally:
            self._local.task = None  # which refers to this executor

    def _run_on(self, engine: Engine, work: Work[T], task: Task[T], *, writes: bool) -> T:
        database = self._kept_database(engine, writes=writes)
        is_new = database is None
        if database is None:
            database = self._local.database = database_of(engine.connect())
        connection = database.connection
        keep = False
        try:
            task.use(database.driver_connection)
            if is_new:
                check_settings(database)
            if task.joining_work is None or not database.is_direct:
                value = work(database)
            else:
                value = run_shared(database, task.joining_work, task, self._writers)
        except Exception as exc:
            invalidate_after(exc, connection)
            raise
        else:
            keep = database.is_direct and engine is self._slot.engine
            return value
        finally:
            if not keep:
                _give_back(self._slot, self._local)

    def _kept_database(self, engine: Engine, *, writes: bool) -> Database | None:
        """Return the connection that this thread has kept, if it may be used again."""
        kept: Database | None = getattr(self._local, "database", None)
        if kept is None:
            return None
        if kept.connection.engine is engine and passes_checks(kept.connection, writes=writes):
            return kept
        _give_back(self._slot, self._local)
        return None

    def _ready_engine(self, closings: int) -> Engine:
        if not self._lock.acquire(timeout=self._timeout * WAIT_SHARE):
            raise StoreUnavailable(
                "the database is still being connected to for another request: try again; "
                "if it lasts, see whether the database is up"
            )
        try:
            engine = self._slot.engine
            if engine is None:
                engine = self._new_engine()
                self._slot.put(engine, closings)
            return engine
        finally:
            self._lock.release()

    def _new_engine(self) -> Engine:
        engine = self._make()
        if self._owned:
            # Before SQLAlchemy's own listener, which already waits for the server.
            event.listen(engine, "connect", partial(_connected, self._local), insert=True)
        try:
            with engine.connect() as connection:
                self._prepare(connection)
        except BaseException:
            if self._owned:
                engine.dispose()
            raise
        return engine

    def forget_in_child(self) -> None:  # pragma: no cover  # runs in another process
        """Start again in a forked child, with a new engine and new threads."""
        # The parent's connections are kept and never touched: closing one here would end it, or
        # release its locks, for the parent too.
        self._inherited += [self._slot, self._listeners]
        slot, self._slot = self._slot, EngineSlot(owned=self._owned)
        if not self._owned:
            self._slot.engine = slot.engine
        self._listeners = {}
        # A fork does not copy threads, and one of them may have held the lock.
        self._lock = threading.Lock()
        self._stop_workers.detach()
        self._make_workers()


# The threads and the engine do not refer to the executor, which is collected if it is dropped.


def _connected(local: Any, driver_connection: Any, _record: object) -> None:
    task: Task[Any] | None = getattr(local, "task", None)
    if task is not None:  # otherwise it is not one of our threads
        task.use(driver_connection)


def _give_back(slot: EngineSlot, local: Any) -> None:
    """Give the connection that the running thread keeps back to its pool."""
    kept: Database | None = getattr(local, "database", None)
    if kept is not None:
        local.database = None
        slot.give_back(kept.connection)


def _become_idle(slot: EngineSlot, local: Any) -> None:
    try:
        _give_back(slot, local)
    finally:
        slot.dispose_of_dropped()


def _stop_workers(*pools: WorkerPool) -> list[threading.Thread]:
    return [thread for pool in set(pools) for thread in pool.stop()]


def _drop(slot: EngineSlot, *pools: WorkerPool) -> None:
    slot.drop()
    _stop_workers(*pools)


def _dispose(engine: Engine, ending: list[threading.Thread]) -> None:
    for thread in ending:
        thread.join()
    engine.dispose()


# Weak references: a store that is dropped unclosed is collected, and its threads end.
_executors: "weakref.WeakSet[ThreadExecutor]" = weakref.WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover  # runs in another process
    for executor in _executors:
        executor.forget_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
