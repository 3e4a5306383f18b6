"""The store for the operator's command: it reads and changes the sessions of all owners.

No module that answers requests may import it. Every method of `SQLAlchemyStore` is limited to one
owner's sessions.
"""

import dataclasses
import sqlite3
import urllib.parse
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.drivers import check_url
from hermes_session_mw.database.engine import sqlite_file
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.exceptions import ConfigurationError, StoreCorrupt, StoreMisconfigured
from hermes_session_mw.messages import MAX_MESSAGE_BYTES
from hermes_session_mw.stores.encryption import Keyring
from hermes_session_mw.stores.expiry import NEVER
from hermes_session_mw.stores.labels import EVERY_SESSION, LabelChange, SessionFilter
from hermes_session_mw.stores.models import PAGE, SessionInfo
from hermes_session_mw.stores.pagination import decode_owned_cursor, decode_owned_pinned_cursor
from hermes_session_mw.stores.sqlalchemy.admin import answer_queries, integrity_check, queries
from hermes_session_mw.stores.sqlalchemy.admin.models import (
    Access,
    KeyCounts,
    OwnedHit,
    OwnedHits,
    OwnedPage,
    OwnedSession,
    Problem,
    Totals,
)
from hermes_session_mw.stores.sqlalchemy.admin.owner_cursor import decode_owner, encode_owner
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import expiry_tables_exist
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune, erase_owner, labels
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    PruneCounts,
)
from hermes_session_mw.stores.sqlalchemy.statements.keyset import START
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import portions
from hermes_session_mw.stores.sqlalchemy.store import SQLAlchemyStore
from hermes_session_mw.stores.validation import check_keys, check_page

if TYPE_CHECKING:
    from hermes_session_mw.stores.search import SearchOptions, SearchPage

_BATCH = 100  # data keys, or rows, that one transaction changes
_WHOLE_FILE = 86400.0  # seconds that a look at all of a file may take
_UNLIMITED = 2**40  # an import accepts everything that another store has stored


class AdminStore(SQLAlchemyStore):
    """An `SQLAlchemyStore` over a URL, with operations on the sessions of all owners.

    Wherever it may be given, ``owner=None`` means all owners. Tables and SQLite's file are created
    only with ``access="create"``. With ``"read"`` a SQLite file keeps its journal mode, and answers
    that have lost their writer are not folded: what is read is what is stored.
    """

    _refuses_index: bool = False

    def __init__(
        self,
        url: str | URL,
        *,
        access: Access = "read",
        timeout: float = 60.0,
        encryption: Keyring | None = None,
    ) -> None:
        """Check what can be checked without a connection; refuse a database in memory."""
        parsed = check_url(url)
        if parsed.get_backend_name() == "sqlite":
            parsed = _of_file(parsed, access)
        super().__init__(
            parsed,
            create_schema=access == "create",
            max_message_bytes=_UNLIMITED,
            max_turns=_UNLIMITED,
            timeout=timeout,
            encryption=encryption,
            # The command does not know the application's own setting.
            expires_after=NEVER,
        )
        self._folds = access != "read"
        self._keyring = encryption

    @property
    def _max_folded_bytes(self) -> int:
        return MAX_MESSAGE_BYTES  # as applications have it by default

    async def list_owned(
        self,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        wanted: SessionFilter = EVERY_SESSION,
        *,
        first_words: bool = False,
    ) -> OwnedPage:
        """Return sessions, in the order of the filter; see `LabelStore.list`."""
        check_keys("-", owner or "")
        check_page(limit)
        if wanted.order == "pinned":
            last = decode_owned_pinned_cursor(cursor)
            work = queries.list_pinned_first
            found, pinned = await self._read(work, owner, limit + 1, last, wanted)
            page = queries.page_of_owned(found, limit, pinned)
        else:
            after = decode_owned_cursor(cursor)
            found = await self._read(queries.list_owned, owner, limit + 1, after, wanted)
            page = queries.page_of_owned(found, limit)
        return OwnedPage(
            await self._owned_described(page.sessions, first_words=first_words), page.cursor
        )

    async def find(
        self, session_id: str, owner: str | None = None, *, first_words: bool = False
    ) -> Sequence[OwnedSession]:
        """Return the session of each owner with this id; one look-up where an owner is given."""
        check_keys(session_id, owner or "")
        found = await self._read(queries.find, session_id, owner)
        return await self._owned_described(found, first_words=first_words)

    async def change_labels(self, session_id: str, owner: str, change: LabelChange) -> bool:
        """Change a session's labels, as ``label`` does; return whether there is such a session."""
        check_keys(session_id, owner)
        work = self._folding(labels.label)
        return await self._retrying.write(work, session_id, owner, change, MAX_MESSAGE_BYTES)

    async def walk(
        self, owner: str | None = None, after: OwnedSession | None = None
    ) -> Sequence[OwnedSession]:
        """Return the next sessions in the order of owner and id; none where there are no more."""
        check_keys("-", owner or "")
        position = START if after is None else (after.owner or "", after.info.id)
        return await self._read(queries.walk, owner, position)

    async def ids_with_prefix(
        self, start: str, owner: str | None = None, limit: int = 50
    ) -> Sequence[str]:
        """Return ids that begin with ``start``, of ASCII, the most recently changed first."""
        return await self._read(queries.ids_with_prefix, start, owner, limit)

    async def totals(self, owner: str | None = None) -> Totals:
        """Return counts and sizes; one small row per session is read."""
        check_keys("-", owner or "")
        return await self._read(queries.totals, owner)

    async def export_snapshot(self, session_id: str, owner: str = "") -> str | None:
        """Return the same as ``export``, without a lock; None if there is no such session."""
        check_keys(session_id, owner)
        return await self._read(queries.export_snapshot, session_id, owner)

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
        """See `SearchStore.search`; the index must be there."""
        from hermes_session_mw.stores.search import SearchOptions  # noqa: PLC0415  # few search

        searching = self._searching(SearchOptions())
        return await searching.search(owner, query, limit, cursor, session_id, since, role)

    async def search_owned(
        self,
        owner: str | None,
        query: str,
        limit: int = PAGE,
        cursor: str | None = None,
        *,
        since: datetime | None = None,
        role: str | None = None,
    ) -> OwnedHits:
        """Do as ``search`` does, of all owners one after another where ``owner`` is None."""
        from hermes_session_mw.stores.sqlalchemy.statements.search_index import (  # noqa: PLC0415
            next_owner,  # few search
        )

        if owner is not None:
            page = await self.search(owner, query, limit, cursor, since=since, role=role)
            return OwnedHits([OwnedHit(each, owner) for each in page.hits], page.cursor)
        # Without any owner the arguments are checked, too.
        await self.search("", query, limit, since=since, role=role)
        of, inner = decode_owner(cursor)
        at = await self._read(next_owner, None) if of is None else of
        hits: list[OwnedHit] = []
        while at is not None:
            if len(hits) == limit:
                return OwnedHits(hits, encode_owner(at, inner))
            room = limit - len(hits)
            page = await self.search(at, query, room, inner, since=since, role=role)
            hits += [OwnedHit(each, at) for each in page.hits]
            inner = page.cursor
            if inner is None:
                at = await self._read(next_owner, at)
        return OwnedHits(hits, None)

    async def index_messages(self, advance: Callable[[int], None], options: "SearchOptions") -> int:
        """Make the search index if it is missing, and index what is not in it; return how much."""
        return await self._searching(options).build(advance, creates=True)

    async def drop_search_index(self) -> None:
        """Drop the search index: its tables, and the triggers that note messages for it."""
        from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
            drop_search_tables,  # few search
        )

        await self._write(drop_search_tables)

    async def cutoff(self, age: timedelta) -> float:
        """Return the time ``age`` ago by the database's clock, in seconds from 1970."""
        return await self._read(delete_prune.cutoff_of, age)

    async def count_stale(self, cutoff: float, owner: str | None = None) -> PruneCounts:
        """Count the sessions, ids and keys not changed since ``cutoff``, in seconds from 1970.

        Sessions with a lease that has not ended are not counted. Answers that have lost their
        writer are, however lately. A session with a setting of expiry, its own or its owner's, is
        counted if it has expired.
        """
        expired = await self.count_expired(owner)  # which checks the owner
        return expired + await self._read(queries.count_stale, cutoff, owner)

    async def prune_stale(
        self, cutoff: float, owner: str | None, advance: Callable[[int], None]
    ) -> PruneCounts:
        """Remove what `count_stale` counts, in short transactions; return the counts.

        Then fold the answers that have lost their writer. ``advance`` is called with the number of
        sessions after each portion. After a failure, call it again.
        """
        removed = await self.remove_expired(owner, advance)  # which checks the owner
        removed += await self._prune(cutoff, owner, advance)
        gone, lapsed = await self._write(answer_queries.sweep, cutoff, owner)
        for owner_, session_id in lapsed:
            await self._fold(session_id, owner_)
        return dataclasses.replace(removed, answers=gone, folded=len(lapsed))

    async def count_expired(self, owner: str | None) -> PruneCounts:
        """Count what has expired by the settings of sessions and owners."""
        check_keys("-", owner or "")
        if not await self._read(expiry_tables_exist):
            return PruneCounts()
        return await self._own_expiry().count_expired(owner)

    async def remove_expired(
        self, owner: str | None, advance: Callable[[int], None]
    ) -> PruneCounts:
        """Remove what `count_expired` counts, as `prune_stale` does; return the counts."""
        check_keys("-", owner or "")
        if not await self._read(expiry_tables_exist):
            return PruneCounts()
        return await self._own_expiry().remove_expired(owner, advance)

    async def _described(self, found: Sequence[SessionInfo]) -> Sequence[SessionInfo]:
        """Return the descriptions with the times when the sessions expire by such settings."""
        is_there: bool = await self._read(expiry_tables_exist)
        return await super()._described(found) if is_there else found

    async def _owned_described(
        self, found: Sequence[OwnedSession], *, first_words: bool = False
    ) -> list[OwnedSession]:
        if first_words:
            found = await self._read(queries.with_words, found)
        infos = await self._described([each.info for each in found])
        return [
            dataclasses.replace(each, info=info) for each, info in zip(found, infos, strict=True)
        ]

    async def check_integrity(self, advance: Callable[[int], None]) -> Sequence[Problem]:
        """Return the problems of the tables and their rows; nothing is written.

        ``advance`` is as for ``prune_stale``. If tables or columns are missing, or SQLite reports
        damage, rows are not checked. Sessions of 10,000 messages are in memory at a time, or one
        that has more.
        """
        problems: list[Problem] = []
        try:
            await self._check(problems, advance)
        except StoreCorrupt as exc:
            problems.append(Problem(str(exc)))
        return problems

    async def rewrap(self, advance: Callable[[int], None]) -> KeyCounts:
        """Wrap every session's data key by the current master key, in short transactions.

        ``advance`` is as for ``prune_stale``. A session whose key cannot be unwrapped is left, and
        told. It may be called again, also after a failure halfway: what is done is left out.
        """
        from hermes_session_mw.stores.sqlalchemy.encryption import resealing  # noqa: PLC0415

        keyring = self._needed_keyring()
        counts, last = KeyCounts(), START
        while found := await self._read(resealing.find_keys, last):
            old = [each for each in found if not keyring.is_current(each.data_key)]
            for start in range(0, len(old), _BATCH):
                part = old[start : start + _BATCH]
                done, unreadable = await self._write(resealing.rewrap, part)
                counts = counts.with_more(done, unreadable)
                advance(len(part))
            last = found[-1][:2]
        return counts

    async def count_old_keys(self) -> int:
        """Return how many sessions have a data key that `rewrap` would wrap anew."""
        from hermes_session_mw.stores.sqlalchemy.encryption import resealing  # noqa: PLC0415

        keyring = self._needed_keyring()
        count, last = 0, START
        while found := await self._read(resealing.find_keys, last):
            count += sum(not keyring.is_current(each.data_key) for each in found)
            last = found[-1][:2]
        return count

    async def count_plain(self) -> int:
        """Return how many rows have content that is not encrypted."""
        return await self._count_contents(sealed=False)

    async def count_encrypted(self) -> int:
        """Return how many rows have content that is encrypted."""
        return await self._count_contents(sealed=True)

    async def encrypt(self, advance: Callable[[int], None], *, vacuum: bool = True) -> KeyCounts:
        """Encrypt all content that is stored plain, in short transactions of up to 100 rows.

        ``advance`` is called with the number of rows after each of them. It may be called again,
        also after a failure halfway. On SQLite what was there is overwritten, the file is then
        written anew unless ``vacuum`` is false, and the WAL is emptied.

        Raises:
            ConfigurationError: there is a search index, which has plain text.
            StoreUnavailable: also if somebody reads a SQLite file for so long that its WAL cannot
                be emptied.
        """
        self._needed_keyring()
        if await self._read(_has_words):
            raise ConfigurationError(
                "search and encryption exclude each other: the database has a search index, which "
                "is plain text; stop stores with search=True, and drop it by hermes-sessions "
                "search-index --drop"
            )
        counts = await self._change(advance, sealed=False)
        patient = self._retrying.within(_WHOLE_FILE)
        if vacuum:
            await patient.write(erase_owner.vacuum)
        await patient.write(erase_owner.empty_wal)
        return counts

    async def decrypt(self, advance: Callable[[int], None]) -> KeyCounts:
        """Store all content plain again, as `encrypt` does the opposite; remove the data keys."""
        from hermes_session_mw.stores.sqlalchemy.encryption import resealing  # noqa: PLC0415

        counts = await self._change(advance, sealed=True)
        contents, last = await self._read(resealing.stored_contents), START
        while found := await self._read(resealing.find_keys, last):
            for each in found:
                await self._write(resealing.drop_key, contents, each[:2])
            last = found[-1][:2]
        return counts

    async def _count_contents(self, *, sealed: bool) -> int:
        from hermes_session_mw.stores.sqlalchemy.encryption import resealing  # noqa: PLC0415

        self._needed_keyring()
        whole = self._retrying.within(_WHOLE_FILE)
        return await whole.read(resealing.count, sealed=sealed)

    async def _change(self, advance: Callable[[int], None], *, sealed: bool) -> KeyCounts:
        from hermes_session_mw.stores.sqlalchemy.encryption import resealing  # noqa: PLC0415

        self._needed_keyring()
        counts = KeyCounts()
        for stored in await self._read(resealing.stored_contents):
            last = START
            while found := await self._read(resealing.find, stored, last, sealed=sealed):
                for of in found:
                    done, unreadable = await self._change_session(
                        partial(resealing.change, stored=stored, of=of, most=_BATCH, sealed=sealed),
                        of,
                        advance,
                    )
                    counts = counts.with_more(done, unreadable)
                last = found[-1]
        return counts

    async def _change_session(
        self, work: Callable[..., int], of: tuple[str, str], advance: Callable[[int], None]
    ) -> tuple[int, Sequence[tuple[str, str, str]]]:
        total = 0
        while True:
            try:
                count = await self._write(work)
            except (StoreCorrupt, StoreMisconfigured) as exc:
                return total, [(*of, str(exc))]
            total += count
            advance(count)
            if count < _BATCH:
                return total, ()

    def _needed_keyring(self) -> Keyring:
        if self._keyring is None:
            raise ConfigurationError(
                "this needs the keys: name their file by --keys-file, or set HERMES_ENCRYPTION_KEYS"
            )
        return self._keyring

    async def _check(self, problems: list[Problem], advance: Callable[[int], None]) -> None:
        lacking = await self._read(integrity_check.missing)
        problems += lacking
        problems += await self._read(integrity_check.missing_indexes)
        # That looks at the whole file at once, which takes as long as the file is large.
        whole = self._retrying.within(_WHOLE_FILE)
        damage = [] if lacking else await whole.read(integrity_check.damage)
        problems += damage
        if lacking or damage:
            return
        done = last = START
        while found := await self._read(integrity_check.sizes, last):
            last = found[-1][:2]
            for part in portions(found, integrity_check.RANGE):
                after, done = done, part[-1][:2]
                problems += await self._read(integrity_check.check_range, after, done)
                advance(sum(each.is_stored for each in part))
        problems += await self._read(integrity_check.check_range, done, None)
        problems += await self._read(answer_queries.without_answer)
        if await self._read(_has_search_index):
            problems += await self._read(_search_problems)


def _has_search_index(database: Database) -> bool:
    from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
        has_search_tables,  # few search
    )

    return has_search_tables(database)


def _has_words(database: Database) -> bool:
    from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
        has_table_of_words,  # few search
    )

    return has_table_of_words(database)


def _search_problems(database: Database) -> list[Problem]:
    from hermes_session_mw.stores.sqlalchemy.statements import (  # noqa: PLC0415
        search_index,  # few search
    )

    with snapshot(database):
        strays = search_index.count_strays(database)
    what = f"{strays} messages of the search index are in no history: run search-index"
    return [Problem(what)] if strays else []


def _of_file(url: URL, access: Access) -> URL:
    """Return the URL with the mode that ``access`` needs."""
    file = sqlite_file(url, 0)
    if file is None:
        raise ConfigurationError("store: a SQLite database in memory is empty; name a file")
    if url.drivername == "sqlite+aiosqlite":
        # The same file; a cancelled caller need not wait for a lock in another thread.
        url = url.set(drivername="sqlite")
    path = Path(file.path)
    if access == "create":
        return url
    if not path.is_file():
        raise StoreMisconfigured(
            f"there is no file {path}, and none is created: name the store by its URL, with "
            "--store or in HERMES_STORE"
        )
    # In WAL mode a read-only reader would leave the -wal and -shm files behind.
    mode = "rw" if access == "write" or _is_in_wal(file.path) else "ro"
    return url.set(database=f"file:{urllib.parse.quote(file.path)}").update_query_dict(
        {"mode": mode, "uri": "true"}
    )


def _is_in_wal(path: str) -> bool:
    name = f"file:{urllib.parse.quote(path)}?mode=rw"
    with suppress(sqlite3.Error), closing(sqlite3.connect(name, uri=True)) as connection:
        ((mode,),) = connection.execute("PRAGMA journal_mode")
        return bool(mode == "wal")
    return False  # the store reports the error
