"""Work that is repeated where repeating helps, for as long as there is time."""

import itertools
import random
import time
from collections.abc import Callable

import anyio

from hermes_session_mw.database.errors import REPEATABLE, Failure, understand, understand_other
from hermes_session_mw.database.transactions import CommitFailed
from hermes_session_mw.database.workers.executor import Executor, T, TimeIsUp, Work
from hermes_session_mw.exceptions import HermesSessionError, StoreTimeout
from hermes_session_mw.logging import logger

# Seconds.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5

_MOST_MOVES = 6
"""Connections that may lead to a server which takes no writes, before that is the answer.

SQLAlchemy's own pool holds five of a primary that is a standby now, and a proxy may lead to such a
one again. A server that is read-only for good is told in a fraction of a second, not at the end of
the time.
"""


class RetryingExecutor:
    """Carries work to the database through ``runner``, for ``timeout`` seconds at most.

    ``errors`` are those that the database raises.
    """

    def __init__(
        self, runner: Executor, errors: tuple[type[Exception], ...], timeout: float
    ) -> None:
        self._runner = runner
        self._errors = errors
        self._timeout = timeout

    async def run(
        self, work: Work[T], *, writes: bool, on_doubt: Callable[[], None] | None = None
    ) -> T:
        """Run ``work`` until it is done or time is up.

        ``on_doubt`` is called where nobody knows any more whether it was done, before it is
        repeated. A repetition for any other reason is of work that was not.

        Raises:
            StoreError: it was not done; whatever the database, its driver or the system raised has
                become one.
        """
        deadline = time.monotonic() + self._timeout
        before = ""
        in_doubt = False
        moves = 0
        for attempt in itertools.count():
            began = time.monotonic()
            committing = False
            cause: Exception
            try:
                return await self._runner.run(work, writes=writes, seconds=deadline - began)
            except CommitFailed as exc:
                cause, committing = exc.cause, True
            except TimeIsUp:
                raise self._timed_out(before) from None
            except HermesSessionError:
                raise
            except Exception as exc:  # noqa: BLE001  # a driver lets anything through
                cause = exc
            failure = self._understand(cause, writes=writes)
            moves += failure.meaning == "read_only"
            before = f"; before that: {failure.what}"
            if committing and failure.leaves_open:
                in_doubt = True
                if on_doubt is not None:
                    on_doubt()
            # Full jitter: those who met once do not meet again in step.
            pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))  # noqa: S311
            now = time.monotonic()
            # Another attempt as long as this one would not end in time.
            late = pause + (now - began) > min(deadline - now, _time_left())
            if late or moves >= _MOST_MOVES or failure.meaning not in REPEATABLE:
                logger.debug("the database's error in full", exc_info=cause)
                error = failure.as_store_error(in_doubt=in_doubt)
                # A cause that may quote the row would be in every traceback.
                raise error from (None if failure.quotes else cause)
            await anyio.sleep(pause)
        raise AssertionError  # pragma: no cover  # there is always another attempt

    def _understand(self, cause: Exception, *, writes: bool) -> Failure:
        if isinstance(cause, self._errors):
            return understand(cause, only_read=not writes)
        return understand_other(cause)

    def _timed_out(self, before: str) -> StoreTimeout:
        return StoreTimeout(
            f"the session store did not answer in time (timeout is {self._timeout} s{before}): see "
            "whether the database is up, and repeat an append with the same turn_id"
        )


def _time_left() -> float:
    """Return the seconds that the caller's own time limits leave."""
    return anyio.current_effective_deadline() - anyio.current_time()
