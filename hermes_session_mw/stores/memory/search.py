"""The search of a `MemoryStore` that was made with ``search=True``.

There is no index: each search reads the owner's messages, whose words are kept once they were read.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from weakref import WeakKeyDictionary

from anyio.lowlevel import checkpoint

from hermes_session_mw.messages import decode_messages
from hermes_session_mw.stores.memory.records import Row, SessionRecord
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
from hermes_session_mw.stores.validation import check_keys

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Records = Mapping[str, SessionRecord]
"""An owner's sessions, by id."""


class SearchedText(NamedTuple):
    """What is searched of a message: its role, and its words, `padded`; "" for no words."""

    role: str
    words: str


class MemorySearch:
    """Searches a store's messages.

    Args:
        options: what is searched of a message.
    """

    def __init__(self, options: SearchOptions) -> None:
        self._options = options
        # It forgets a message with the history that had it.
        self._texts: WeakKeyDictionary[Row, SearchedText] = WeakKeyDictionary()

    async def search(
        self,
        records_of: Callable[[], Records],
        owner: str,
        text: str,
        limit: int,
        cursor: str | None,
        session_id: str | None,
        since: datetime | None,
        role: str | None,
    ) -> SearchPage:
        """See `SearchStore.search`; ``records_of`` returns the owner's sessions."""
        check_keys("-" if session_id is None else session_id, owner)
        check_search(text, role, limit, since)
        place = None if cursor is None else decode_place(cursor, text)
        query = parse_query(text)
        await checkpoint()
        if not query:
            return SearchPage([], None)

        def searched() -> Records:
            records = records_of()
            if session_id is None:
                return records
            return {id_: each for id_, each in records.items() if id_ == session_id}

        until = _moment(datetime.now(UTC)) if place is None else place.until
        least = 0 if since is None else int(since.timestamp() * 1_000_000)
        await self._read(searched())
        records = searched()  # again: some may have been deleted meanwhile
        windows = _Windows(records, query, role, (least, until), self._options, self._text_of)
        hits, end = read_page(windows, query, place or first_place(until), limit)
        return SearchPage(hits, None if end is None else encode_place(end, text))

    async def _read(self, records: Records) -> None:
        """Read the words of messages that no search has read yet, in turns with other tasks."""
        for record in list(records.values()):
            for row in list(record.rows):
                if row not in self._texts:
                    self._text_of(row)
                    await checkpoint()

    def _text_of(self, row: Row) -> SearchedText:
        known = self._texts.get(row)
        if known is None:
            role, content = searchable_text(decode_messages([row.body])[0], self._options)
            known = SearchedText(role, padded(words_of(content)) if content else "")
            self._texts[row] = known
        return known


class _Match(NamedTuple):
    """A message that has the words; it is numbered by the moment at which it was stored."""

    moment: int
    session_id: str
    seq: int
    words: str


class _Windows(NamedTuple):
    """The matches in the records; ``period`` is the first and the last moment of them."""

    records: Records
    query: Query
    role: str | None
    period: tuple[int, int]
    options: SearchOptions
    text_of: Callable[[Row], SearchedText]

    def window(self, place: Place) -> tuple[list[RankedMatch], int]:
        """See `Windows.window`; what was stored at one moment is in one window."""
        found = [each for each in self._matching(place) if each.moment < place.above]
        lowest = place.lowest
        if lowest is None:
            found.sort(key=lambda each: each.moment, reverse=True)
            lowest = found[WINDOW - 1].moment if len(found) > WINDOW else LEAST_NUMBER
        placed = (
            ranked_match(self.query, each.words[1:-1], each.moment, each.session_id, each.seq)
            for each in found
            if each.moment >= lowest
        )
        return sorted(placed), lowest

    def _matching(self, place: Place) -> Iterator[_Match]:
        first, last = self.period
        for session_id, record in self.records.items():
            for seq, row in enumerate(record.rows, record.first):
                moment = _moment(row.at)
                if first <= moment <= last:
                    role, words = self.text_of(row)
                    is_others = self.role not in (None, role)
                    if not is_others and is_wanted(self.query, words, parts=bool(place.parts)):
                        yield _Match(moment, session_id, seq, words)

    def hits(self, ranked: list[RankedMatch]) -> list[SearchHit]:
        """See `Windows.hits`."""
        return [self._hit(each) for each in ranked]

    def _hit(self, ranked: RankedMatch) -> SearchHit:
        record = self.records[ranked.session_id]
        index = ranked.seq - record.first
        row = record.rows[index]
        role, content = searchable_text(decode_messages([row.body])[0], self.options)
        snippet, marks = snippet_of(content, self.query)
        return SearchHit(
            session_id=ranked.session_id,
            title=record.title,
            turn_id=row.turn_id,
            index=index,
            role=role,
            created_at=row.at,
            snippet=snippet,
            marks=marks,
            rank=-ranked.falling_rank / 1_000_000,
        )


def _moment(time: datetime) -> int:
    """Return a time in microseconds from 1970."""
    return (time - _EPOCH) // _MICROSECOND
