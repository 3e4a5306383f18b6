"""Killing the database server with SIGKILL, and starting it again, while writers write."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL

from tests.long.torture.checker import Outcome, outcome
from tests.long.torture.writers import Writers
from tests.support.database_server import OwnServer


def kill_server(server: OwnServer, urls: Sequence[URL], folder: Path, kills: int) -> Outcome:
    """Crash ``server`` ``kills`` times; in some rounds a writer is killed too.

    ``urls`` lead to one database of it, with the drivers that the writers get in turn.
    """
    with Writers(folder, *urls, mode="repeat") as writers:
        for _ in range(kills):
            time.sleep(random.uniform(0, 0.5))
            server.kill()
            if random.random() < 0.3:
                writers.replace_one()
            time.sleep(random.uniform(0, 0.5))
            server.start()
            # Who came through the outage goes on.
            writers.wait_for_turns(1)
    return outcome(writers, urls[0], kills)
