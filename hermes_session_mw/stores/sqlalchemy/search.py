"""The search of a `SQLAlchemyStore` that was made with ``search=True``."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.logging import logger
from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.pagination import time_of
from hermes_session_mw.stores.search import (
    WINDOW,
    Place,
    SearchHit,
    SearchOptions,
    SearchPage,
    check_search,
    decode_place,
    encode_place,
)
from hermes_session_mw.stores.search_pages import (
    LEAST_NUMBER,
    RankedMatch,
    first_place,
    is_wanted,
    ranked_match,
    read_page,
)
from hermes_session_mw.stores.search_text import (
    Query,
    padded,
    parse_query,
    searchable_text,
    snippet_of,
    words_of,
)
from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (
    prepare_search,
    require_search_tables,
)
from hermes_session_mw.stores.sqlalchemy.statements import search, search_index
from hermes_session_mw.stores.sqlalchemy.statements.search import Filters, Match, NotedMessage
from hermes_session_mw.stores.validation import check_keys

INDEX_AT = 500
"""Messages that a store appends before it indexes what is noted."""

_ROUNDS = 8  # batches that one search or append indexes at most


class SQLAlchemySearch:
    """Searches and indexes a store's messages.

    Args:
        retrying: runs the statements.
        options: what is searched of a message.
    """

    def __init__(self, retrying: RetryingExecutor, options: SearchOptions) -> None:
        self._retrying = retrying
        self._options = options
        self._appended = 0

    async def search(
        self,
        owner: str,
        text: str,
        limit: int,
        cursor: str | None,
        session_id: str | None,
        since: datetime | None,
        role: str | None,
    ) -> SearchPage:
        """See `SearchStore.search`."""
        check_keys("-" if session_id is None else session_id, owner)
        check_search(text, role, limit, since)
        place = None if cursor is None else decode_place(cursor, text)
        query = parse_query(text)
        if not query:
            return SearchPage([], None)
        least = 0 if since is None else int(since.timestamp() * 1_000_000)
        wanted = None if role is None else search_index.stored_role(role)
        filters = Filters(owner, session_id, wanted, least, MAX_INTEGER)
        reading = _Reading(query, filters, limit, self._options)
        found = await self._retrying.read(reading.read, place)
        if found is None:
            await self._index()
            reading.takes_all = True
            found = await self._retrying.read(reading.read, place)
            assert found is not None  # as it takes what there is
        hits, end = found
        return SearchPage(hits, None if end is None else encode_place(end, text))

    async def appended(self, count: int) -> None:
        """Note that messages were appended; index what is noted if there are enough.

        A failure is logged: what is noted stays so, and is searched as it is.
        """
        self._appended += count
        if self._appended >= INDEX_AT:
            self._appended = 0
            await self._index()

    async def _index(self) -> None:
        try:
            for _ in range(_ROUNDS):
                done = await self._retrying.write(search_index.index_batch, self._options)
                if done is None or done < search_index.BATCH // 2:
                    return
        except StoreError as exc:
            logger.warning("search: what was noted is not indexed yet: %s", exc)

    async def build(self, advance: Callable[[int], None], *, creates: bool) -> int:
        """Index every message that is not indexed; return how many that were.

        Others may append meanwhile. After a failure, call it again: it goes on from there.
        """
        await self._retrying.write(prepare_search, creates=creates)
        await self._retrying.write(search_index.drop_strays)
        indexed = await self._drain(advance)
        owner: str | None = None
        while (owner := await self._retrying.read(search_index.next_owner, owner)) is not None:
            ids = await self._retrying.read(search_index.sessions_of, owner)
            for start in range(0, len(ids), _SESSIONS):
                portion = ids[start : start + _SESSIONS]
                while await self._retrying.write(search_index.note_old, owner, portion):
                    indexed += await self._drain(advance)
        return indexed

    async def _drain(self, advance: Callable[[int], None]) -> int:
        """Index all that is noted."""
        indexed = 0
        while True:
            done = await self._retrying.write(search_index.index_batch, self._options)
            if not done:
                return indexed
            indexed += done
            advance(done)


_SESSIONS = 20


class _Reading:
    """Reads one page; `read` may run again as a whole."""

    def __init__(self, query: Query, filters: Filters, limit: int, options: SearchOptions) -> None:
        self._query = query
        self._filters = filters
        self._limit = limit
        self._options = options
        self.takes_all = False

    def read(
        self, database: Database, place: Place | None
    ) -> tuple[list[SearchHit], Place | None] | None:
        """Return the hits of the page after ``place``, and its end; None after the last page.

        It returns None if so much is noted that it is to be indexed first.
        """
        require_search_tables(database)
        until = search.time_now(database) if place is None else place.until
        filters = self._filters._replace(until=until)
        # Read before the index: what is indexed meanwhile is in both.
        noted = search.noted_of(database, filters.owner, takes_all=self.takes_all)
        if noted is None:
            return None
        windows = _Windows(database, self._query, filters, noted, self._options)
        return read_page(windows, self._query, place or first_place(until), self._limit)


class _Windows(NamedTuple):
    """The matches in the index, and in what is noted beside it."""

    database: Database
    query: Query
    filters: Filters
    noted: list[NotedMessage]
    options: SearchOptions

    def window(self, place: Place) -> tuple[list[RankedMatch], int]:
        """See `Windows.window`."""
        parts = bool(place.parts)
        lowest = place.lowest
        floor = None
        if lowest is None and parts:
            floor = search.floor_of(self.database, self.filters.owner, place.above)
        begin = lowest if lowest is not None else floor
        begin = LEAST_NUMBER if begin is None else begin
        # In a window that was begun are also those that were noted then, and indexed since.
        most = WINDOW if lowest is None else WINDOW + search.MOST_NOTED
        found = search.find_matches(
            self.database,
            self.query,
            self.filters,
            parts=parts,
            above=place.above,
            lowest=begin,
            most=most,
        )
        if lowest is None and len(found) == WINDOW:
            begin = found[-1].number or 0
        if place.above == MAX_INTEGER:  # the newest ones
            there = {(each.session_id, each.seq) for each in found}
            more = self._matching(parts=parts)
            found += [each for each in more if (each.session_id, each.seq) not in there]
        placed = (
            ranked_match(self.query, each.words, each.moment, each.session_id, each.seq)
            for each in found
        )
        return sorted(placed), begin

    def _matching(self, *, parts: bool) -> Iterator[Match]:
        """Yield what matches of the messages that are not indexed yet."""
        filters = self.filters
        for session_id, seq, moment, message in self.noted:
            role, content = searchable_text(message, self.options)
            is_searched = (
                filters.session_id in (None, session_id)
                and filters.role in (None, search_index.stored_role(role))
                and filters.since <= moment <= filters.until
            )
            if is_searched and content:
                text = padded(words_of(content))
                if is_wanted(self.query, text, parts=parts):
                    yield Match(None, session_id, seq, moment, text[1:-1])

    def hits(self, ranked: list[RankedMatch]) -> list[SearchHit]:
        """See `Windows.hits`."""
        places = [(each.session_id, each.seq) for each in ranked]
        shown = search.show(self.database, self.filters.owner, places)
        return [
            self._hit(each, shown[each.session_id, each.seq])
            for each in ranked
            if (each.session_id, each.seq) in shown
        ]

    def _hit(self, ranked: RankedMatch, shown: search.Shown) -> SearchHit:
        role, content = searchable_text(shown.message, self.options)
        snippet, marks = snippet_of(content, self.query)
        return SearchHit(
            session_id=ranked.session_id,
            title=shown.title,
            turn_id=shown.turn_id,
            index=shown.place,
            role=role,
            created_at=time_of(shown.moment),
            snippet=snippet,
            marks=marks,
            rank=-ranked.falling_rank / 1_000_000,
        )
