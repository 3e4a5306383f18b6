"""Listens to the statements of a store's engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from sqlalchemy import Engine, event

from hermes_session_mw.database.connection import Database

SERVERS = [
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "trio"),
    ("mysql+asyncmy", "asyncio"),
]
EVERYWHERE = [("sqlite", "asyncio"), *SERVERS]


@contextmanager
def listening(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements that are executed over the engine."""
    heard: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield heard
    event.remove(engine, "before_cursor_execute", note)


async def engine_of(store: Any) -> Engine:
    """Return a store's engine, once no connection is kept out of its pool."""

    def get(database: Database) -> Engine:
        return database.connection.engine

    engine: Any = await store._executor.run(get, writes=False, seconds=60)
    with anyio.fail_after(30):
        while engine.pool.checkedout():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)
    return engine  # type: ignore[no-any-return]  # an Any for its pool
