"""Retries an operation after errors that may not recur, until its timeout."""

import random
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import anyio

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.errors import RETRYABLE, Failure, classify, classify_other
from hermes_session_mw.database.interruption import OperationTimeout
from hermes_session_mw.database.transactions import CommitFailed
from hermes_session_mw.database.workers.executor import Executor, T, Work
from hermes_session_mw.exceptions import HermesSessionError, StoreTimeout
from hermes_session_mw.logging import logger

P = ParamSpec("P")

# Seconds.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5

_MAX_READ_ONLY = 6
"""Attempts that may reach a read-only server before the error is raised.

SQLAlchemy's own pool may hold five connections to a primary that has become a standby, and a proxy
may lead to it once more. A server that stays read-only is reported in a fraction of a second,
and not only at the timeout.
"""


class RetryingExecutor:
    """Runs work by ``executor`` with retries, for ``timeout`` seconds at most.

    ``errors`` are the classes of the database's errors.
    """

    def __init__(
        self, executor: Executor, errors: tuple[type[Exception], ...], timeout: float
    ) -> None:
        self._executor = executor
        self._errors = errors
        self._timeout = timeout

    def within(self, timeout: float) -> "RetryingExecutor":
        """Return another for the same database, whose operations may take so many seconds."""
        return RetryingExecutor(self._executor, self._errors, timeout)

    async def read(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` with the arguments; it only reads."""
        return await self.run(lambda database: work(database, *args, **kwargs), writes=False)

    async def write(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` with the arguments; it begins a transaction, and may be repeated."""
        return await self.run(lambda database: work(database, *args, **kwargs), writes=True)

    async def write_once(self, work: Callable[..., T], *args: object) -> T:
        """Run ``work`` with the arguments and ``repeated``: an earlier attempt may be committed."""
        repeated = False

        def doubt() -> None:
            nonlocal repeated
            repeated = True

        return await self.run(
            lambda database: work(database, *args, repeated=repeated), writes=True, on_doubt=doubt
        )

    async def join(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` as ``write`` does; it has one transaction, which others may share."""
        return await self.run(
            lambda database: work(database, *args, **kwargs), writes=True, may_join=True
        )

    async def run(
        self,
        work: Work[T],
        *,
        writes: bool,
        may_join: bool = False,
        on_doubt: Callable[[], None] | None = None,
    ) -> T:
        """Run ``work`` until it succeeds, fails with an error that is not retried, or times out.

        ``on_doubt`` is called before a retry if it is unknown whether the last attempt was
        committed. Before any other retry it was not.

        Raises:
            StoreError: it failed; every error of the database, its driver or the system becomes
                one.
        """
        deadline = time.monotonic() + self._timeout
        failure: Failure | None = None
        in_doubt = False
        attempts = read_only = 0
        while True:
            began = time.monotonic()
            try:
                return await self._executor.run(
                    work, writes=writes, seconds=deadline - began, may_join=may_join
                )
            except OperationTimeout:
                raise self._timed_out(failure) from None
            except HermesSessionError:
                raise
            except Exception as exc:  # noqa: BLE001  # a driver lets anything through
                committing = isinstance(exc, CommitFailed)
                cause = exc.cause if isinstance(exc, CommitFailed) else exc
            failure = self._classify(cause)
            if committing and failure.outcome_unknown:
                in_doubt = True
                if on_doubt is not None:
                    on_doubt()
            # Full jitter, so that operations that collided do not retry in step.
            pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempts))  # noqa: S311
            attempts += 1
            read_only += failure.category == "read_only"
            now = time.monotonic()
            # Another attempt as long as this one would not end in time.
            callers = anyio.current_effective_deadline() - anyio.current_time()
            late = pause + (now - began) > min(deadline - now, callers)
            if late or read_only >= _MAX_READ_ONLY or failure.category not in RETRYABLE:
                logger.debug("the database's error in full", exc_info=cause)
                error = failure.as_store_error(in_doubt=in_doubt)
                # Without a cause, which may quote a row, and would be in every traceback.
                raise error from (None if failure.may_quote else cause)
            await anyio.sleep(pause)

    def _classify(self, cause: Exception) -> Failure:
        if isinstance(cause, self._errors):
            return classify(cause)
        return classify_other(cause)

    def _timed_out(self, failure: Failure | None) -> StoreTimeout:
        """Return the error of the attempt that took too long; ``failure`` is the one before it."""
        before, advice = "", "see whether the database is up"
        if failure is not None:
            before, advice = f"; before that: {failure.summary}", failure.advice
        return StoreTimeout(
            f"the session store did not answer in time (timeout is {self._timeout} s{before}): "
            f"{advice}; repeat an append with the same turn_id"
        )
