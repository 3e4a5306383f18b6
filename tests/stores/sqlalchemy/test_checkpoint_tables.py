"""The tables of checkpoints: made for who uses them, and for nobody else."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL, MetaData, create_engine, inspect, text

from hermes_session_mw import SQLAlchemyStore, StoreMisconfigured, migrations
from hermes_session_mw.stores.checkpoint_store import Checkpoint
from hermes_session_mw.testing.helpers import numbered
from tests.support.own_databases import own_database

TABLES = {"hermes_checkpoints", "hermes_checkpoint_writes"}
MODULES = ("stores.checkpoint_store", "stores.sqlalchemy.checkpoints", "stores.memory.checkpoints")
ONE = Checkpoint("c0", "bytes", b"\0", {})
every_database = pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("sqlite", "trio"), ("postgresql+psycopg", "asyncio"), ("mysql+pymysql", "asyncio")],
)


def tables_of(url: URL) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


@every_database
async def test_the_first_checkpoint_makes_the_tables(
    driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Sessions are deleted, cleared and pruned without them; two stores may make them at once."""
    with own_database(request, driver, tmp_path) as url:
        stores = [SQLAlchemyStore(url), SQLAlchemyStore(url)]
        for name in ("a", "b"):
            await stores[0].append(name, numbered(0))
        assert await stores[0].clear("a")
        assert await stores[0].delete("b")
        await stores[0].prune(timedelta(0))
        assert not TABLES & tables_of(url)
        async with anyio.create_task_group() as tasks:
            for store in stores:
                tasks.start_soon(store.checkpoints.put, "a", ONE)
        assert tables_of(url) >= TABLES
        # The store that has never asked for a checkpoint removes them too.
        third = SQLAlchemyStore(url)
        assert await third.delete("a")
        assert await stores[0].checkpoints.find("a") is None
        for store in (*stores, third):
            await store.aclose()


@every_database
async def test_a_migration_makes_the_tables(
    driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A store that makes no tables names the upgrade, and works after it."""
    with own_database(request, driver, tmp_path) as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            migrations.upgrade(connection)
        store = SQLAlchemyStore(url, create_schema=False)
        with pytest.raises(StoreMisconfigured, match=r"migrations\.upgrade.*checkpoints=True"):
            await store.checkpoints.put("a", ONE)
        for _ in range(2):
            with engine.begin() as connection:
                migrations.upgrade(connection, checkpoints=True)
        await store.checkpoints.put("a", ONE)
        assert (await store.checkpoints.heads("a")) == {"": "c0"}
        await store.aclose()
        engine.dispose()


def test_the_tables_are_added_to_a_metadata() -> None:
    """Alembic is given them where they are asked for, with their foreign keys."""
    metadata = MetaData()
    assert not TABLES & {table.name for table in migrations.add_tables(metadata)}
    migrations.add_tables(metadata, checkpoints=True)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    (key,) = inspect(engine).get_foreign_keys("hermes_checkpoints")
    assert key["referred_table"] == "hermes_sessions"
    engine.dispose()


def test_who_keeps_no_checkpoints_imports_nothing_of_them() -> None:
    """The package, a store and its operations know no module of checkpoints."""
    program = (
        "import sys, anyio; from datetime import timedelta; import hermes_session_mw as h\n"
        "async def main():\n"
        "    for store in (h.MemoryStore(), h.SQLAlchemyStore('sqlite://')):\n"
        "        await store.append('a', [{'n': 1}]); await store.clear('a')\n"
        "        await store.delete('a'); await store.prune(timedelta(0)); await store.aclose()\n"
        "anyio.run(main)\n"
        f"assert not {{'hermes_session_mw.' + m for m in {MODULES}}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@every_database
async def test_a_checkpoint_keeps_its_session_from_a_prune(
    driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A session without a message, whose graph still runs, is as old as its newest checkpoint."""
    with own_database(request, driver, tmp_path) as url:
        store = SQLAlchemyStore(url)
        for name in ("a", "b"):
            await store.checkpoints.put(name, ONE)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE hermes_sessions SET updated_at='2001-01-01 00:00:00'"))
        engine.dispose()
        await store.checkpoints.put("b", ONE)
        assert await store.prune(timedelta(days=1)) == 1
        assert await store.checkpoints.heads("a") == {}
        assert await store.checkpoints.heads("b") == {"": "c0"}
        await store.aclose()
