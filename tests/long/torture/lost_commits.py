"""Losing the replies to COMMITs while writers write, who trust the store to find out."""

import random
import threading
import time
from pathlib import Path

from sqlalchemy import URL

from tests.long.torture.checker import Outcome, outcome
from tests.long.torture.writers import Writers
from tests.support.tampering_proxies import LosingProxy


class RandomlyLosing(LosingProxy):
    """Loses the reply to one of five to ten COMMITs, as long as it has some left to lose."""

    def __init__(self, target: URL) -> None:
        super().__init__(target, by_answer=target.get_backend_name() == "postgresql")
        self._lock = threading.Lock()
        self._spared = 0

    def loses(self) -> bool:
        """See `LosingProxy.loses`."""
        with self._lock:
            self._spared -= 1
            if self._spared > 0 or not self.lose:
                return False
            self._spared = random.randint(5, 10)
            return super().loses()


def lose_commits(url: URL, driver: str, folder: Path, lost: int) -> Outcome:
    """Lose ``lost`` replies; the writers, with ``driver``, get no error but the one for that."""
    proxy = RandomlyLosing(url)
    try:
        with Writers(folder, url.set(drivername=driver, port=proxy.port), mode="trust") as writers:
            proxy.lose = lost
            deadline = time.monotonic() + 30 + lost
            while proxy.lose:
                writers.wait_for_turns(1, of_each=False)
                assert time.monotonic() < deadline, f"{proxy.lose} of {lost} not lost yet"
            writers.wait_for_turns(1)
    finally:
        proxy.close()
    assert proxy.lost == lost
    came = outcome(writers, url, lost)
    assert came.unavailable == 0, came
    return came
