"""Killing a connection pooler with SIGKILL, and pausing it, while writers write through it."""

import random
import time
from pathlib import Path

from sqlalchemy import URL

from tests.long.torture.checker import Outcome, outcome
from tests.long.torture.writers import Writers
from tests.support.pgbouncer import PgBouncer, own_pooler


def disturb_pooler(url: URL, driver: str, folder: Path, rounds: int) -> Outcome:
    """Kill, pause or renew a pooler in transaction mode ``rounds`` times, before ``url``.

    The writers, with ``driver``, trust the store: what is unavailable is not stored.
    """
    with (
        own_pooler(url, "transaction") as pooler,
        Writers(folder, pooler.url.set(drivername=driver), mode="trust") as writers,
    ):
        for number in range(rounds):
            time.sleep(random.uniform(0, 0.2))
            _DISTURBANCES[number % len(_DISTURBANCES)](pooler)
            if random.random() < 0.1:
                writers.replace_one()
            writers.wait_for_turns(1, of_each=False)
        writers.wait_for_turns(1)  # who came through goes on
    return outcome(writers, url, rounds)


def _kill(pooler: PgBouncer) -> None:
    pooler.kill()
    time.sleep(random.uniform(0, 0.2))
    pooler.start()


def _pause(pooler: PgBouncer) -> None:
    pooler.ask("PAUSE")
    time.sleep(random.uniform(0, 0.2))
    pooler.ask("RESUME")


def _kill_paused(pooler: PgBouncer) -> None:
    pooler.ask("PAUSE")
    _kill(pooler)


def _renew(pooler: PgBouncer) -> None:
    pooler.ask("RECONNECT")


_DISTURBANCES = [_kill, _pause, _kill, _kill_paused, _renew]
