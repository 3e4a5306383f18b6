"""The store that keeps conversations in a SQL database."""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy import URL, Engine

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.drivers import check_url
from hermes_session_mw.database.engine import check_positive, is_async_engine
from hermes_session_mw.database.errors import raised_over
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TURN_MESSAGES,
    Message,
    encode_messages,
)
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.models import MAX_TURNS
from hermes_session_mw.stores.sqlalchemy.executor_factory import ExecutorFactory
from hermes_session_mw.stores.sqlalchemy.lifecycle import Lifecycle
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.stores.sqlalchemy.statements.append import append
from hermes_session_mw.stores.sqlalchemy.statements.load import load
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import replace
from hermes_session_mw.stores.validation import check_age, check_count, check_int, check_keys

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

StoreLike: TypeAlias = "str | URL | Engine | AsyncEngine | Store"
"""What the middleware takes for a store."""


DEFAULT_TIMEOUT = 5.0
"""Seconds."""


class SQLAlchemyStore(Lifecycle):
    """Keeps conversations in SQLite, PostgreSQL, MariaDB or MySQL, through SQLAlchemy.

    Given a URL, it makes its own engine when it is first asked for something, sets SQLite up
    (WAL, ``synchronous=FULL``, foreign keys), and disposes of the engine in ``aclose()``. Given
    an engine, it borrows that one as it is, and never disposes of it. A later call after
    ``aclose()`` makes a new engine.

    A sync engine works on asyncio and trio alike, an asyncio one under asyncio alone.

    Attributes:
        timeout: the seconds after which every operation ends, whatever the database does.
        max_message_bytes: bytes of UTF-8 that one message may take as JSON.
        max_turn_messages: messages that one turn may have.
    """

    def __init__(
        self,
        url_or_engine: "str | URL | Engine | AsyncEngine" = "sqlite:///hermes_sessions.db",
        *,
        create_schema: bool = True,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_turn_messages: int = MAX_TURN_MESSAGES,
        max_turns: int = MAX_TURNS,
        threads: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Check what can be checked without a connection.

        Args:
            url_or_engine: a SQLAlchemy URL, or an engine of the caller's.
            create_schema: make the tables where they are missing; False where migrations do.
            max_message_bytes: bytes of UTF-8 that one message may take as JSON.
            max_turn_messages: messages that one turn may have.
            max_turns: turns that one conversation may have.
            threads: operations at once through a sync engine, and the size of an own engine's
                pool; by default 10, 1 for SQLite in memory, 2 for a SQLite file, where one more
                writes.
            timeout: seconds for one operation, in which it is repeated where another transaction
                was in its way or the connection broke; and those that an own engine waits for a
                connection, for a place in its pool, and for SQLite's lock.
            engine_options: for ``create_engine`` or ``create_async_engine``, with a URL.

        Raises:
            ConfigurationError: the URL is none, the database or the driver is not supported, the
                driver is not installed, a number is not positive, or options are given for an
                engine that exists already.
        """
        check_positive(
            timeout=timeout,
            threads=1 if threads is None else threads,
            max_message_bytes=max_message_bytes,
            max_turn_messages=max_turn_messages,
            max_turns=max_turns,
        )
        self._encode = partial(
            encode_messages, max_bytes=max_message_bytes, max_messages=max_turn_messages
        )
        self.max_message_bytes = max_message_bytes
        self.max_turn_messages = max_turn_messages
        self._max_turns = max_turns
        self.timeout = timeout
        maker = ExecutorFactory(create_schema=create_schema, threads=threads, timeout=timeout)
        if isinstance(url_or_engine, str | URL):
            self._url = check_url(url_or_engine)
            dbapi = self._url.get_dialect().import_dbapi()
            self._runner = maker.own(self._url, engine_options or {})
        elif engine_options:
            raise ConfigurationError("engine_options: the engine given is made already")
        elif not (isinstance(url_or_engine, Engine) or is_async_engine(url_or_engine)):
            raise ConfigurationError(f"store: {url_or_engine!r} is neither a URL nor an engine")
        else:
            self._url = url_or_engine.url
            self._runner = maker.borrowing(url_or_engine)
            dbapi = url_or_engine.dialect.loaded_dbapi
        self._attempts = RetryingExecutor(self._runner, raised_over(dbapi), timeout)

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`; one round trip, and a second one where nothing is stored."""
        check_keys(session_id, owner)
        check_count("limit", limit)
        return await self._attempts.run(lambda c: load(c, session_id, owner, limit), writes=False)

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
        *,
        fence: int | None = None,
        replace_from: int | None = None,
    ) -> int:
        """See `Store.append`, and `LifecycleStore.append`; one short transaction.

        Every turn has an id, made here where the caller gives none, so that it can be repeated
        after a failure that leaves it open whether it was stored.

        Raises:
            AppendInDoubt: that remained open.
        """
        check_keys(session_id, owner, turn_id)
        check_int("expected_length", expected_length)
        check_count("replace_from", replace_from)
        bodies = self._encode(messages)
        turn = turn_id or secrets.token_hex(16)
        attempts = itertools.count()

        def work(database: Database) -> int:
            do = append if replace_from is None else partial(replace, replace_from=replace_from)
            return do(
                database,
                session_id,
                bodies,
                owner,
                turn,
                expected_length,
                may_be_stored=next(attempts) > 0 or turn_id is not None,
                max_turns=self._max_turns,
                fence=fence,
            )

        return await self._attempts.run(work, writes=True)

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse what ``append`` would refuse for itself; the database is not asked.

        Raises:
            InvalidMessage: there is no message, or one cannot be stored as it is.
            MessageTooLarge: one takes more bytes than ``max_message_bytes``.
            TurnTooLong: there are more than ``max_turn_messages``.
        """
        self._encode(messages)

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """Remove the conversation, and tell whether there was one.

        Its id is not used again: it loads as unknown (``History.deleted``), and an append, even
        one that began before, raises ``SessionDeleted``. The database keeps the id, without any
        message, until ``prune()`` removes that too.

        Raises:
            InvalidKey: an id cannot be stored.
            StoreError: the store failed.
        """
        check_keys(session_id, owner)
        return await self._attempts.run(
            lambda c: delete_prune.delete_session(c, session_id, owner), writes=True
        )

    async def prune(self, older_than: timedelta) -> int:
        """Remove what nobody has appended to for ``older_than``, and return how many sessions.

        Keys that are as old, and that lead to nothing stored, go with it.

        Time is the database's own. The work is done in small transactions, so that nobody waits
        long; a session that is appended to meanwhile, or whose turn is taken, stays. After a
        failure, call it again.

        Raises:
            ValueError: ``older_than`` is negative.
            StoreError: the store failed.
        """
        check_age(older_than)
        seconds = min(older_than, delete_prune.OLDEST).total_seconds()
        removed, last = 0, ("", "")
        while True:
            find = partial(delete_prune.find_expired, seconds=seconds, after=last)
            expired = await self._attempts.run(find, writes=False)
            for portion in delete_prune.portions(expired):
                remove = partial(delete_prune.remove_expired, portion=portion, seconds=seconds)
                removed += await self._attempts.run(remove, writes=True)
            if len(expired) < delete_prune.BATCH:
                break
            last = expired[-1][:2]
        drop = partial(delete_prune.drop_idle_keys, seconds=seconds)
        await self._attempts.run(drop, writes=True)
        return removed

    async def aclose(self) -> None:
        """Dispose of the engine, if it is our own; a later call makes another."""
        await self._runner.aclose()

    def __repr__(self) -> str:
        """Say where it stores, without the password, and the state of its connections."""
        return f"<SQLAlchemyStore {self._url.render_as_string()} ({self._runner!r})>"


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
