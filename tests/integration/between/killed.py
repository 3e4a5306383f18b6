"""Writers that go on while what keeps their conversation is killed and comes back."""

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import anyio
from anyio.to_thread import run_sync
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.testing.helpers import new_id
from tests.integration.between import programs
from tests.integration.clusters import galera
from tests.integration.clusters.galera_node import Node
from tests.integration.clusters.writers import all_agree, writing
from tests.integration.drivers.probe import told
from tests.support import mariadb

KEPT = "nothing is lost"
WRITERS = 6
TURNS = 100
"""Turns that have to be acknowledged before, after, and meanwhile where that can be."""


def nodes_killed(balances: bool, drivers: Iterable[str]) -> list[str]:
    """Kill a node behind HAProxy for each driver; tell what became of what was acknowledged."""
    with galera.cluster() as cluster, programs.own_haproxy(cluster.urls, balances=balances) as url:
        return [_cell(partial(_node_killed, cluster, url, driver)) for driver in drivers]


def pglite_killed(drivers: Iterable[str]) -> list[str]:
    """Kill PGlite for each driver, and start it again; tell the same."""
    return [_cell(partial(_pglite_killed, driver)) for driver in drivers]


async def _node_killed(cluster: galera.Cluster, url: URL, driver: str) -> None:
    victim = _serving(cluster, url)

    def revive() -> None:
        victim.start()
        victim.wait_until_synced()

    stores = [SQLAlchemyStore(each) for each in cluster.urls]
    await _outlive(
        url.set(drivername=f"mysql+{driver}"), stores, 10, victim.kill, revive, meanwhile=TURNS
    )


async def _pglite_killed(driver: str) -> None:
    with programs.own_pglite() as own:
        url = own.url.set(drivername=f"postgresql+{driver}")
        await _outlive(url, [], 1, own.kill, own.start, meanwhile=0)


def _serving(cluster: galera.Cluster, url: URL) -> Node:
    """Return the node that a new connection is led to."""
    with mariadb.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@port")
        ((port,),) = cursor.fetchall()
    return next(node for node in cluster.nodes if node.url.port == port)


async def _outlive(
    url: URL,
    readers: list[SQLAlchemyStore],
    threads: int,
    kill: Callable[[], None],
    revive: Callable[[], None],
    *,
    meanwhile: int,
) -> None:
    """Write to one session; then hold what it and ``readers`` have against the acknowledged."""
    session_id = new_id()
    store = SQLAlchemyStore(url, threads=threads, timeout=20)
    await store.load(session_id)  # which makes the tables
    async with writing(session_id, [store], WRITERS) as writers:
        await writers.more(TURNS)
        await run_sync(kill)
        await writers.more(meanwhile)
        await run_sync(revive)
        await writers.more(TURNS)
    stores = [store, *readers]
    await all_agree(session_id, stores, writers.acknowledged)
    for each in stores:
        await each.aclose()


def _cell(run: Callable[[], Coroutine[Any, Any, None]]) -> str:
    try:
        anyio.run(run)
    except BaseException as exc:  # noqa: BLE001  # whatever it is, it is told
        return told(exc)
    return KEPT
