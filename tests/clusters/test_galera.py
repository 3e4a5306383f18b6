"""Three MariaDB servers, each of which takes appends; some of them are killed."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from anyio.to_thread import run_sync

from hermes_session_mw import HermesSessionMiddleware, History, SQLAlchemyStore, StoreUnavailable
from tests.asgi import Recorder, request
from tests.store_contract import new_id
from tests.torture.kills import check

from . import galera
from .galera_node import Node
from .processes import wait_until
from .writers import turn_of, writing

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[galera.Cluster]:
    """Three servers that run; a machine may have none, CI may not."""
    missing = galera.missing()
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
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
    survivor, *others = cluster.nodes
    store = stores[0]
    acknowledged = {("0", 0): await store.append(session_id, turn_of("0", 0))}
    for node in others:
        await run_sync(node.kill)
    await run_sync(_wait_for_the_loss, survivor)
    app = HermesSessionMiddleware(Recorder(), store, on_store_error="unavailable")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="1047"):
            await store.append(session_id, turn_of("1", 0))
        assert (await request(app, session_id))[0]["status"] == 503
    await run_sync(survivor.bootstrap)
    await run_sync(survivor.wait_until_synced, 1)
    assert await store.load(session_id) == History(turn_of("0", 0), 3, exists=True)
    acknowledged["0", 1] = await store.append(session_id, turn_of("0", 1))
    await _bring_back(others)
    assert (await request(app, session_id))[0]["status"] == 200
    acknowledged["0", 2] = await stores[2].append(session_id, turn_of("0", 2))
    await _all_agree(session_id, stores, acknowledged)


async def _all_agree(
    session_id: str, stores: list[SQLAlchemyStore], acknowledged: dict[tuple[str, int], int]
) -> None:
    first, *others = [await store.load(session_id) for store in stores]
    check(first, acknowledged)
    assert all(other == first for other in others)


async def _bring_back(nodes: list[Node]) -> None:
    for size, node in enumerate(nodes, 2):
        await run_sync(node.start)
        await run_sync(node.wait_until_synced, size)


def _wait_for_the_loss(node: Node) -> None:
    wait_until(
        lambda: (
            node.status("wsrep_cluster_status") == "non-Primary"
            and node.status("wsrep_ready") == "OFF"
        ),
        20,
        "the node to see that it is alone",
    )
