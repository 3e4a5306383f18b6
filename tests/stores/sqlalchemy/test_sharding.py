"""The tables shard by conversation: no statement touches two."""

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.schema import CreateIndex, CreateTable

from hermes_session_mw import SessionDeleted, SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.testing.helpers import numbered
from tests.support import postgres


def partition(url: URL) -> None:
    """Make the tables in four parts each, as a migration would."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, key in ((tables.sessions, "owner, id"), (tables.messages, "owner, session_id")):
            statement = str(CreateTable(table).compile(engine)).rstrip()
            connection.execute(text(f"{statement} PARTITION BY HASH ({key})"))
            for part in range(4):
                connection.execute(
                    text(
                        f"CREATE TABLE {table.name}_{part} PARTITION OF {table.name} "
                        f"FOR VALUES WITH (MODULUS 4, REMAINDER {part})"
                    )
                )
        for index in tables.messages.indexes:
            connection.execute(CreateIndex(index))
    engine.dispose()


async def test_partitioned_tables_work(postgres_server: URL) -> None:
    """On tables that PostgreSQL partitions by conversation everything works as on plain ones."""
    with postgres.database(postgres_server) as url:
        partition(url)
        store = SQLAlchemyStore(url)
        for number in range(12):
            session_id = f"s{number}"
            assert await store.append(session_id, numbered(0, 2), turn_id="t") == 2
            assert await store.append(session_id, numbered(0, 2), turn_id="t") == 2
            assert await store.append(session_id, numbered(2)) == 3
            assert (await store.load(session_id)).messages == numbered(0, 3)
        assert await store.delete("s3")
        with pytest.raises(SessionDeleted):
            await store.append("s3", numbered(0))
        await store.aclose()
