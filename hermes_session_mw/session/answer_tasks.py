"""`AnswerTasks`, the answers that run in this process for one middleware.

Each answer has a task of its own, which no request waits for. The middleware owns it: where its
lifespan runs in the event loop, answers are ended in order before the store is closed. Elsewhere
nobody would end them, and an answer ends with the request that began it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from hermes_session_mw.database.workers.worker_pool import native_token
from hermes_session_mw.logging import logger
from hermes_session_mw.session.event_loops import Wakers

if TYPE_CHECKING:
    from hermes_session_mw.session.answer_flush import Flusher
    from hermes_session_mw.session.answer_run import AnswerRun
    from hermes_session_mw.session.stored_answer import Poller

RETENTION = 300.0
"""Seconds after its end for which an answer can be found, by default."""

_SWEEPS = 10
"""How often ended answers are looked for within the time that they are kept."""


class AnswerTasks:
    """Finds, owns and ends the answers that run in this process.

    Attributes:
        retention: seconds after its end for which an answer can be found.
        pollers: those who read the answers of other processes, by event loop, owner and id.
        flushers: those who write the answers of this process, by event loop.
    """

    def __init__(self, retention: float = RETENTION) -> None:
        self.retention: float = retention
        self.pollers: dict[tuple[Any, str, str], Poller] = {}
        self.flushers: dict[Any, Flusher] = {}
        self._running: set[AnswerRun] = set()
        self._by_id: dict[tuple[str, str], AnswerRun] = {}
        self._by_session: dict[tuple[str, str], AnswerRun] = {}
        # The time of their end, and the answers that no store knows, in that order.
        self._ended: dict[tuple[str, str], tuple[float, AnswerRun]] = {}
        self._owned: set[Any] = set()
        self._wakers = Wakers()
        self._has_warned = False
        self._next_sweep = 0.0

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Own the answers that begin in this event loop within the block."""
        token = native_token()
        self._owned.add(token)
        try:
            yield
        finally:
            self._owned.discard(token)

    @property
    def are_owned(self) -> bool:
        """Whether answers that begin in this event loop outlive their requests."""
        return native_token() in self._owned

    def warn_unowned(self) -> None:
        """Warn, once, that an answer ends with its client."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "an answer ends with its client: no lifespan of HermesSessionMiddleware runs in "
                "this event loop, to end it in order; wrap the whole application, and use a server "
                "that serves lifespans"
            )

    def add(self, run: "AnswerRun") -> None:
        """Add an answer that begins."""
        self._running.add(run)
        if run.is_stored:
            self._by_id[run.owner, run.id] = run
            self._by_session[run.owner, run.session_id] = run

    def forget(self, run: "AnswerRun") -> None:
        """Note that an answer has ended; it is found no more if the store knows it."""
        self._by_id.pop((run.owner, run.id), None)
        if run.is_stored and not run.is_kept:
            self._ended[run.owner, run.id] = time.monotonic(), run
        self._forget_ended()
        # The session's next answer may have begun.
        if self._by_session.get((run.owner, run.session_id)) is run:
            del self._by_session[run.owner, run.session_id]

    def discard(self, run: "AnswerRun") -> None:
        """Remove an answer whose task has ended."""
        self._running.discard(run)
        self._wakers.wake()

    async def wait_for(self, run: "AnswerRun") -> None:
        """Wait until the answer's task has ended."""
        await self._wakers.wait_until(lambda: run not in self._running)

    def find(self, answer_id: str, owner: str) -> "AnswerRun | None":
        """Return the answer with an id, if it runs here, or ended here and the store knows none."""
        self._forget_ended()
        _, ended = self._ended.get((owner, answer_id), (0, None))
        return self._by_id.get((owner, answer_id)) or ended

    def find_ended(self, session_id: str, turn_id: str, owner: str) -> "AnswerRun | None":
        """Return the session's newest answer with a turn id that ended, and no store knows."""
        self._forget_ended()
        name = owner, session_id, turn_id
        ended = reversed([run for _, run in tuple(self._ended.values())])
        return next(
            (run for run in ended if (run.owner, run.session_id, run.turn_id) == name), None
        )

    def _forget_ended(self) -> None:
        oldest = time.monotonic() - self.retention
        for name, (ended_at, _) in tuple(self._ended.items()):
            if ended_at > oldest:
                break
            self._ended.pop(name, None)

    def find_running(self, session_id: str, owner: str) -> "AnswerRun | None":
        """Return a session's answer, if it runs here."""
        return self._by_session.get((owner, session_id))

    async def end(self, seconds: float) -> None:
        """End all answers, and wait until their tasks have ended, for at most this many seconds.

        What an application does after an answer's end (``on_end``) is cancelled then.
        """
        self._owned.discard(native_token())
        for run in tuple(self._running):
            run.finish("incomplete")
        with anyio.move_on_after(seconds):
            await self._wakers.wait_until(lambda: not self._running)
        for run in tuple(self._running):
            run.abandon()

    def is_sweep_due(self) -> bool:
        """Return whether to look for answers that ended long ago, which is so now and then."""
        now = time.monotonic()
        if now < self._next_sweep:
            return False
        self._next_sweep = now + self.retention / _SWEEPS
        return True
