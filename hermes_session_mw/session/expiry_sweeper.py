"""`ExpirySweeper`, which removes a store's expired sessions now and then, in the background.

The middleware runs one for each event loop that it has a lifespan in, if its store has
``expires_after``. Of several processes one sweeps, which the store sees to. A sweep that fails is
logged and tried again, and ends nothing.
"""

import random

import anyio

from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.logging import logger
from hermes_session_mw.session.event_loops import Sleeper, Wakers, clock, sleeper, spawn
from hermes_session_mw.stores.expiry import ExpiryStore, Sweep
from hermes_session_mw.telemetry import Telemetry

_LONGEST_PAUSE = 60.0
"""Seconds before a sweep that failed is tried again, at most."""


class ExpirySweeper:
    """Sweeps every ``interval`` seconds, from `start` until `stop`."""

    def __init__(
        self, expiry: ExpiryStore, interval: float, telemetry: Telemetry | None = None
    ) -> None:
        self._expiry = expiry
        self._interval = interval
        self._telemetry = telemetry
        self._is_stopped = False
        self._runs = False
        self._sleeper: Sleeper | None = None
        self._ended = Wakers()

    def start(self) -> None:
        """Begin to sweep in a task of the running event loop."""
        self._runs, self._is_stopped = True, False
        spawn(self._run)

    async def stop(self, seconds: float) -> None:
        """Sweep no more: wait until a sweep has left off, which is after one transaction."""
        self.request_stop()
        with anyio.move_on_after(seconds):
            await self._ended.wait_until(lambda: not self._runs)

    def request_stop(self) -> None:
        """Have the task end, without waiting for it; called in its event loop."""
        self._is_stopped = True
        if self._sleeper is not None:
            self._sleeper.wake()

    async def _run(self) -> None:
        self._sleeper, now = sleeper(), clock()
        # Workers that are started at once need not ask at once.
        pause, failures = random.uniform(0, self._interval / 10), 0  # noqa: S311
        try:
            while True:
                due = now() + pause
                while now() < due and not self._is_stopped:
                    await self._sleeper.sleep_until(due)
                if self._is_stopped:
                    return
                pause, failures = await self._sweep_once(failures)
        finally:
            self._sleeper.close()
            self._sleeper = None
            self._runs = False
            self._ended.wake()

    async def _sweep_once(self, failures: int) -> tuple[float, int]:
        """Sweep; return the seconds until the next time, and how often it has failed in a row."""
        try:
            sweep = await self._swept()
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is tried again
            what = str(exc) if isinstance(exc, StoreError) else type(exc).__name__
            logger.warning("expired sessions could not be removed, and will be later: %s", what)
            logger.debug("the sweep's failure in full", exc_info=exc)
            longest = min(self._interval, _LONGEST_PAUSE)
            pause = min(2.0**failures, longest)
            return random.uniform(pause / 2, pause), failures + 1  # noqa: S311
        if sweep.sessions or sweep.ids:
            logger.info(
                "expired: %d sessions with %d messages, and %d unused ids, were removed",
                sweep.sessions,
                sweep.messages,
                sweep.ids,
            )
        # One that is held by another process may end early.
        again = min(max(sweep.again, 0.0), self._interval)
        return again + random.uniform(0, self._interval / 100), 0  # noqa: S311

    async def _swept(self) -> Sweep:
        if self._telemetry is None:
            return await self._expiry.sweep(self._interval, self._asks_to_stop)
        with self._telemetry.operation("sweep", "") as operation:
            sweep = await self._expiry.sweep(self._interval, self._asks_to_stop)
            operation.count(sweep.messages)
            return sweep

    def _asks_to_stop(self) -> bool:
        return self._is_stopped
