"""A sync engine in worker threads: one hop per operation, on asyncio and trio alike."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import RunVar
from sqlalchemy import Engine, event

from ...exceptions import StoreUnavailable
from .hop import Hop
from .runner import PATIENCE, T, Work, unique


class ThreadRunner:
    """Runs work in worker threads, over a sync engine that is made once and shared by them.

    ``make`` returns the engine, ``prepare`` makes it fit for use over its first connection, and
    ``owned`` says whether ``aclose()`` disposes it. ``threads`` is how many work at once, per
    event loop, and ``writers`` how many more may write, None where all may; ``timeout`` the seconds
    to wait for another thread that makes the engine, and those after which a thread that nobody
    waits for is broken off.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        prepare: Work[None],
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
        self._timeout = timeout
        self._engine: Engine | None = None
        self._inherited: list[Engine] = []
        self._lock = threading.Lock()
        self._left: set[Hop] = set()
        self._here = threading.local()
        self._writers = writers
        # A limiter belongs to one event loop, and a process may have several.
        self._limiters: RunVar[_Limiters] = RunVar(unique("limiters"))
        _thread_runners.add(self)

    async def run(self, work: Work[T], *, writes: bool) -> T:
        """See `Runner.run`."""
        if len(self._left) >= self._threads:
            raise StoreUnavailable(
                f"threads that hang in the database's driver: {len(self._left)}; try again; if it "
                "lasts, see whether the database answers"
            )
        hop = Hop(self._timeout, self._left)
        limiters = self._own_limiters()
        try:
            return await anyio.to_thread.run_sync(
                self._run,
                work,
                hop,
                abandon_on_cancel=True,
                limiter=limiters.writing if writes else limiters.reading,
            )
        finally:
            # Where the caller's time is up the thread goes on alone; what it is at is finished or
            # rolled back as a whole.
            hop.leave()

    async def aclose(self) -> None:
        """See `Runner.aclose`."""
        for hop in list(self._left):
            hop.break_off()
        engine, self._engine = self._engine, None
        if engine is not None and self._owned:
            with anyio.move_on_after(self._timeout, shield=True):
                await anyio.to_thread.run_sync(engine.dispose, abandon_on_cancel=True)

    def __repr__(self) -> str:
        hung = f"hung threads: {len(self._left)}, " if self._left else ""
        return hung + ("no engine yet" if self._engine is None else self._engine.pool.status())

    def _run(self, work: Work[T], hop: Hop) -> T:
        self._here.hop = hop
        try:
            hop.begin()
            engine = self._ready_engine()
            with engine.connect() as connection:
                hop.use(connection.connection.driver_connection)
                try:
                    return work(connection)
                finally:
                    if self._owned and engine is not self._engine:
                        connection.invalidate()  # the store was closed: no pool to go back to
        finally:
            hop.end()

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
        hop: Hop = self._here.hop  # connections are made where work is run, and nowhere else
        hop.use(driver_connection)

    def _own_limiters(self) -> "_Limiters":
        limiters = self._limiters.get(None)
        if limiters is None:
            limiters = _Limiters(self._threads, self._writers)
            self._limiters.set(limiters)
        return limiters

    def forget_in_child(self) -> None:  # pragma: no cover  # runs in another process
        """Start anew in a forked child."""
        # The parent's connections are kept and never touched: closing one here would end it, or
        # its locks, for the parent too.
        if self._engine is not None and self._owned:
            self._inherited.append(self._engine)
            self._engine = None
        # Threads do not come along, and one of them may have held it.
        self._lock = threading.Lock()
        self._left.clear()


class _Limiters:
    """How many work at once: writers apart, where they wait for each other and readers need not."""

    def __init__(self, threads: int, writers: int | None) -> None:
        self.reading = anyio.CapacityLimiter(threads)
        self.writing = anyio.CapacityLimiter(writers) if writers is not None else self.reading


_thread_runners: "weakref.WeakSet[ThreadRunner]" = weakref.WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover  # runs in another process
    for runner in _thread_runners:
        runner.forget_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
