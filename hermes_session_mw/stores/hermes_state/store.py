"""A store over Hermes Agent's own database, ``state.db``."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from os import PathLike

from sqlalchemy import URL

from hermes_session_mw.database.engine import check_positive, make_engine
from hermes_session_mw.database.errors import errors_of
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.database.workers.executor import WAIT_SHARE
from hermes_session_mw.database.workers.thread_executor import ThreadExecutor
from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TURN_MESSAGES,
    Message,
    decode_messages,
    encode_messages,
)
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.hermes_state import fork_export_delete, keys_metadata, leases
from hermes_session_mw.stores.hermes_state import list_rename_rewind as sql
from hermes_session_mw.stores.hermes_state.append import AppendRequest, append, check_visible
from hermes_session_mw.stores.hermes_state.fork_export_delete import ForkRequest
from hermes_session_mw.stores.hermes_state.load import load
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS, encode
from hermes_session_mw.stores.hermes_state.rules import rules_of
from hermes_session_mw.stores.hermes_state.state_file import StateFile, path_of
from hermes_session_mw.stores.hermes_state.state_meta import without_beside
from hermes_session_mw.stores.models import MAX_TURNS, PAGE, SessionInfo, SessionPage, StoredTurn
from hermes_session_mw.stores.pagination import decode_cursor, page_of
from hermes_session_mw.stores.validation import (
    check_count,
    check_int,
    check_key,
    check_keys,
    check_lease,
    check_page,
    check_title,
    encode_metadata,
)

DEFAULT_TIMEOUT = 5.0
"""Seconds."""

_THREADS = 2  # more would only wait for the interpreter lock; one more thread writes


class HermesStateStore:
    """Reads and continues the conversations in the ``state.db`` of Hermes Agent.

    ``load`` returns, key for key, the history that Hermes itself would continue; for a conversation
    that Hermes compressed, the one of its last session, under any of its ids. ``append`` writes as
    Hermes writes, and Hermes may run at the same time. The file is never created, and its tables
    are never changed. ``docs/hermes.md`` has the rules.

    Attributes:
        timeout: seconds after which every operation ends, whatever the database does.
        max_message_bytes: bytes of UTF-8 that one message may take as JSON.
        max_turn_messages: messages that one append may have.
        unsent_keys: keys of messages that ``session.prompt`` leaves out: Hermes has its own copy of
            each provider's reasoning there, and sends none.
    """

    unsent_keys: frozenset[str] = frozenset({"reasoning"})

    def __init__(
        self,
        path: "str | PathLike[str]",
        *,
        source: str = "api_server",
        exact: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        threads: int | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_turn_messages: int = MAX_TURN_MESSAGES,
        max_turns: int = MAX_TURNS,
    ) -> None:
        """Check the arguments, without opening the file.

        Args:
            path: the file, or a URL that begins ``sqlite:///``; ``~`` is the user's home.
            source: the platform that new sessions are recorded under in Hermes.
            exact: also refuse values that Hermes leaves out or cleans on reading: empty values, and
                white space at the ends of a text. A key without a column is always refused.
            timeout: seconds for one operation, including its retries when another was writing.
            threads: how many reads run at once, by default 2. One more thread writes.
            max_message_bytes: bytes of UTF-8 that one message may take as JSON.
            max_turn_messages: messages that one append may have.
            max_turns: messages of the role ``user`` that one conversation may have; Hermes does not
                store turns.

        Raises:
            ConfigurationError: ``path`` does not name a file, ``source`` is not a platform, or a
                number is not positive.
        """
        check_positive(
            timeout=timeout,
            threads=1 if threads is None else threads,
            max_message_bytes=max_message_bytes,
            max_turn_messages=max_turn_messages,
            max_turns=max_turns,
        )
        # Hermes takes sessions of this source for delegated tasks, and does not continue them.
        if not source or source == "tool":
            raise ConfigurationError(f"source: {source!r} does not name a platform")
        self._path = path_of(path)
        self._encode = partial(
            encode_messages, max_bytes=max_message_bytes, max_messages=max_turn_messages
        )
        self._append = partial(AppendRequest, source=source, max_turns=max_turns, exact=exact)
        self._source = source
        self._exact = exact
        self.max_message_bytes = max_message_bytes
        self.max_turn_messages = max_turn_messages
        self.timeout = timeout
        threads = threads or _THREADS
        wait = timeout * WAIT_SHARE
        self._executor = ThreadExecutor(
            partial(
                make_engine,
                URL.create("sqlite", database=self._path),
                StateFile(self._path, wait),
                pool_size=threads + 1,
                timeout=wait,
                options={},
            ),
            lambda _connection: None,
            owned=True,
            threads=threads,
            writers=1,
            timeout=timeout,
        )
        retrying = RetryingExecutor(self._executor, errors_of(sqlite3), timeout)
        self._read = retrying.read
        self._write = retrying.write

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`; a session with a row in Hermes' table exists, even without messages.

        Raises:
            StoreMisconfigured: the file is missing, is not Hermes', or does not know owners.
        """
        check_keys(session_id, owner)
        check_count("limit", limit)
        return await self._read(load, session_id, owner, limit)

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
        """See `LifecycleStore.append`; the messages go to the last session of the conversation.

        With ``replace_from`` they replace all but its first messages, as for
        `LifecycleStore.append`; Hermes leaves those out of its history, as after a ``rewind``.

        Raises:
            InvalidMessage: also if a message would come back changed.
            SessionTaken: the session is another owner's.
            SessionBusy: Hermes is in a turn, or compresses the conversation.
            TurnLost: the lease with this ``fence`` was acquired again since.
            StoreMisconfigured: the file is missing, is not Hermes', requires a value that this
                package does not know, or has no column for one that it has to write.
        """
        check_keys(session_id, owner, turn_id)
        check_int("expected_length", expected_length)
        check_count("replace_from", replace_from)
        taken = decode_messages(self._encode(messages))  # the caller may change its own meanwhile
        request = self._append(
            session_id, taken, owner, turn_id, expected_length, replace_from, fence
        )
        return await self._write(append, request)

    def check(self, messages: Sequence[Message]) -> None:
        """See `SQLAlchemyStore.check`; a message that would come back changed is refused too.

        Only ``append`` knows which columns an older file lacks, and whether there is a turn id,
        with which ``metadata`` is stored.
        """
        taken, rules = decode_messages(self._encode(messages)), rules_of(None)
        if not self._exact:
            taken = [without_beside(message) for message in taken]
        rows = [
            encode(number, message, COLUMNS, rules, exact=self._exact)
            for number, message in enumerate(taken)
        ]
        check_visible(rows, [], rules)

    async def rewind(
        self, session_id: str, length: int, owner: str = "", *, fence: int | None = None
    ) -> int:
        """See `LifecycleStore.rewind`; Hermes leaves the rest out of its history as well.

        Raises:
            SessionBusy: Hermes is in a turn, or compresses the conversation.
        """
        check_keys(session_id, owner)
        check_count("length", length)
        return await self._write(sql.rewind, session_id, length, owner, fence)

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """See `LifecycleStore.acquire`.

        In a database that is newer than Hermes Agent 0.19's it is Hermes' own lease, so that each
        waits for the other; in an older one only requests of this package know of it.

        Raises:
            SessionTaken: the session is another owner's.
            StoreMisconfigured: the database has no table ``state_meta``.
        """
        check_keys(session_id, owner)
        check_lease(seconds)
        return await self._write(leases.acquire, session_id, seconds, owner)

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """See `LifecycleStore.extend`."""
        check_keys(session_id, owner)
        check_lease(seconds)
        await self._write(leases.extend, session_id, fence, seconds, owner)

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """See `LifecycleStore.release`."""
        check_keys(session_id, owner)
        await self._write(leases.release, session_id, fence, owner)

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """See `LifecycleStore.find_turn`; also None if Hermes has rewritten the messages.

        Its messages are as they were appended, without the time that ``load`` adds to each.
        """
        check_keys(session_id, owner, turn_id)
        return await self._read(sql.find_turn, session_id, turn_id, owner)

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> SessionPage:
        """See `LifecycleStore.list`; without delegated tasks' and archived sessions, as in Hermes.

        A conversation that was compressed is listed once, by its first id.
        """
        check_keys("-", owner)
        check_page(limit)
        found = await self._read(sql.list_page, owner, limit, decode_cursor(cursor))
        return page_of(found, limit)

    async def info(self, session_id: str, owner: str = "") -> SessionInfo | None:
        """See `LifecycleStore.info`."""
        check_keys(session_id, owner)
        return await self._read(sql.info, session_id, owner)

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """See `LifecycleStore.rename`.

        Raises:
            ValueError: Hermes would change the title; or, without an owner, another conversation
                has it. A title that another owner's conversation has is stored nevertheless, which
                keeps that one secret; Hermes then shows none.
            StoreMisconfigured: an owner's title, in a database without the table ``state_meta``.
        """
        check_keys(session_id, owner)
        check_title(title)
        sql.check_hermes_title(title)
        done = await self._write(sql.rename, session_id, title, owner)
        if done is None:
            raise ValueError("title: another conversation in Hermes' database has it")
        return done

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """See `LifecycleStore.fork`; the fork is a branch of Hermes', with its user."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        check_count("length", length)
        request = ForkRequest(session_id, new_id, owner, length, self._source)
        return await self._write(fork_export_delete.fork, request)

    async def delete(self, session_id: str, owner: str = "") -> bool:
        """See `LifecycleStore.delete`: all sessions of the conversation, as Hermes deletes each.

        Helpers' sessions are deleted with it, and branches stay. Hermes' files are not touched.
        Hermes itself may use the id again.

        Raises:
            SessionBusy: Hermes is in a turn, or compresses the conversation.
        """
        check_keys(session_id, owner)
        return await self._write(fork_export_delete.delete, session_id, owner)

    async def export(self, session_id: str, owner: str = "") -> str:
        """See `LifecycleStore.export`; Hermes stores no turns, so that each question begins one."""
        check_keys(session_id, owner)
        return await self._read(fork_export_delete.export, session_id, owner)

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """See `LifecycleStore.bind_key`."""
        check_key(key, owner)
        check_keys(new_id, owner)
        return await self._write(keys_metadata.bind_key, key, new_id, owner)

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """See `LifecycleStore.move_key`."""
        check_key(key, owner)
        check_keys(session_id, owner)
        await self._write(keys_metadata.move_key, key, session_id, owner)

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """See `LifecycleStore.find_key`."""
        check_key(key, owner)
        return await self._read(keys_metadata.find_key, key, owner)

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """See `LifecycleStore.drop_key`."""
        check_key(key, owner)
        return await self._write(keys_metadata.drop_key, key, owner)

    async def set_metadata(self, session_id: str, metadata: Message, owner: str = "") -> None:
        """See `LifecycleStore.set_metadata`.

        Raises:
            SessionTaken: the session is another owner's.
        """
        check_keys(session_id, owner)
        body = encode_metadata(metadata, self.max_message_bytes)
        await self._write(keys_metadata.set_metadata, session_id, body, owner)

    async def find_metadata(self, session_id: str, owner: str = "") -> Message | None:
        """See `LifecycleStore.find_metadata`."""
        check_keys(session_id, owner)
        return await self._read(keys_metadata.find_metadata, session_id, owner)

    async def aclose(self) -> None:
        """Close the file; a later call opens it again."""
        await self._executor.aclose()

    def __repr__(self) -> str:
        """Return the path, and the state of the connections."""
        return f"<HermesStateStore {self._path} ({self._executor!r})>"
