"""The store for the operator's command: it reads and changes the sessions of all owners.

No module that answers requests may import it. Every method of `SQLAlchemyStore` is limited to one
owner's sessions.
"""

import dataclasses
import sqlite3
import urllib.parse
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

from sqlalchemy import URL

from hermes_session_mw.database.drivers import check_url
from hermes_session_mw.database.engine import sqlite_file
from hermes_session_mw.exceptions import ConfigurationError, StoreCorrupt, StoreMisconfigured
from hermes_session_mw.messages import MAX_MESSAGE_BYTES
from hermes_session_mw.stores.pagination import decode_owned_cursor
from hermes_session_mw.stores.sqlalchemy.admin import answer_queries, integrity_check, queries
from hermes_session_mw.stores.sqlalchemy.admin.models import (
    Access,
    OwnedPage,
    OwnedSession,
    Problem,
    Totals,
)
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    PruneCounts,
)
from hermes_session_mw.stores.sqlalchemy.statements.keyset import START
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import portions
from hermes_session_mw.stores.sqlalchemy.store import SQLAlchemyStore
from hermes_session_mw.stores.validation import check_keys, check_page

_UNLIMITED = 2**40  # an import accepts everything that another store has stored


class AdminStore(SQLAlchemyStore):
    """An `SQLAlchemyStore` over a URL, with operations on the sessions of all owners.

    Wherever it may be given, ``owner=None`` means all owners. Tables and SQLite's file are created
    only with ``access="create"``. With ``"read"`` a SQLite file keeps its journal mode, and answers
    that have lost their writer are not folded: what is read is what is stored.
    """

    def __init__(self, url: str | URL, *, access: Access = "read", timeout: float = 60.0) -> None:
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
        )
        self._folds = access != "read"

    @property
    def _max_folded_bytes(self) -> int:
        return MAX_MESSAGE_BYTES  # as applications have it by default

    async def list_owned(
        self, owner: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> OwnedPage:
        """Return sessions, the most recently changed first; see `LifecycleStore.list`."""
        check_keys("-", owner or "")
        check_page(limit)
        after = decode_owned_cursor(cursor)
        found = await self._read(queries.list_owned, owner, limit + 1, after)
        return queries.page_of_owned(found, limit)

    async def find(self, session_id: str, owner: str | None = None) -> Sequence[OwnedSession]:
        """Return the session of each owner with this id; one look-up where an owner is given."""
        check_keys(session_id, owner or "")
        return await self._read(queries.find, session_id, owner)

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

    async def cutoff(self, age: timedelta) -> float:
        """Return the time ``age`` ago by the database's clock, in seconds from 1970."""
        return await self._read(delete_prune.cutoff_of, age)

    async def count_stale(self, cutoff: float, owner: str | None = None) -> PruneCounts:
        """Count the sessions, ids and keys not changed since ``cutoff``, in seconds from 1970.

        Sessions with a lease that has not ended are not counted. Answers that have lost their
        writer are, however lately.
        """
        check_keys("-", owner or "")
        return await self._read(queries.count_stale, cutoff, owner)

    async def prune_stale(
        self, cutoff: float, owner: str | None, advance: Callable[[int], None]
    ) -> PruneCounts:
        """Remove what `count_stale` counts, in short transactions; return the counts.

        Then fold the answers that have lost their writer. ``advance`` is called with the number of
        sessions after each portion. After a failure, call it again.
        """
        check_keys("-", owner or "")
        removed = await self._prune(cutoff, owner, advance)
        gone, lapsed = await self._write(answer_queries.sweep, cutoff, owner)
        for owner_, session_id in lapsed:
            await self._fold(session_id, owner_)
        return dataclasses.replace(removed, answers=gone, folded=len(lapsed))

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

    async def _check(self, problems: list[Problem], advance: Callable[[int], None]) -> None:
        lacking = await self._read(integrity_check.missing)
        problems += lacking
        problems += await self._read(integrity_check.missing_indexes)
        damage = [] if lacking else await self._read(integrity_check.damage)
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
