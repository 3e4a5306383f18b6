"""The tables: what earlier versions lack is added, and what is missing is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, text

from hermes_session_mw import SQLAlchemyStore, StoreMisconfigured
from hermes_session_mw.stores.sqlalchemy.schema import migrations, tables
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.own_databases import own_database

# What the tables had before conversations could be edited, branched and taken in turns.
ADDED_LATER = [
    "first_seq",
    "archived",
    "fence",
    "leased_until",
    "title",
    "parent_id",
    "answer_fence",
    "metadata",
    "has_message_ids",
    "data_key",
    "tags",
    "pinned",
    "shelved",
    "has_labels",
]
LATER_TABLES = [
    tables.labels,
    tables.message_ids,
    tables.archive,
    tables.keys,
    tables.counters,
    tables.answer_events,
    tables.answers,
]
DATABASES = ["sqlite", "postgresql+psycopg", "mysql+pymysql"]


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A database that no other test has stored anything in, or goes on using."""
    with own_database(request, request.param, tmp_path) as made:
        yield made


def age(engine: Engine, *, tables: bool = True) -> None:
    """Make the tables what they were at first, or only the columns of the first ones."""
    with engine.begin() as connection:
        for table in LATER_TABLES if tables else ():
            table.drop(connection)
        for column in ADDED_LATER:
            connection.execute(text(f"ALTER TABLE hermes_sessions DROP COLUMN {column}"))


@pytest.mark.parametrize("tables", [True, False], ids=["tables and columns", "columns"])
async def test_earlier_tables_get_what_came_later(database: URL, *, tables: bool) -> None:
    """Columns and tables that came later are added where they are missing, and nothing is lost."""
    session_id = new_id()
    store = SQLAlchemyStore(database)
    await store.append(session_id, numbered(0, 4), turn_id="t")
    await store.aclose()
    engine = create_engine(database)
    age(engine, tables=tables)
    with engine.connect() as connection:
        assert not migrations.is_complete(connection)
    assert (await store.load(session_id)).messages == numbered(0, 4)
    assert await store.append(session_id, numbered(0, 4), turn_id="t") == 4
    assert await store.rewind(session_id, 2) == 2
    assert await store.acquire(session_id, 5) == 1
    with engine.connect() as connection:
        assert migrations.is_complete(connection)
    await store.aclose()
    engine.dispose()


async def test_tables_that_migrations_keep_are_left_alone(tmp_path: Path) -> None:
    """With create_schema=False nothing is added, and what is missing is told by name."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    store = SQLAlchemyStore(url)
    await store.append("id", numbered(0))
    await store.aclose()
    engine = create_engine(url)
    age(engine)
    kept = SQLAlchemyStore(url, create_schema=False)
    assert (await kept.load("id")).messages == numbered(0)
    with pytest.raises(StoreMisconfigured, match="column"):
        await kept.append("id", numbered(1))
    with engine.connect() as connection:
        assert not migrations.is_complete(connection)
    await kept.aclose()
    engine.dispose()
