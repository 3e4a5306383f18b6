"""The store that keeps conversations in a SQL database."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy import URL, Connection, Engine

from ...exceptions import ConfigurationError
from ...messages import MAX_MESSAGE_BYTES, Message, encode_messages
from ..base import History, Store, check_keys, check_limit
from . import statements
from .engine import (
    check_dialect,
    check_url,
    default_threads,
    is_async,
    is_async_engine,
    make_async_engine,
    make_engine,
)
from .errors import DATABASE_ERRORS, as_store_error
from .runner import Runner, Work
from .schema import create, is_complete
from .thread_runner import ThreadRunner

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

StoreLike: TypeAlias = "str | URL | Engine | AsyncEngine | Store"
"""What the middleware takes for a store."""


class SQLAlchemyStore:
    """Keeps conversations in SQLite, PostgreSQL, MariaDB or MySQL, through SQLAlchemy.

    Given a URL, it makes its own engine when it is first asked for something, sets SQLite up
    (WAL, ``synchronous=FULL``, foreign keys), and disposes of the engine in ``aclose()``. Given
    an engine, it borrows that one as it is, and never disposes of it. A later call after
    ``aclose()`` makes a new engine.

    A sync engine works on asyncio and trio alike, an asyncio one under asyncio alone.
    """

    def __init__(
        self,
        url_or_engine: "str | URL | Engine | AsyncEngine" = "sqlite:///hermes_sessions.db",
        *,
        create_schema: bool = True,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        threads: int | None = None,
        timeout: float = 5.0,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Check what can be checked without a connection.

        Args:
            url_or_engine: a SQLAlchemy URL, or an engine of the caller's.
            create_schema: make the tables where they are missing; False where migrations do.
            max_message_bytes: bytes of UTF-8 that one message may take as JSON.
            threads: operations at once through a sync engine, which is also the size of an own
                engine's pool; by default 4 for SQLite, 1 for SQLite in memory, else 10.
            timeout: seconds that an own engine waits for a connection, for a place in its pool,
                and for SQLite's lock.
            engine_options: for ``create_engine`` or ``create_async_engine``, with a URL.

        Raises:
            ConfigurationError: the URL is none, the database is not supported, its driver is not
                installed, a number is not positive, or options are given for an engine that
                exists already.
        """
        if timeout <= 0 or max_message_bytes <= 0 or (threads is not None and threads <= 0):
            raise ConfigurationError("timeout, max_message_bytes and threads are more than 0")
        self._create_schema = create_schema
        self._max_message_bytes = max_message_bytes
        self._runner: Runner
        if isinstance(url_or_engine, str | URL):
            self._url = check_url(url_or_engine)
            self._runner = self._own(threads, timeout, engine_options or {})
            return
        if engine_options:
            raise ConfigurationError("engine_options: the engine given is made already")
        self._url = url_or_engine.url
        self._runner = self._borrow(url_or_engine, threads, timeout)

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`; one statement, one round trip."""
        check_keys(session_id, owner)
        check_limit(limit)
        return await self._run(lambda c: statements.load(c, session_id, owner, limit))

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        """See `Store.append`; one short transaction."""
        check_keys(session_id, owner, turn_id)
        bodies = encode_messages(messages, self._max_message_bytes)
        return await self._run(
            lambda c: statements.append(c, session_id, bodies, owner, turn_id, expected_length)
        )

    async def aclose(self) -> None:
        """Dispose of the engine, if it is our own; a later call makes another."""
        await self._runner.aclose()

    def __repr__(self) -> str:
        """Say where it stores, without the password, and the state of its connections."""
        return f"<SQLAlchemyStore {self._url.render_as_string()} ({self._runner!r})>"

    async def _run(self, work: Work[T]) -> T:
        try:
            return await self._runner.run(work)
        except DATABASE_ERRORS as exc:
            raise as_store_error(exc) from exc

    def _own(self, threads: int | None, timeout: float, options: Mapping[str, Any]) -> Runner:
        url = self._url
        size = threads or default_threads(url, url.get_dialect().name)
        settings = {"pool_size": size, "timeout": timeout, "options": options}
        if is_async(url):
            from .async_runner import AsyncRunner  # noqa: PLC0415  # needs greenlet

            make_async = partial(make_async_engine, url, **settings)
            return AsyncRunner(make_async, self._prepare, owned=True)
        make = partial(make_engine, url, **settings)
        return ThreadRunner(make, self._prepare, owned=True, threads=size, timeout=timeout)

    def _borrow(
        self, engine: "Engine | AsyncEngine", threads: int | None, timeout: float
    ) -> Runner:
        check_dialect(engine.dialect.name)
        if isinstance(engine, Engine):
            size = threads or default_threads(engine.url, engine.dialect.name)
            return ThreadRunner(
                lambda: engine, self._prepare, owned=False, threads=size, timeout=timeout
            )
        from .async_runner import AsyncRunner  # noqa: PLC0415  # needs greenlet

        return AsyncRunner(lambda: engine, self._prepare, owned=False)

    def _prepare(self, connection: Connection) -> None:
        if not self._create_schema or is_complete(connection):
            return
        connection.rollback()  # ends what looking began
        with statements.transaction(connection):
            create(connection)


def as_store(store: StoreLike) -> Store:
    """Return ``store`` if it is one already, else a `SQLAlchemyStore` over it.

    Raises:
        ConfigurationError: it is neither a store, nor a URL, nor an engine.
    """
    if isinstance(store, str | URL | Engine) or is_async_engine(store):
        return SQLAlchemyStore(store)
    if isinstance(store, Store) and not isinstance(store, type):
        return store
    raise ConfigurationError(f"store: {store!r} is neither a URL, nor an engine, nor a Store")
