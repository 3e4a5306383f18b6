"""A sync engine in worker threads: one hop per operation, on asyncio and trio alike."""

import os
import threading
import weakref
from collections.abc import Callable

import anyio
from anyio.lowlevel import RunVar
from sqlalchemy import Engine

from ...exceptions import StoreUnavailable
from .runner import T, Work, unique


class ThreadRunner:
    """Runs work in worker threads, over a sync engine that is made once and shared by them.

    ``make`` returns the engine, ``prepare`` makes it fit for use over its first connection, and
    ``owned`` says whether ``aclose()`` disposes it. ``threads`` is how many work at once, per
    event loop; ``timeout`` the seconds to wait for another thread that makes the engine.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        prepare: Work[None],
        *,
        owned: bool,
        threads: int,
        timeout: float,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._owned = owned
        self._threads = threads
        self._timeout = timeout
        self._engine: Engine | None = None
        self._inherited: list[Engine] = []
        self._lock = threading.Lock()
        # A limiter belongs to one event loop, and a process may have several.
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar(unique("limiter"))
        _thread_runners.add(self)

    async def run(self, work: Work[T]) -> T:
        """See `Runner.run`."""
        # Abandoned where the caller's time is up: the thread ends by itself, and what it was at
        # is finished or rolled back as a whole.
        return await anyio.to_thread.run_sync(
            self._run, work, abandon_on_cancel=True, limiter=self._own_limiter()
        )

    async def aclose(self) -> None:
        """See `Runner.aclose`."""
        engine, self._engine = self._engine, None
        if engine is not None and self._owned:
            await anyio.to_thread.run_sync(engine.dispose)

    def __repr__(self) -> str:
        return "no engine yet" if self._engine is None else self._engine.pool.status()

    def _run(self, work: Work[T]) -> T:
        with self._ready_engine().connect() as connection:
            return work(connection)

    def _ready_engine(self) -> Engine:
        engine = self._engine
        if engine is not None:
            return engine
        if not self._lock.acquire(timeout=self._timeout):
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
        try:
            with engine.connect() as connection:
                self._prepare(connection)
        except BaseException:
            if self._owned:
                engine.dispose()
            raise
        return engine

    def _own_limiter(self) -> anyio.CapacityLimiter:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(self._threads)
            self._limiter.set(limiter)
        return limiter

    def forget_in_child(self) -> None:  # pragma: no cover  # runs in another process
        """Start anew in a forked child."""
        # The parent's connections are kept and never touched: closing one here would end it, or
        # its locks, for the parent too.
        if self._engine is not None and self._owned:
            self._inherited.append(self._engine)
            self._engine = None
        self._lock = threading.Lock()  # a thread that did not come along may have held it


_thread_runners: "weakref.WeakSet[ThreadRunner]" = weakref.WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover  # runs in another process
    for runner in _thread_runners:
        runner.forget_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
