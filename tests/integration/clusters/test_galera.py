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
    StoreMisconfigured,
    StoreUnavailable,
)
from hermes_session_mw.testing.helpers import new_id
from tests.integration.clusters import galera
from tests.integration.clusters.galera_node import Node
from tests.integration.clusters.processes import wait_until
from tests.integration.clusters.writers import all_agree, turn_of, writing
from tests.support import mariadb
from tests.support.asgi import Recorder, request
from tests.support.cutting_proxy import cutting
from tests.support.requirements import needs

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
    await all_agree(session_id, stores, writers.acknowledged)


@asynccontextmanager
async def _rejecting(node: Node) -> AsyncIterator[None]:
    """Have a node answer every query with 1047, as one does that is not ready."""
    with mariadb.connect(node.own_url) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL wsrep_reject_queries = ALL")
        try:
            yield
        finally:
            cursor.execute("SET GLOBAL wsrep_reject_queries = NONE")


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
async def test_a_node_that_rejects_is_left_for_another(
    cluster: galera.Cluster, stores: list[SQLAlchemyStore], driver: str
) -> None:
    """Behind a proxy that leads to every node in turn no operation fails for one that rejects."""
    session_id = new_id()
    length = await stores[0].append(session_id, turn_of("0", 0))
    ports = [url.port or 0 for url in cluster.urls]
    with cutting(*ports) as proxy:
        url = cluster.urls[0].set(drivername=f"mysql+{driver}", port=proxy.port)
        store = SQLAlchemyStore(url, timeout=20)
        async with anyio.create_task_group() as tasks:  # so that its pool has some of each
            for _ in range(10):
                tasks.start_soon(store.load, session_id)
        async with _rejecting(cluster.nodes[1]):
            for turn in range(1, 40):
                length += 3
                assert await store.append(session_id, turn_of("0", turn)) == length
        await store.aclose()


async def test_a_turn_over_the_write_set_is_named(
    cluster: galera.Cluster, stores: list[SQLAlchemyStore]
) -> None:
    """What the cluster would not replicate is no "try again", and names the setting."""
    session_id = new_id()
    await stores[0].append(session_id, turn_of("0", 0))
    node = cluster.nodes[0]
    (before,) = ask(node, "SELECT @@GLOBAL.wsrep_max_ws_size")
    mariadb.execute(node.own_url, "SET GLOBAL wsrep_max_ws_size = 65536")
    try:
        with pytest.raises(StoreMisconfigured, match=r"1105.*wsrep_max_ws_size"):
            await stores[0].append(session_id, [{"content": "x" * 200_000}])
    finally:
        mariadb.execute(node.own_url, f"SET GLOBAL wsrep_max_ws_size = {before}")
    assert await stores[0].append(session_id, turn_of("0", 1)) == 6


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
            # 1047 of what reads or writes a table, 1205 of what asks the node alone.
            with pytest.raises(StoreUnavailable, match=r"1047.*takes writes|1205.*a quorum"):
                await store.append(session_id, turn_of("1", 0))
            assert (await request(app, session_id))[0]["status"] == 503
        for driver in ("pymysql", "asyncmy"):  # whose first use looks for the tables
            fresh = SQLAlchemyStore(cluster.urls[0].set(drivername=f"mysql+{driver}"), timeout=600)
            with (
                anyio.fail_after(60),
                pytest.raises(StoreUnavailable, match=r"1047.*takes writes|1205.*a quorum"),
            ):
                await fresh.load(session_id)
            await fresh.aclose()
    assert await store.load(session_id) == History(turn_of("0", 0), 3, exists=True)
    assert (await request(app, session_id))[0]["status"] == 200
    for turn, other in enumerate(stores, 1):
        acknowledged["0", turn] = await other.append(session_id, turn_of("0", turn))
    await all_agree(session_id, stores, acknowledged)


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


def ask(node: Node, statement: str) -> tuple[int, ...]:
    """Return the one row that a node answers."""
    with mariadb.connect(node.own_url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        ((value,),) = cursor.fetchall()
    return (int(value),)


def _wait_for_the_loss(node: Node) -> None:
    wait_until(
        lambda: (
            node.status("wsrep_cluster_status") == "non-Primary"
            and node.status("wsrep_ready") == "OFF"
        ),
        20,
        "the node to see that it is alone",
    )
