"""Three MariaDB servers, each of which takes appends; some of them are killed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.to_thread import run_sync

from hermes_session_mw import (
    HermesSessionMiddleware,
    History,
    SQLAlchemyStore,
    StoreError,
    StoreUnavailable,
)
from tests import mariadb
from tests.asgi import Recorder, request
from tests.machine import needs
from tests.store_contract import new_id

from . import galera
from .galera_node import Node
from .processes import wait_until
from .writers import Acknowledged, check, turn_of, writing

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[galera.Cluster]:
    """Three servers that run; a machine may have none, CI may not."""
    needs(galera.missing())
    with galera.cluster() as running:
        yield running


@pytest.fixture
async def stores(cluster: galera.Cluster) -> AsyncIterator[list[SQLAlchemyStore]]:
    """A store for each server."""
    stores = [SQLAlchemyStore(url) for url in cluster.urls]
    for store in stores:  # one after the other: the first makes the tables
        await store.load(new_id())
    yield stores
    for store in stores:
        await store.aclose()


async def test_a_turn_is_read_on_every_node_at_once(stores: list[SQLAlchemyStore]) -> None:
    """What one node acknowledged the next one returns, as wsrep_sync_wait=1 makes it do."""
    session_id = new_id()
    for turn in range(60):
        length = await stores[turn % 3].append(session_id, turn_of("0", turn))
        history = await stores[(turn + 1) % 3].load(session_id)
        assert history.length == length == 3 * (turn + 1)


# During a full transfer by rsync, MariaDB's donor can come to stand still for good where clients
# write to it: its FLUSH TABLES and a commit wait for each other. So only node 0 is written to then,
# which is not the donor.
@pytest.mark.parametrize(("transfer", "written_to"), [("IST", 3), ("SST", 1)])
async def test_a_killed_node_costs_nothing_acknowledged(
    cluster: galera.Cluster, stores: list[SQLAlchemyStore], transfer: str, written_to: int
) -> None:
    """Six writers go on while a node is killed and comes back; all three nodes then agree."""
    session_id = new_id()
    victim = cluster.nodes[2]
    async with writing(session_id, stores[:written_to], 6) as writers:
        await writers.more(100)
        await run_sync(victim.kill)
        await writers.more(100)
        if transfer == "SST":
            victim.forget_everything()
        await run_sync(victim.start)
        await run_sync(victim.wait_until_synced)
        await writers.more(100)
    assert victim.last_transfer() == transfer
    await _all_agree(session_id, stores, writers.acknowledged)


async def test_without_a_quorum_nothing_is_written(
    cluster: galera.Cluster, stores: list[SQLAlchemyStore]
) -> None:
    """The last of three nodes refuses, which is a 503; told that it is alone, it goes on."""
    session_id = new_id()
    store = stores[0]
    app = HermesSessionMiddleware(Recorder(), store, on_store_error="unavailable")
    acknowledged = {("0", 0): await store.append(session_id, turn_of("0", 0))}
    async with _alone(cluster):
        await run_sync(_wait_for_the_loss, cluster.nodes[0])
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="1047"):
                await store.append(session_id, turn_of("1", 0))
            assert (await request(app, session_id))[0]["status"] == 503
    assert await store.load(session_id) == History(turn_of("0", 0), 3, exists=True)
    assert (await request(app, session_id))[0]["status"] == 200
    for turn, other in enumerate(stores, 1):
        acknowledged["0", turn] = await other.append(session_id, turn_of("0", turn))
    await _all_agree(session_id, stores, acknowledged)


# Whether a COMMIT is under way then is a matter of chance, which six writers make likely.
async def test_an_append_that_loses_its_quorum_is_unavailable(
    cluster: galera.Cluster, stores: list[SQLAlchemyStore]
) -> None:
    """A COMMIT under way when the node finds itself alone fails as what can be tried again."""
    failures: list[StoreError] = []

    async def append_until_it_fails() -> None:
        session_id = new_id()
        try:
            while not over:
                await stores[0].append(session_id, turn_of("0", 0))
        except StoreError as exc:
            failures.append(exc)

    over = False
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(append_until_it_fails)
        async with _alone(cluster):
            pass
        over = True
    assert [exc for exc in failures if not isinstance(exc, StoreUnavailable)] == []


async def test_stores_on_every_node_may_make_the_tables_at_once(cluster: galera.Cluster) -> None:
    """Whoever finds no tables makes them, and nobody fails because another node was quicker."""
    for number in range(5):
        name = f"hermes_{number}"
        mariadb.execute(cluster.nodes[0].own_url, f"CREATE DATABASE {name}")
        stores = [SQLAlchemyStore(url.set(database=name)) for url in cluster.urls]
        loading = [store.load(new_id()) for store in stores]
        results = await asyncio.gather(*loading, return_exceptions=True)
        for store in stores:
            await store.aclose()
        for failure in [result for result in results if isinstance(result, BaseException)]:
            raise failure


@asynccontextmanager
async def _alone(cluster: galera.Cluster) -> AsyncIterator[None]:
    """Leave node 0 alone for the block; then make it the first of a cluster again."""
    survivor, *others = cluster.nodes
    for node in others:
        await run_sync(node.kill)
    try:
        yield
    finally:
        await run_sync(_wait_for_the_loss, survivor)
        await run_sync(survivor.bootstrap)
        await run_sync(survivor.wait_until_synced, 1)
        for size, node in enumerate(others, 2):
            await run_sync(node.start)
            await run_sync(node.wait_until_synced, size)


async def _all_agree(
    session_id: str, stores: list[SQLAlchemyStore], acknowledged: Acknowledged
) -> None:
    first, *others = [await store.load(session_id) for store in stores]
    check(first, acknowledged)
    assert all(other == first for other in others)


def _wait_for_the_loss(node: Node) -> None:
    wait_until(
        lambda: (
            node.status("wsrep_cluster_status") == "non-Primary"
            and node.status("wsrep_ready") == "OFF"
        ),
        20,
        "the node to see that it is alone",
    )
