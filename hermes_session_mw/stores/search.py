"""`SearchStore`, the protocol for finding messages by their words, and the values that it returns.

Only a store that was made with ``search=True`` has it.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.stores.models import MAX_INTEGER, PAGE
from hermes_session_mw.stores.validation import check_int, check_text

MAX_QUERY = 256
"""Characters that a query may have."""

MAX_HITS = 100
"""Hits that a page may have."""

WINDOW = 500
"""Matches that are put in order together: the newest ones first, then those before them."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What of a message is searched beside its text.

    All processes that share a database should have the same options: a message is indexed with
    those of whichever process indexes it.

    Attributes:
        tool_output: whether the results of tools are, and the arguments of their calls.
        pictures: whether the URLs of pictures and the names of files are; embedded data never is.
    """

    tool_output: bool = False
    pictures: bool = False


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that was found.

    Attributes:
        session_id: its conversation.
        title: the conversation's title, or None.
        turn_id: its turn.
        index: its index in the conversation's history, from 0.
        role: its role, such as "user"; "" if it has none.
        created_at: when it was stored, in UTC.
        snippet: a part of its text, on one line.
        marks: what was found in the snippet: the index of the first character of each, and of the
            one after it, in order and without an overlap.
        rank: how well it matches, above 0; it depends on the message and the query alone.
    """

    session_id: str
    title: str | None
    turn_id: str
    index: int
    role: str
    created_at: datetime
    snippet: str
    marks: tuple[tuple[int, int], ...]
    rank: float


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of hits, the best first; ``cursor`` is for the next page, None after the last."""

    hits: list[SearchHit]
    cursor: str | None


@runtime_checkable
class SearchStore(Protocol):
    """What a store has that finds messages."""

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
    ) -> SearchPage:
        """Return the owner's messages that have all words of ``query``, the best of them first.

        What is in quotation marks is found as it stands. Only the histories are searched, not the
        archives, nor an answer that runs.

        Args:
            owner: whose messages; "" for those that have no owner.
            query: words as a person types them; no character of it is an operator but the quotation
                mark. Without a letter or a digit it finds nothing.
            limit: hits on a page.
            cursor: that of the page before, for the same query, and with the same filters.
            session_id: of this session alone.
            since: stored at this time or later; it has a time zone.
            role: with this role alone.

        Raises:
            ValueError: ``query`` has more than 256 characters, ``limit`` is not from 1 to 100,
                ``cursor`` comes from no page of this query, or ``since`` has no time zone.
            InvalidKey: no session can have the owner or the id.
            NotSupported: the store was made without ``search=True``.
        """
        ...


class Place(NamedTuple):
    """Where a page ended.

    Attributes:
        parts: 1 once all messages with whole words were told, and those with parts of words follow.
        until: the time of the first page, in microseconds from 1970: what is stored later is not
            told.
        above: the number that the window's messages are below.
        lowest: the number of the last message of the window; None where the window was not read
            yet.
        rank: that of the last hit, in millionths.
        moment, session_id, seq: of the last hit.
    """

    parts: int
    until: int
    above: int
    lowest: int | None
    rank: int
    moment: int
    session_id: str
    seq: int


def options_of(search: object) -> SearchOptions:
    """Return what a store's argument ``search`` asks for; ``ConfigurationError`` for another."""
    if not isinstance(search, SearchOptions | bool):
        raise ConfigurationError(f"search: {search!r} is neither a bool nor SearchOptions")
    return search if isinstance(search, SearchOptions) else SearchOptions()


def check_search(query: object, role: object, limit: int, since: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless a search can have these arguments."""
    if not isinstance(query, str):
        raise TypeError(f"query is a {type(query).__name__}, not a str")
    if len(query) > MAX_QUERY:
        raise ValueError(f"query: it has more than {MAX_QUERY} characters")
    if not isinstance(role, str | None):
        raise TypeError(f"role is a {type(role).__name__}, not a str")
    if role is not None:
        check_text("role", role.replace("\0", ""), len(role), ValueError)
    check_int("limit", limit)
    if not 1 <= limit <= MAX_HITS:
        raise ValueError(f"limit: it is not from 1 to {MAX_HITS}")
    if not isinstance(since, datetime | None):
        raise TypeError(f"since is a {type(since).__name__}, not a datetime")
    if since is not None and since.utcoffset() is None:
        raise ValueError("since: it has no time zone")


def encode_place(place: Place, query: str) -> str:
    """Return the cursor that leads on from a place."""
    text = json.dumps([*place, query], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii")


def decode_place(cursor: str, query: str) -> Place:
    """Return the place that a cursor was made of; ``ValueError`` if no page of ``query`` has it."""
    try:
        *values, asked = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        place = Place(*values)
        is_own = asked == query and encode_place(place, query) == cursor
        if is_own and _is_place(values):
            return place
    except (ValueError, TypeError, RecursionError):
        pass
    raise ValueError("cursor: it does not come from a page of this query")


def _is_place(values: list[object]) -> bool:
    """Tell whether the values of a cursor have the types and limits of a place's."""
    parts, until, above, lowest, rank, moment, session_id, seq = values
    numbers = [parts, until, above, rank, moment, seq, *([] if lowest is None else [lowest])]
    are_whole = all(type(each) is int and abs(each) <= MAX_INTEGER for each in numbers)
    return are_whole and parts in (0, 1) and isinstance(session_id, str)
