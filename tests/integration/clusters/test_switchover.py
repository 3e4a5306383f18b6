"""Two MariaDB servers behind one address: the first takes no writes any more, the second does."""

from collections.abc import Iterator

import anyio
import pytest
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore, StoreUnavailable
from hermes_session_mw.testing.helpers import new_id
from tests.support import mariadb
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.requirements import needs

HELLO = {"role": "user", "content": "hello"}
DRIVERS = [
    ("mysql+pymysql", "asyncio"),
    ("mysql+pymysql", "trio"),
    ("mysql+asyncmy", "asyncio"),
]
every_driver = pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
USER = "application"  # who may not write to a server that is read-only, as root may


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[URL, URL]]:
    """Two servers of our own, each with a database and a user without special rights."""
    if mariadb.binary() is None:
        needs("no MariaDB: install mariadb-server")
    with mariadb.own_server() as first, mariadb.own_server() as second:
        for own in (first, second):
            mariadb.execute(own.url, "CREATE DATABASE chat")
            mariadb.execute(own.url, f"CREATE USER {USER}@localhost")
            mariadb.execute(own.url, f"GRANT ALL ON chat.* TO {USER}@localhost")
        yield first.url, second.url


@pytest.fixture
def proxy(servers: tuple[URL, URL]) -> Iterator[CuttingProxy]:
    """An address that leads to the first server, which takes writes."""
    with cutting(servers[0].port or 0) as running:
        yield running
    mariadb.execute(servers[0], "SET GLOBAL read_only = 0")


def url_of(server: URL, driver: str, port: int) -> URL:
    return server.set(drivername=driver, username=USER, database="chat", port=port)


@every_driver
async def test_a_server_that_is_read_only_now_is_left(
    servers: tuple[URL, URL], proxy: CuttingProxy, driver: str
) -> None:
    """Ten at once go on with the second server, while their connections to the first still work."""
    first, second = servers
    there = SQLAlchemyStore(url_of(second, driver, second.port or 0))
    await there.load(new_id())  # which makes the tables
    store = SQLAlchemyStore(url_of(first, driver, proxy.port), timeout=60)
    ids = [new_id() for _ in range(10)]
    async with anyio.create_task_group() as tasks:
        for session_id in ids:
            tasks.start_soon(store.append, session_id, [HELLO])
    mariadb.execute(first, "SET GLOBAL read_only = 1")
    proxy.lead_to(second.port or 0)
    lengths: list[int] = []

    async def append(session_id: str) -> None:
        lengths.append(await store.append(session_id, [HELLO]))

    async with anyio.create_task_group() as tasks:
        for session_id in ids:
            tasks.start_soon(append, session_id)
    assert lengths == [1] * 10  # nothing was replicated here
    for session_id in ids:
        assert (await there.load(session_id)).length == 1
    await store.aclose()
    await there.aclose()


@every_driver
async def test_a_server_that_stays_read_only_is_unavailable(
    servers: tuple[URL, URL], proxy: CuttingProxy, driver: str
) -> None:
    """Where there is no other the error says so long before the time is up, and reads go on."""
    session_id = new_id()
    store = SQLAlchemyStore(url_of(servers[0], driver, proxy.port), timeout=600)
    await store.append(session_id, [HELLO])
    mariadb.execute(servers[0], "SET GLOBAL read_only = 1")
    with anyio.fail_after(60), pytest.raises(StoreUnavailable, match=r"1290.*takes writes"):
        await store.append(session_id, [HELLO])
    assert (await store.load(session_id)).length == 1
    mariadb.execute(servers[0], "SET GLOBAL read_only = 0")
    assert await store.append(session_id, [HELLO]) == 2
    await store.aclose()
