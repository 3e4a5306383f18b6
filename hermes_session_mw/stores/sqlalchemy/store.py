"""The store that keeps conversations in a SQL database."""

import itertools
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio
from sqlalchemy import URL, Connection, Engine

from ...exceptions import ConfigurationError, StoreTimeout
from ...logging import logger
from ...messages import MAX_MESSAGE_BYTES, Message, encode_messages
from ..base import History, Store, check_keys, check_limit
from . import statements
from .engine import (
    check_dialect,
    check_url,
    default_threads,
    extra_writers,
    is_async,
    is_async_engine,
    make_async_engine,
    make_engine,
)
from .errors import DATABASE_ERRORS, MAY_QUOTE, REPEATABLE, Failure, understand
from .runner import PATIENCE, Runner
from .schema import create, is_complete
from .statements import CommitFailed
from .thread_runner import ThreadRunner

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

StoreLike: TypeAlias = "str | URL | Engine | AsyncEngine | Store"
"""What the middleware takes for a store."""


# Seconds.
DEFAULT_TIMEOUT = 5.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5


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
        timeout: float = DEFAULT_TIMEOUT,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Check what can be checked without a connection.

        Args:
            url_or_engine: a SQLAlchemy URL, or an engine of the caller's.
            create_schema: make the tables where they are missing; False where migrations do.
            max_message_bytes: bytes of UTF-8 that one message may take as JSON.
            threads: operations at once through a sync engine, and the size of an own engine's
                pool; by default 10, 1 for SQLite in memory, 4 for a SQLite file, where one more
                writes.
            timeout: seconds for one operation, in which it is repeated where another transaction
                was in its way or the connection broke; and those that an own engine waits for a
                connection, for a place in its pool, and for SQLite's lock.
            engine_options: for ``create_engine`` or ``create_async_engine``, with a URL.

        Raises:
            ConfigurationError: the URL is none, the database is not supported, its driver is not
                installed, a number is not positive, or options are given for an engine that
                exists already.
        """
        if timeout <= 0 or max_message_bytes <= 0 or (threads is not None and threads <= 0):
            raise ConfigurationError("timeout, max_message_bytes and threads are more than 0")
        self._timeout = timeout
        self._create_schema = create_schema
        self._max_message_bytes = max_message_bytes
        self._runner: Runner
        self._driver_error: type[Exception]
        if isinstance(url_or_engine, str | URL):
            self._url = check_url(url_or_engine)
            self._driver_error = self._url.get_dialect().import_dbapi().Error
            self._runner = self._own(threads, timeout, engine_options or {})
            return
        if engine_options:
            raise ConfigurationError("engine_options: the engine given is made already")
        self._url = url_or_engine.url
        self._driver_error = url_or_engine.dialect.loaded_dbapi.Error
        self._runner = self._borrow(url_or_engine, threads)

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`; one statement, one round trip."""
        check_keys(session_id, owner)
        check_limit(limit)
        return await self._repeat(
            lambda _, c: statements.load(c, session_id, owner, limit), writes=False
        )

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        """See `Store.append`; one short transaction.

        Every turn has an id, made here where the caller gives none, so that it can be repeated
        after a failure that leaves it open whether it was stored.

        Raises:
            AppendInDoubt: that remained open.
        """
        check_keys(session_id, owner, turn_id)
        bodies = encode_messages(messages, self._max_message_bytes)
        turn = turn_id or secrets.token_hex(16)

        def work(attempt: int, connection: Connection) -> int:
            again = turn_id is not None or attempt > 0
            return statements.append(
                connection, session_id, bodies, owner, turn, expected_length, may_be_stored=again
            )

        return await self._repeat(work, writes=True)

    async def aclose(self) -> None:
        """Dispose of the engine, if it is our own; a later call makes another."""
        await self._runner.aclose()

    def __repr__(self) -> str:
        """Say where it stores, without the password, and the state of its connections."""
        return f"<SQLAlchemyStore {self._url.render_as_string()} ({self._runner!r})>"

    async def _repeat(self, work: Callable[[int, Connection], T], *, writes: bool) -> T:
        """Run ``work``, given the number of the attempt, until it is done or time is up."""
        failures: list[Failure] = []
        with anyio.move_on_after(self._timeout):
            return await self._attempts(work, failures, writes=writes)
        before = f"; before that: {failures[-1].what}" if failures else ""
        raise StoreTimeout(
            f"the session store did not answer in time (timeout is {self._timeout} s{before}): see "
            "whether the database is up, and repeat an append with the same turn_id"
        )

    async def _attempts(
        self, work: Callable[[int, Connection], T], failures: list[Failure], *, writes: bool
    ) -> T:
        deadline = anyio.current_effective_deadline()
        in_doubt = False
        for attempt in itertools.count():
            began = anyio.current_time()
            committing = False
            cause: Exception
            try:
                return await self._runner.run(partial(work, attempt), writes=writes)
            except CommitFailed as exc:
                cause, committing = exc.cause, True
            except (*DATABASE_ERRORS, self._driver_error) as exc:
                cause = exc
            failure = understand(cause)
            failures.append(failure)
            in_doubt |= committing and failure.meaning == "lost"
            # Full jitter: those who met once do not meet again in step.
            pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))  # noqa: S311
            now = anyio.current_time()
            # Another attempt as long as this one would not end in time.
            late = now + pause + (now - began) > deadline
            if late or failure.meaning not in REPEATABLE:
                logger.debug("the database's error in full", exc_info=cause)
                error = failure.as_store_error(in_doubt=in_doubt)
                # A cause that may quote the row would be in every traceback.
                raise error from (None if failure.meaning in MAY_QUOTE else cause)
            await anyio.sleep(pause)
        raise AssertionError  # pragma: no cover  # there is always another attempt

    def _own(self, threads: int | None, timeout: float, options: Mapping[str, Any]) -> Runner:
        url = self._url
        size = threads or default_threads(url)
        pool_size = size + (extra_writers(url, size) or 0)
        settings = {"pool_size": pool_size, "timeout": timeout * PATIENCE, "options": options}
        if is_async(url):
            from .async_runner import AsyncRunner  # noqa: PLC0415  # needs greenlet

            make_async = partial(make_async_engine, url, **settings)
            return AsyncRunner(make_async, self._prepare, owned=True, timeout=timeout)
        return self._in_threads(partial(make_engine, url, **settings), size, owned=True)

    def _borrow(self, engine: "Engine | AsyncEngine", threads: int | None) -> Runner:
        check_dialect(engine.dialect.name)
        if isinstance(engine, Engine):
            lent = engine.execution_options(isolation_level="AUTOCOMMIT")
            return self._in_threads(
                lambda: lent, threads or default_threads(self._url), owned=False
            )
        from .async_runner import AsyncRunner  # noqa: PLC0415  # needs greenlet

        lent_async = engine.execution_options(isolation_level="AUTOCOMMIT")
        return AsyncRunner(lambda: lent_async, self._prepare, owned=False, timeout=self._timeout)

    def _in_threads(self, make: Callable[[], Engine], threads: int, *, owned: bool) -> ThreadRunner:
        writers = extra_writers(self._url, threads)
        return ThreadRunner(
            make,
            self._prepare,
            owned=owned,
            threads=threads,
            writers=writers,
            timeout=self._timeout,
        )

    def _prepare(self, connection: Connection) -> None:
        if not self._create_schema or is_complete(connection):
            return
        with statements.transaction(connection):
            create(connection)


def as_store(store: StoreLike, timeout: float | None = None) -> Store:
    """Return ``store`` if it is one already, else a `SQLAlchemyStore` over it.

    ``timeout`` is that store's, in seconds; None for the store's own default.

    Raises:
        ConfigurationError: it is neither a store, nor a URL, nor an engine.
    """
    if isinstance(store, str | URL | Engine) or is_async_engine(store):
        return (
            SQLAlchemyStore(store) if timeout is None else SQLAlchemyStore(store, timeout=timeout)
        )
    if isinstance(store, Store) and not isinstance(store, type):
        return store
    raise ConfigurationError(f"store: {store!r} is neither a URL, nor an engine, nor a Store")
