"""Killing writers with SIGKILL."""

import random
import time
from pathlib import Path

from sqlalchemy import URL

from tests.long.torture.checker import Outcome, outcome
from tests.long.torture.writers import Writers


def kill_writers(url: URL, folder: Path, kills: int) -> Outcome:
    """Kill ``kills`` of eight writers to one session, each replaced by another."""
    with Writers(folder, url, mode="trust") as writers:
        for _ in range(kills):
            time.sleep(random.uniform(0, 0.15))
            writers.replace_one()
    return outcome(writers, url, kills)
