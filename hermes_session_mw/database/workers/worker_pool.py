"""Worker threads of our own, because the way to a thread and back is most of what a read costs.

The threads of anyio and asyncio are handed each call, and each result, by itself. These take from
one queue, and what several of them have done comes back with one wake-up: a third cheaper for one
call at a time, and a fifth of the price for many (docs/speed.md).
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from hermes_session_mw.database.workers.task import Task
from hermes_session_mw.logging import logger

_LINGER = 0.05
"""Seconds that a thread waits for the next job before it rests."""


class WorkerPool:
    """Up to ``threads`` threads that do jobs in the order in which they come, for any event loop.

    Each is started when it is first needed, and stays until ``stop()``. One that has nothing to do
    for a moment, or ends, calls ``rest`` once, to give back what it has kept for its next job.
    """

    def __init__(self, threads: int, rest: Callable[[], None]) -> None:
        self.left: set[Task[Any]] = set()
        self._most = threads
        self._rest = rest
        self._jobs: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy: set[int] = set()
        self._pending = 0

    def put(self, job: Task[Any]) -> None:
        """Have ``job`` done by the next thread that is free.

        Raises:
            RuntimeError: there is no thread, and the system has none to give.
        """
        with self._lock:
            if len(self._threads) < min(self._pending + 1, self._most):
                thread = threading.Thread(target=self._work, name="hermes-session", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if not self._threads:
                        raise
                else:
                    self._threads.append(thread)
            self._pending += 1
            self._jobs.put(job)

    def hung(self, since: float) -> int:
        """Return how many are at something that nobody waits for, for ``since`` seconds so far."""
        return sum(job.hangs(since) for job in list(self.left))

    def is_hung(self, since: float) -> bool:
        """Tell whether all of them are."""
        return bool(self.left) and self.hung(since) >= self._most

    def stop(self) -> list[threading.Thread]:
        """End the threads, once all jobs are done that came before; a later job starts others.

        Returns those that end at once.
        """
        with self._lock:
            # One for each thread, whichever takes it: if a job comes next, one is left for it.
            for _ in self._threads:
                self._jobs.put(None)
            ending, self._threads = self._threads, []
        return [thread for thread in ending if thread.ident not in self._busy]

    def _work(self) -> None:
        me = threading.get_ident()
        while (job := self._next()) is not None:
            self._busy.add(me)
            job.do()
            self._busy.discard(me)
            # Before word gets out, or the next job would find this thread busy.
            with self._lock:
                self._pending -= 1
            job.report(more=not self._jobs.empty())
            del job  # not kept until the next one comes
        self._give_back()

    def _next(self) -> Task[Any] | None:
        try:
            return self._jobs.get(timeout=_LINGER)
        except Empty:
            self._give_back()
            return self._jobs.get()

    def _give_back(self) -> None:
        try:
            self._rest()
        except Exception:  # noqa: BLE001  # the thread is needed for the next job all the same
            logger.debug("a connection could not be given back", exc_info=True)
