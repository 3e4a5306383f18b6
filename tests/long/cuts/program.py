"""One run on one database: clients, what befalls them and the servers, and the judgement."""

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from tests.long.cuts import journal, stored
from tests.long.cuts.conversations import Conversation
from tests.long.cuts.disturber import Database, Disturber
from tests.long.cuts.journal import Journal
from tests.long.cuts.judge import Judge
from tests.long.cuts.record import Record, until
from tests.long.cuts.report import Report
from tests.long.cuts.site import WORKERS, Site
from tests.long.cuts.stored import OpenTurns
from tests.long.cuts.timeline import Timeline
from tests.support import mariadb, postgres

DATABASES = ("sqlite", "postgresql", "mysql")

_OWN_SERVER = {"postgresql": postgres.own_server, "mysql": mariadb.own_server}
_OWN_DATABASE = {"postgresql": "postgres", "mysql": "test"}
_DRIVERS = {
    "postgresql": ["postgresql+psycopg", "postgresql+asyncpg"],
    "mysql": ["mysql+pymysql", "mysql+asyncmy"],
}
_SHUT_DOWN_BY = {"postgresql": signal.SIGINT, "mysql": signal.SIGTERM}


@dataclass(frozen=True)
class Size:
    """How many cuts there are, and how many conversations at once."""

    cuts: int
    conversations: int


def missing(database: str) -> str | None:
    """Return what has to be installed first, if anything."""
    if database == "postgresql" and postgres.binaries() is None:
        return "no PostgreSQL to start: install postgresql"
    if database == "mysql" and mariadb.binary() is None:
        return "no MariaDB to start: install mariadb-server"
    return None


def run(database: str, folder: Path, size: Size, seed: int) -> Report:
    """Run it; whatever is written goes to ``folder``."""
    began = time.monotonic()
    with _database(database, folder) as (urls, server):
        record, turns = Record(), OpenTurns(urls[0])
        asyncio.run(_run(folder, urls, server, record, turns, size, seed))
        found = stored.read(urls[0])
        judge = Judge(Timeline(journal.read(folder / "journal")), found, record)
        judge.judge()
    return Report(
        database, seed, time.monotonic() - began, record, judge, turns,
        (folder / "workers.log").read_text(errors="replace"),
    )  # fmt: skip


async def _run(
    folder: Path,
    urls: list[URL],
    server: Database | None,
    record: Record,
    turns: OpenTurns,
    size: Size,
    seed: int,
) -> None:
    notes = Journal(folder / "journal")
    site = Site(folder, [url.render_as_string(hide_password=False) for url in urls], notes)
    numbers = itertools.count()
    is_over = False

    async def converse() -> None:
        while not is_over:
            await Conversation(record, site.port, seed, next(numbers), lambda: is_over).run()

    async def disturb() -> None:
        nonlocal is_over
        await Disturber(site, server, notes, record, cuts=size.cuts, seed=seed).run()
        await until(lambda: record.cut >= size.cuts)
        is_over = True

    with site.serving():
        await asyncio.gather(*(site.start(number) for number in range(WORKERS)))
        watching = asyncio.create_task(_watch(record, turns))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(disturb())
            for _ in range(size.conversations):
                tasks.create_task(converse())
        watching.cancel()
    turns.look()


async def _watch(record: Record, turns: OpenTurns) -> None:
    """Look for two open turns of one session, and say how far the run is."""
    for number in itertools.count():
        await asyncio.to_thread(turns.look)
        if number % 40 == 0:
            print(f"{record.cut} cuts, {record.outcomes.total()} requests", file=sys.stderr)
        await asyncio.sleep(0.25)


@contextmanager
def _database(name: str, folder: Path) -> Iterator[tuple[list[URL], Database | None]]:
    if name == "sqlite":
        yield [URL.create("sqlite", database=f"{folder}/cuts.db")], None
        return
    with _OWN_SERVER[name]() as server:
        url = server.url.set(database=_OWN_DATABASE[name])
        urls = [url.set(drivername=driver) for driver in _DRIVERS[name]]
        yield urls, Database(server, _SHUT_DOWN_BY[name])
