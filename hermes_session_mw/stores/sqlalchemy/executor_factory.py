"""Chooses the executor for a URL or an engine: over threads or asyncio, owned or borrowed."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine

from hermes_session_mw.database.connection import Database, database_of
from hermes_session_mw.database.connection_settings import check_isolation, check_settings
from hermes_session_mw.database.drivers import check_engine, check_options
from hermes_session_mw.database.engine import (
    connections_of,
    default_threads,
    extra_writers,
    is_async,
    make_async_engine,
    make_engine,
    sqlite_file,
)
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.database.workers.executor import WAIT_SHARE, Executor, invalidate_after
from hermes_session_mw.database.workers.thread_executor import ThreadExecutor
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import note_complete
from hermes_session_mw.stores.sqlalchemy.schema.creation import create_at_first_use
from hermes_session_mw.stores.sqlalchemy.schema.migrations import is_complete

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class ExecutorFactory:
    """Makes executors; with ``create_schema`` their first connection creates the tables.

    ``threads`` and ``timeout`` are as for `SQLAlchemyStore`. ``prepare_more`` prepares tables that
    few have, after the others.
    """

    def __init__(
        self,
        *,
        create_schema: bool,
        threads: int | None,
        timeout: float,
        prepare_more: Callable[[Database], None] | None = None,
    ) -> None:
        self._create_schema = create_schema
        self._prepare_more = prepare_more
        self._threads = threads
        self._timeout = timeout

    def for_url(self, url: URL, options: Mapping[str, Any]) -> Executor:
        """Return an executor that makes an engine of its own, with ``options``, or refuse these."""
        check_options(options)
        check_isolation(options)
        threads = self._threads or default_threads(url)
        wait = self._timeout * WAIT_SHARE
        settings: dict[str, Any] = {
            "pool_size": threads + (extra_writers(url, threads) or 0),
            "timeout": wait,
            "options": options,
        }
        file = sqlite_file(url, wait)
        if is_async(url):
            return self._asyncio_executor(
                partial(make_async_engine, url, file, **settings),
                owned=True,
                places=connections_of(settings["pool_size"], options),
            )
        return self._thread_executor(partial(make_engine, url, file, **settings), url, owned=True)

    def for_engine(self, engine: "Engine | AsyncEngine") -> Executor:
        """Return an executor over the caller's engine, which is never disposed of."""
        check_engine(engine.dialect)
        if isinstance(engine, Engine):
            autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
            return self._thread_executor(lambda: autocommit, engine.url, owned=False)
        autocommit_async = engine.execution_options(isolation_level="AUTOCOMMIT")
        return self._asyncio_executor(lambda: autocommit_async, owned=False)

    def _thread_executor(self, make: Callable[[], Engine], url: URL, *, owned: bool) -> Executor:
        threads = self._threads or default_threads(url)
        return ThreadExecutor(
            make,
            self._prepare,
            owned=owned,
            threads=threads,
            writers=extra_writers(url, threads),
            timeout=self._timeout,
        )

    def _asyncio_executor(
        self, make: "Callable[[], AsyncEngine]", *, owned: bool, places: float = math.inf
    ) -> Executor:
        from hermes_session_mw.database.workers.asyncio_executor import AsyncioExecutor  # noqa: PLC0415  # greenlet

        return AsyncioExecutor(
            make, self._prepare, owned=owned, timeout=self._timeout, places=places
        )

    def _prepare(self, connection: Connection) -> None:
        try:
            if self._create_schema:
                check_settings(database_of(connection))
                if not is_complete(connection):
                    with transaction(database_of(connection), may_end=True):
                        create_at_first_use(connection)
                note_complete(connection.dialect)
            if self._prepare_more is not None:
                self._prepare_more(database_of(connection))
        except Exception as exc:
            invalidate_after(exc, connection)
            raise
