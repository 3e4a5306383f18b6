"""A sync engine in worker threads: one hop per operation, on asyncio and trio alike."""

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, event

from hermes_session_mw.database.connection import Database, database_of
from hermes_session_mw.database.connection_settings import check_settings
from hermes_session_mw.database.per_loop import PerLoop
from hermes_session_mw.database.pool_checks import is_fit
from hermes_session_mw.database.workers.completion_queue import CompletionQueue
from hermes_session_mw.database.workers.executor import PATIENCE, T, Work, give_up_after
from hermes_session_mw.database.workers.task import Task
from hermes_session_mw.database.workers.worker_pool import WorkerPool
from hermes_session_mw.exceptions import StoreUnavailable


class ThreadExecutor:
    """Runs work in worker threads, over a sync engine that is made once and shared by them.

    ``make`` returns the engine, ``prepare`` makes it fit for use over its first connection, and
    ``owned`` says whether ``aclose()`` disposes it. ``threads`` is how many work at once, for all
    event loops, and ``writers`` how many more may write, None where all may; ``timeout`` the
    seconds to wait for another thread that makes the engine, and those after which a thread that
    nobody waits for counts as hung.
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
        self._threads = threads
        self._writers = writers
        self._timeout = timeout
        self._engine: Engine | None = None
        self._inherited: list[Engine] = []
        self._lock = threading.Lock()
        self._here = threading.local()
        # Word is left for one event loop, and a process may have several.
        self._mailboxes: PerLoop[CompletionQueue] = PerLoop(_forget)
        self._start_worker()
        _thread_runners.add(self)

    def _start_worker(self) -> None:
        # Writers apart, where they wait for each other and readers need not.
        rest = partial(_give_back, self._here)
        self._readers = WorkerPool(self._threads, rest)
        self._all_writers = (
            self._readers if self._writers is None else WorkerPool(self._writers, rest)
        )
        self._stop_worker = weakref.finalize(self, _stop_worker, self._readers, self._all_writers)

    async def run(self, work: Work[T], *, writes: bool, seconds: float) -> T:
        """See `Executor.run`."""
        crew = self._all_writers if writes else self._readers
        if crew.is_hung(self._timeout * PATIENCE):
            raise StoreUnavailable(
                f"threads that hang in the database's driver: {len(crew.left)}; try again; if it "
                "lasts, see whether the database answers"
            )
        in_thread = partial(self._run, work, writes=writes)
        job: Task[T] = Task(in_thread, self._own_mailbox(), seconds, crew.left)
        crew.put(job)
        return await job.result()

    async def aclose(self) -> None:
        """See `Executor.aclose`."""
        for job in self._left():
            job.break_off()
        engine, self._engine = self._engine, None
        ending = _stop_worker(self._readers, self._all_writers)
        if engine is not None and self._owned:
            with anyio.move_on_after(self._timeout, shield=True):
                try:
                    await anyio.to_thread.run_sync(_close, engine, ending, abandon_on_cancel=True)
                except RuntimeError:  # no thread can be had, and what is open has to be closed
                    engine.dispose()

    def __repr__(self) -> str:
        left = len(self._left())
        hung = f"hung threads: {left}, " if left else ""
        return hung + ("no engine yet" if self._engine is None else self._engine.pool.status())

    def _left(self) -> set[Task[Any]]:
        return self._readers.left | self._all_writers.left

    def _run(self, work: Work[T], job: Task[T], *, writes: bool) -> T:
        self._here.job = job
        engine = self._ready_engine()
        database = self._database(engine, writes=writes)
        connection = database.connection
        keep = False
        try:
            job.use(connection.connection.driver_connection)
            check_settings(database)
            value = work(database)
        except Exception as exc:
            give_up_after(exc, connection)
            raise
        else:
            keep = database.is_direct and engine is self._engine
            return value
        finally:
            if not keep:
                if self._owned and engine is not self._engine:
                    connection.invalidate()  # the store was closed: no pool to go back to
                _give_back(self._here)

    def _database(self, engine: Engine, *, writes: bool) -> Database:
        """Return what this thread has kept, or else takes now."""
        kept: Database | None = getattr(self._here, "database", None)
        if kept is not None:
            if kept.connection.engine is engine and is_fit(kept.connection, writes=writes):
                return kept
            _give_back(self._here)
        taken: Database = database_of(engine.connect())
        self._here.database = taken
        return taken

    def _ready_engine(self) -> Engine:
        engine = self._engine
        if engine is not None:
            return engine
        if not self._lock.acquire(timeout=self._timeout * PATIENCE):
            raise StoreUnavailable(
                "the database is still being connected to for another request: try again; "
                "if it lasts, see whether the database is up"
            )
        try:
            if self._engine is None:
                self._engine = self._new_engine()
            return self._engine
        finally:
            self._lock.release()

    def _new_engine(self) -> Engine:
        engine = self._make()
        if self._owned:
            # Before all others, as SQLAlchemy's own ask a first connection what it speaks to.
            event.listen(engine, "connect", self._connected, insert=True)
        try:
            with engine.connect() as connection:
                self._prepare(connection)
        except BaseException:
            if self._owned:
                engine.dispose()
            raise
        return engine

    def _connected(self, driver_connection: Any, _record: object) -> None:
        job: Task[Any] | None = getattr(self._here, "job", None)
        if job is not None:  # else it is made for somebody who has found the engine
            job.use(driver_connection)

    def _own_mailbox(self) -> CompletionQueue:
        mailbox = self._mailboxes.get()
        if mailbox is None:
            mailbox = CompletionQueue()
            self._mailboxes.set(mailbox)
        return mailbox

    def forget_in_child(self) -> None:  # pragma: no cover  # runs in another process
        """Start anew in a forked child."""
        # The parent's connections are kept and never touched: closing one here would end it, or
        # its locks, for the parent too.
        if self._engine is not None and self._owned:
            self._inherited.append(self._engine)
            self._engine = None
        # Threads do not come along, and one of them may have held it.
        self._lock = threading.Lock()
        self._stop_worker.detach()
        self._start_worker()


def _forget(_mailbox: CompletionQueue) -> None:
    """Do nothing more with it: nobody waits for its word."""


def _give_back(here: Any) -> None:
    kept: Database | None = getattr(here, "database", None)
    if kept is not None:
        here.database = None
        kept.connection.close()


def _stop_worker(*crews: WorkerPool) -> list[threading.Thread]:
    return [thread for crew in set(crews) for thread in crew.stop()]


def _close(engine: Engine, ending: list[threading.Thread]) -> None:
    for thread in ending:
        thread.join()
    engine.dispose()


_thread_runners: "weakref.WeakSet[ThreadExecutor]" = weakref.WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover  # runs in another process
    for runner in _thread_runners:
        runner.forget_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
