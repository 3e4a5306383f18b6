"""The store that keeps conversations in a SQL database.

Every operation checks its arguments here, and is then one function of `statements`, which a
`RetryingExecutor` runs over a pooled connection. Every write is one short transaction, repeated
after a lock conflict with another transaction or a lost connection.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.drivers import check_url
from hermes_session_mw.database.engine import check_positive, is_async_engine
from hermes_session_mw.database.errors import errors_of
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import ConfigurationError, NotSupported, SessionFull
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TURN_MESSAGES,
    Message,
    encode_messages,
)
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.base import History, takes_encoded
from hermes_session_mw.stores.expiry import ExpiryStore, Setting, check_expiry, check_store_expiry
from hermes_session_mw.stores.first_words import first_words_of
from hermes_session_mw.stores.labels import pairs_of
from hermes_session_mw.stores.message_store import (
    ANY,
    ExpectedMetadata,
    HistoryRange,
    StoredMessage,
)
from hermes_session_mw.stores.models import (
    MAX_TURNS,
    PAGE,
    ArchivedMessage,
    SessionInfo,
    SessionPage,
    StoredTurn,
)
from hermes_session_mw.stores.pagination import (
    decode_owned_cursor,
    owned_page_of,
)
from hermes_session_mw.stores.sqlalchemy.answers import SQLAlchemyAnswers
from hermes_session_mw.stores.sqlalchemy.executor_factory import ExecutorFactory
from hermes_session_mw.stores.sqlalchemy.labels import SQLAlchemyLabels
from hermes_session_mw.stores.sqlalchemy.owners import SQLAlchemyOwners
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import refuse_search_index
from hermes_session_mw.stores.sqlalchemy.statements import (
    delete_prune,
    fork_rotate_import,
    leases,
    list_sessions,
    rewind_compact,
    session_keys,
    session_metadata,
    turns,
)
from hermes_session_mw.stores.sqlalchemy.statements.append import NewTitle, append
from hermes_session_mw.stores.sqlalchemy.statements.append_with_ids import (
    TurnDetails,
    append_with_ids,
)
from hermes_session_mw.stores.sqlalchemy.statements.history_texts import HistoryTexts
from hermes_session_mw.stores.sqlalchemy.statements.keyset import START
from hermes_session_mw.stores.sqlalchemy.statements.load import load, load_parsed
from hermes_session_mw.stores.sqlalchemy.statements.load_range import (
    FoundRange,
    load_range,
    load_range_parsed,
)
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import find_message
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import AnswerExpired
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import portions
from hermes_session_mw.stores.validation import (
    check_age,
    check_count,
    check_int,
    check_key,
    check_keys,
    check_lease,
    check_message_id,
    check_message_ids,
    check_page,
    check_prefix,
    check_range,
    check_title,
    encode_expected,
    encode_metadata,
    encode_replaced,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from hermes_session_mw.stores.checkpoint_store import CheckpointStore
    from hermes_session_mw.stores.encryption import Keyring
    from hermes_session_mw.stores.search import SearchOptions, SearchPage
    from hermes_session_mw.stores.sqlalchemy.expiry import SQLAlchemyExpiry
    from hermes_session_mw.stores.sqlalchemy.search import SQLAlchemySearch

DEFAULT_TIMEOUT = 5.0
"""The default ``timeout``, in seconds."""


class SQLAlchemyStore(SQLAlchemyLabels, SQLAlchemyOwners, SQLAlchemyAnswers):
    """An `AnswerStore` and `LabelStore` in SQLite, PostgreSQL or MariaDB, through SQLAlchemy.

    With a URL, the store owns its engine: the first operation creates it and sets SQLite up (WAL,
    ``synchronous=FULL``, foreign keys), ``aclose()`` disposes of it, and a later operation creates
    another. With an engine, the store borrows it as it is, and never disposes of it.

    A sync engine works with asyncio and trio, an asyncio engine with asyncio alone.

    Attributes:
        timeout: the seconds after which an operation ends in any case.
        max_message_bytes: bytes of UTF-8 that one message may take as JSON.
        max_turn_messages: messages that one turn may have.
    """

    # Of the operator's store it is not, which drops the index.
    _refuses_index: bool = True

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
        title_from_first_words: bool = False,
        engine_options: Mapping[str, Any] | None = None,
        encryption: "Keyring | None" = None,
        expires_after: Setting | None = None,
        search: "bool | SearchOptions" = False,
    ) -> None:
        """Check the arguments, without a connection.

        Args:
            url_or_engine: a SQLAlchemy URL, or an engine that the store borrows.
            create_schema: whether to create missing tables; False if migrations create them.
            max_message_bytes: bytes of UTF-8 that one message may take as JSON.
            max_turn_messages: messages that one turn may have.
            max_turns: turns that one conversation may have.
            threads: how many operations a sync engine runs at once, and the size of an owned
                engine's pool; by default 10, 1 for SQLite in memory, 2 for a SQLite file, where one
                more thread writes.
            timeout: seconds for one operation, with its retries after a lock conflict or a lost
                connection; an owned engine also waits no longer than that to connect, for its pool,
                and for SQLite's lock.
            title_from_first_words: whether a session's first turn gives it a title, unless it has
                one: the user's `first_words`. It costs no round trip.
            engine_options: arguments of ``create_engine`` or ``create_async_engine``, with a URL.
            encryption: the keys to encrypt content with; without it, content is stored as it is.
            expires_after: how long after its last change a session is removed, by a sweeper that
                the middleware's lifespan runs; `NEVER` where only owners and sessions have such a
                setting, and None, for no expiry, where none has.
            search: whether messages are indexed, so that ``search()`` finds them; `SearchOptions`
                for more than their text.

        Raises:
            ConfigurationError: the URL is not one, the database or the driver is not supported, the
                driver is not installed, a number is not positive, or options are given with an
                engine.
        """
        check_positive(
            timeout=timeout,
            threads=1 if threads is None else threads,
            max_message_bytes=max_message_bytes,
            max_turn_messages=max_turn_messages,
            max_turns=max_turns,
        )
        check_store_expiry(expires_after)
        self.expires_after: Setting | None = expires_after
        self._encode = partial(
            encode_messages, max_bytes=max_message_bytes, max_messages=max_turn_messages
        )
        self.max_message_bytes = max_message_bytes
        self.max_turn_messages = max_turn_messages
        self._max_turns = max_turns
        self._creates = create_schema
        self._encrypts = encryption is not None
        self._takes_first_words = title_from_first_words
        self.timeout = timeout
        factory = ExecutorFactory(
            create_schema=create_schema,
            threads=threads,
            timeout=timeout,
            prepare_more=self._preparation(searches=bool(search)),
        )
        if isinstance(url_or_engine, str | URL):
            self._url = check_url(url_or_engine)
            dbapi = self._url.get_dialect().import_dbapi()
            self._executor = factory.for_url(self._url, engine_options or {})
        elif engine_options:
            raise ConfigurationError("engine_options: the given engine exists already; give a URL")
        elif not (isinstance(url_or_engine, Engine) or is_async_engine(url_or_engine)):
            raise ConfigurationError(f"store: {url_or_engine!r} is neither a URL nor an engine")
        else:
            self._url = url_or_engine.url
            self._executor = factory.for_engine(url_or_engine)
            dbapi = url_or_engine.dialect.loaded_dbapi
        self._notifies = self._url.get_backend_name() == "postgresql"
        self._retrying = self._retrying_executor(errors_of(dbapi), encryption)
        is_async = self._url.get_dialect().is_async
        self._load: Callable[..., History | HistoryTexts] = load if is_async else load_parsed
        self._load_range: Callable[..., FoundRange | HistoryRange] = (
            load_range if is_async else load_range_parsed
        )
        self._read = self._retrying.read
        self._write = self._retrying.write
        if search and encryption is not None:
            raise ConfigurationError(
                "search and encryption exclude each other: an index of words would be plain text"
            )
        self._search = None if search is False else self._searching(search)

    def _preparation(self, *, searches: bool) -> Callable[[Database], None] | None:
        """Return what the first use does beside making the tables that every store has."""
        if searches:
            from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
                prepare_search,  # few search
            )

            return partial(prepare_search, creates=self._creates)
        return refuse_search_index if self._encrypts and self._refuses_index else None

    def _retrying_executor(
        self, errors: tuple[type[Exception], ...], encryption: "Keyring | None"
    ) -> RetryingExecutor:
        if encryption is None:
            return RetryingExecutor(self._executor, errors, self.timeout)
        from hermes_session_mw.stores.sqlalchemy.encryption.executor import (  # noqa: PLC0415
            EncryptingExecutor,  # few encrypt
        )

        return EncryptingExecutor(self._executor, errors, self.timeout, encryption)

    @cached_property
    def checkpoints(self) -> "CheckpointStore":
        """The sessions' checkpoints, whose tables are made at the first operation."""
        from hermes_session_mw.stores.sqlalchemy.checkpoints import (  # noqa: PLC0415  # few keep any
            SQLAlchemyCheckpoints,
        )

        return SQLAlchemyCheckpoints(
            self._retrying,
            creates=self._creates,
            encode=self._encode,
            max_message_bytes=self.max_message_bytes,
            max_turns=self._max_turns,
        )

    @property
    def expiry(self) -> "ExpiryStore | None":
        """When sessions expire, and what removes them; None without ``expires_after``.

        Its tables are made at its first operation.
        """
        return self._expiry

    @cached_property
    def _expiry(self) -> "SQLAlchemyExpiry | None":
        if self.expires_after is None:
            return None
        from hermes_session_mw.stores.sqlalchemy.expiry import (  # noqa: PLC0415  # few have any
            SQLAlchemyExpiry,
        )

        return SQLAlchemyExpiry(self._retrying, self.expires_after, creates=self._creates)

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`; one round trip, and a second one if nothing is stored."""
        check_keys(session_id, owner)
        check_count("limit", limit)
        work = partial(
            self._load, session_id=session_id, owner=owner, limit=limit, folds=self._folds
        )
        try:
            found = await self._retrying.run(work, writes=False)
        except AnswerExpired as expired:
            found = await self._read_after_fold(work, expired)
        return found if isinstance(found, History) else await found.parse_in_loop()

    async def load_range(
        self,
        session_id: str,
        owner: str = "",
        start: int = 0,
        limit: int | None = None,
        *,
        since: datetime | None = None,
    ) -> HistoryRange:
        """See `MessageStore.load_range`; one round trip, which reads the whole history if since."""
        check_keys(session_id, owner)
        check_range(start, limit, since)
        work = partial(
            self._load_range,
            session_id=session_id,
            owner=owner,
            start=start,
            limit=limit,
            since=since,
        )
        found = await self._read_folded(work)
        if isinstance(found, HistoryRange):
            return found
        history = found.history
        parsed = history if isinstance(history, History) else await history.parse_in_loop()
        return found.with_messages(parsed.messages)

    @takes_encoded
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
        message_ids: Sequence[str | None] | None = None,
        metadata: Message | None = None,
        expected_metadata: ExpectedMetadata = ANY,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> int:
        """See `Store.append`, `MessageStore.append` and `LabelStore.append`; a short transaction.

        ``expires_after`` sets the session's own setting with the turn, as ``expiry.set`` does; by
        default it stays as it is.

        A turn without an id gets one here, so that the append can be retried after a failure that
        leaves it unknown whether the turn was stored.

        Raises:
            AppendInDoubt: it is still unknown whether the turn was stored.
            NotSupported: there is an ``expires_after``, and the store has none.
        """
        check_keys(session_id, owner, turn_id)
        check_int("expected_length", expected_length)
        check_count("replace_from", replace_from)
        check_title(title)
        bodies = self._encode(messages)
        new_title = self._new_title(messages, title)
        turn = turn_id or mint_turn_id()
        attempts = itertools.count()
        doubts: list[None] = []

        store: Callable[..., int] = append
        is_plain = message_ids is None and metadata is None and expected_metadata is ANY
        if expires_after is not None:
            check_expiry(expires_after)
            await self._own_expiry().prepare()
        if not is_plain or expires_after is not None:
            check_message_ids(message_ids, len(messages))
            max_bytes = self.max_message_bytes
            details = TurnDetails(
                message_ids or [None] * len(bodies),
                None if metadata is None else encode_metadata(metadata, max_bytes),
                encode_expected(expected_metadata, max_bytes),
                replace_from,
                expires_after,
                pairs_of(metadata),
                new_title,
            )
            store = partial(append_with_ids, details=details, doubts=doubts)
        elif replace_from is not None:
            store = partial(rewind_compact.replace, replace_from=replace_from, title=new_title)
        elif new_title is not None:
            store = partial(append, title=new_title)

        def work(database: Database) -> int:
            try:
                return store(
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
            except AnswerExpired as expired:
                self._fold_over(database, expired)
            return work(database)

        doubt = partial(doubts.append, None)
        length = await self._retrying.run(work, writes=True, may_join=True, on_doubt=doubt)
        if self._search is not None:
            await self._search.appended(len(bodies))
        return length

    async def search(
        self,
        owner: str,
        query: str,
        limit: int = PAGE,
        cursor: str | None = None,
        *,
        session_id: str | None = None,
        since: datetime | None = None,
        role: str | None = None,
    ) -> "SearchPage":
        """See `SearchStore.search`; a few round trips, without a lock."""
        if self._search is None:
            raise NotSupported(self, "search", ": give the store search=True")
        return await self._search.search(owner, query, limit, cursor, session_id, since, role)

    async def build_search_index(self, advance: Callable[[int], None] = lambda _count: None) -> int:
        """Index the messages that were stored before the store had search; return how many.

        Others may read and append meanwhile. ``advance`` is called with the number of messages
        after each batch. After a failure, call it again: it goes on from there.
        """
        if self._search is None:
            raise NotSupported(self, "build_search_index", ": give the store search=True")
        return await self._search.build(advance, creates=self._creates)

    def _searching(self, options: "bool | SearchOptions") -> "SQLAlchemySearch":
        from hermes_session_mw.stores.search import options_of  # noqa: PLC0415  # few search
        from hermes_session_mw.stores.sqlalchemy.search import SQLAlchemySearch  # noqa: PLC0415

        return SQLAlchemySearch(self._retrying, options_of(options))

    def check(self, messages: Sequence[Message]) -> None:
        """Raise the errors of ``append`` for invalid messages, without the database.

        Raises:
            InvalidMessage: there is no message, or one of them cannot be stored as it is.
            MessageTooLarge: one takes more bytes than ``max_message_bytes``.
            TurnTooLong: there are more than ``max_turn_messages``.
        """
        self._encode(messages)

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """Delete the conversation; return whether there was one.

        Its id cannot be used again: it loads as empty (``History.deleted``), and an append, even
        one that began before, raises ``SessionDeleted``. The database keeps the id, without any
        message, until ``prune()`` removes that too.
        """
        check_keys(session_id, owner)
        return await self._write(delete_prune.delete_session, session_id, owner)

    async def prune(self, older_than: timedelta) -> int:
        """Remove the sessions that have not changed for ``older_than``; return how many.

        The ids of deleted sessions count too. Keys as old without a stored session are dropped.
        A session that has a setting of its own, or whose owner has one, goes by that alone. With
        ``expires_after`` whatever has expired is removed too.

        The age is measured by the database's clock. Short transactions do the work, so that no
        request waits long for a lock; a session that is appended to meanwhile, or that has a lease,
        stays. After a failure, call it again.

        Raises:
            ValueError: ``older_than`` is negative.
            StoreError: the store failed.
        """
        check_age(older_than)
        cutoff = await self._read(delete_prune.cutoff_of, older_than)
        removed = await self._prune(cutoff, None, lambda _count: None)
        if self._expiry is not None:
            expired = await self._expiry.remove_expired(None, lambda _count: None)
            removed += expired
        return removed.sessions + removed.ids

    async def pop(
        self, session_id: str, count: int = 1, owner: str = "", *, fence: int | None = None
    ) -> list[Message]:
        """See `MessageStore.pop`."""
        check_keys(session_id, owner)
        check_count("count", count)
        work = self._folding(rewind_compact.pop)
        return await self._retrying.write_once(
            work, session_id, count, owner, fence, mint_turn_id()
        )

    async def rewind(
        self,
        session_id: str,
        length: int,
        owner: str = "",
        *,
        fence: int | None = None,
        expected_length: int | None = None,
    ) -> int:
        """See `MessageStore.rewind`."""
        check_keys(session_id, owner)
        check_count("length", length)
        check_int("expected_length", expected_length)
        if expected_length is None:
            work = self._folding(rewind_compact.rewind)
            return await self._write(work, session_id, length, owner, fence)
        return await self._retrying.write_once(
            self._folding(rewind_compact.rewind_expected),
            session_id,
            length,
            owner,
            fence,
            expected_length,
            mint_turn_id(),
        )

    async def compact(
        self,
        session_id: str,
        replaced: Sequence[Message],
        summary: Sequence[Message],
        owner: str = "",
        *,
        skipped: int = 0,
        fence: int | None = None,
    ) -> int:
        """See `MessageStore.compact`."""
        check_keys(session_id, owner)
        check_count("skipped", skipped)
        seen = encode_replaced(replaced, skipped, self.max_message_bytes)
        bodies = self._encode(summary) if summary else []
        work = partial(rewind_compact.compact, skipped=skipped, fence=fence, turn_id=mint_turn_id())
        return await self._retrying.write_once(self._folding(work), session_id, seen, bodies, owner)

    async def clear(self, session_id: str, owner: str = "", *, fence: int | None = None) -> bool:
        """See `MessageStore.clear`."""
        check_keys(session_id, owner)
        found: list[bool] = []
        await self._write(delete_prune.clear, session_id, owner, fence, found)
        return any(found)

    async def find_message(
        self, message_id: str, owner: str = ""
    ) -> tuple[str, StoredMessage] | None:
        """See `MessageStore.find_message`."""
        check_message_id(message_id, owner)
        return await self._read(find_message, message_id, owner)

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """See `LifecycleStore.find_turn`."""
        check_keys(session_id, owner, turn_id)
        work = partial(turns.find_turn, session_id=session_id, turn_id=turn_id, owner=owner)
        return await self._read_folded(work)

    async def archived(self, session_id: str, owner: str = "") -> Sequence[ArchivedMessage]:
        """See `LifecycleStore.archived`."""
        check_keys(session_id, owner)
        work = partial(rewind_compact.archived, session_id=session_id, owner=owner)
        return await self._read_folded(work)

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """See `LifecycleStore.fork`."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        check_count("length", length)
        turn_id = mint_turn_id()
        has_expiry = self.expires_after is not None
        fork = partial(fork_rotate_import.fork, turn_id=turn_id, keeps_expiry=has_expiry)
        work = self._folding(fork)
        return await self._retrying.write_once(work, session_id, new_id, owner, length)

    async def rotate(
        self, session_id: str, new_id: str, owner: str = "", new_owner: str | None = None
    ) -> bool:
        """See `LifecycleStore.rotate`."""
        to = owner if new_owner is None else new_owner
        check_keys(session_id, owner)
        check_keys(new_id, to)
        work = self._folding(fork_rotate_import.rotate)
        return await self._retrying.write_once(
            work, session_id, new_id, owner, to, self.max_message_bytes
        )

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """See `LifecycleStore.acquire`."""
        check_keys(session_id, owner)
        check_lease(seconds)
        return await self._write(self._folding(leases.acquire), session_id, owner, seconds)

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """See `LifecycleStore.extend`."""
        check_keys(session_id, owner)
        check_lease(seconds)
        await self._retrying.join(leases.extend, session_id, owner, fence, seconds)

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """See `LifecycleStore.release`."""
        check_keys(session_id, owner)
        await self._retrying.join(leases.release, session_id, owner, fence)

    async def list_all(
        self, limit: int = PAGE, cursor: str | None = None, *, prefix: str = ""
    ) -> SessionPage:
        """See `MessageStore.list_all`; it reads the rows of all sessions."""
        check_prefix(prefix)
        check_page(limit)
        after = decode_owned_cursor(cursor)
        found = await self._read(list_sessions.list_all, limit + 1, after, prefix)
        page = owned_page_of(found, limit)
        return SessionPage([*await self._described(page.sessions)], page.cursor)

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """See `LifecycleStore.rename`."""
        check_keys(session_id, owner)
        check_title(title)
        return await self._write(list_sessions.rename, session_id, title, owner)

    async def export(self, session_id: str, owner: str = "") -> str:
        """See `LifecycleStore.export`."""
        check_keys(session_id, owner)
        export = partial(list_sessions.export, has_expiry=self.expires_after is not None)
        return await self._write(self._folding(export), session_id, owner)

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """See `LifecycleStore.import_`."""
        session = jsonl.parse(lines, self.max_message_bytes)
        new_id = session.session_id if session_id is None else session_id
        check_keys(new_id, owner)
        if session.turns > self._max_turns:
            raise SessionFull(self._max_turns)
        if session.expires_after is not None:
            await self._own_expiry().prepare()
        work = self._folding(fork_rotate_import.import_session)
        await self._retrying.write_once(work, new_id, session, owner)
        return new_id

    async def set_metadata(
        self,
        session_id: str,
        metadata: Message,
        owner: str = "",
        *,
        expected: ExpectedMetadata = ANY,
    ) -> None:
        """See `MessageStore.set_metadata`."""
        check_keys(session_id, owner)
        body = encode_metadata(metadata, self.max_message_bytes)
        wanted = encode_expected(expected, self.max_message_bytes)
        await self._retrying.write_once(
            partial(session_metadata.set_metadata, pairs=pairs_of(metadata)),
            session_id,
            body,
            owner,
            wanted,
        )

    async def find_metadata(self, session_id: str, owner: str = "") -> Message | None:
        """See `LifecycleStore.find_metadata`."""
        check_keys(session_id, owner)
        return await self._read(session_metadata.find_metadata, session_id, owner)

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """See `LifecycleStore.bind_key`."""
        check_key(key, owner)
        check_keys(new_id, owner)
        return await self._write(session_keys.bind_key, key, new_id, owner)

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """See `LifecycleStore.move_key`."""
        check_key(key, owner)
        check_keys(session_id, owner)
        await self._write(session_keys.move_key, key, session_id, owner)

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """See `LifecycleStore.find_key`."""
        check_key(key, owner)
        return await self._read(session_keys.find_key, key, owner)

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """See `LifecycleStore.drop_key`."""
        check_key(key, owner)
        return await self._write(session_keys.drop_key, key, owner)

    async def aclose(self) -> None:
        """Dispose of the engine if the store owns it; a later operation creates another."""
        await self._executor.aclose()

    def __repr__(self) -> str:
        """Return the URL without its password, and the state of the connections."""
        return f"<SQLAlchemyStore {self._url.render_as_string()} ({self._executor!r})>"

    def _new_title(self, messages: Sequence[Message], title: str | None) -> NewTitle | None:
        """Return the title that an append gives its session."""
        if title is not None:
            return NewTitle(title)
        words = first_words_of(messages) if self._takes_first_words else ""
        return NewTitle(words, turns=1) if words else None

    async def _described(self, found: Sequence[SessionInfo]) -> Sequence[SessionInfo]:
        """Return the descriptions with the times when the sessions expire, if they do."""
        return found if self._expiry is None else await self._expiry.described(found)

    def _own_expiry(self) -> "SQLAlchemyExpiry":
        if self._expiry is None:
            raise NotSupported(self, "expiry", " without expires_after")
        return self._expiry

    async def _prune(
        self, cutoff: float, owner: str | None, advance: Callable[[int], None]
    ) -> delete_prune.PruneCounts:
        """Remove what was not changed since ``cutoff``; ``advance`` gets each portion's size."""
        removed, last = delete_prune.PruneCounts(), START
        while True:
            found = await self._read(delete_prune.find_stale, cutoff, owner, last)
            for portion in portions(found, delete_prune.PORTION):
                gone = await self._write(delete_prune.remove_stale, cutoff, portion)
                removed += delete_prune.counts_of(gone)
                advance(len(portion))
            if len(found) < delete_prune.BATCH:
                break
            last = found[-1][:2]
        keys = await self._write(delete_prune.drop_stale_keys, cutoff, owner)
        return dataclasses.replace(removed, keys=keys)
