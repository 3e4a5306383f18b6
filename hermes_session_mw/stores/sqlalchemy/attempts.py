"""Work that is repeated where repeating helps, for as long as there is time."""

import itertools
import random

import anyio

from ...exceptions import StoreTimeout
from ...logging import logger
from .errors import DATABASE_ERRORS, MAY_QUOTE, REPEATABLE, Failure, understand
from .runner import Runner, T, Work
from .statements import CommitFailed

# Seconds.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5


class Attempts:
    """Carries work to the database through ``runner``, for ``timeout`` seconds at most.

    ``driver_error`` is what the driver raises where SQLAlchemy lets it through.
    """

    def __init__(self, runner: Runner, driver_error: type[Exception], timeout: float) -> None:
        self._runner = runner
        self._errors = (*DATABASE_ERRORS, driver_error)
        self._timeout = timeout

    async def run(self, work: Work[T], *, writes: bool) -> T:
        """Run ``work`` until it is done or time is up.

        Raises:
            StoreError: it was not done; whatever the database raised has become one.
        """
        failures: list[Failure] = []
        with anyio.move_on_after(self._timeout):
            return await self._run(work, failures, writes=writes)
        before = f"; before that: {failures[-1].what}" if failures else ""
        raise StoreTimeout(
            f"the session store did not answer in time (timeout is {self._timeout} s{before}): see "
            "whether the database is up, and repeat an append with the same turn_id"
        )

    async def _run(self, work: Work[T], failures: list[Failure], *, writes: bool) -> T:
        deadline = anyio.current_effective_deadline()
        in_doubt = False
        for attempt in itertools.count():
            began = anyio.current_time()
            committing = False
            cause: Exception
            try:
                return await self._runner.run(work, writes=writes)
            except CommitFailed as exc:
                cause, committing = exc.cause, True
            except self._errors as exc:
                cause = exc
            failure = understand(cause)
            failures.append(failure)
            in_doubt |= committing and failure.leaves_open
            # Full jitter: those who met once do not meet again in step.
            pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))  # noqa: S311
            now = anyio.current_time()
            # Another attempt as long as this one would not end in time.
            late = now + pause + (now - began) > deadline
            if late or failure.meaning not in REPEATABLE:
                logger.debug("the database's error in full", exc_info=cause)
                error = failure.as_store_error(in_doubt=in_doubt)
                # A cause that may quote the row would be in every traceback.
                raise error from (None if failure.meaning in MAY_QUOTE else cause)
            await anyio.sleep(pause)
        raise AssertionError  # pragma: no cover  # there is always another attempt
