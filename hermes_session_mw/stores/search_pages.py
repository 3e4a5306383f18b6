"""The pages of a search: which matches come first, and how one page leads to the next.

Rules of this file: it knows neither a database nor an index. A store gives it *windows*, which are
some hundred matches with the newest numbers below those of the window before.
"""

from typing import NamedTuple, Protocol

from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.search import Place, SearchHit
from hermes_session_mw.stores.search_text import RANKED, Query, is_match, rank_of

LEAST_NUMBER = -(2**62)
"""Less than every message's number."""


class RankedMatch(NamedTuple):
    """A match in the order of a page: the best first, and of those alike the newest."""

    falling_rank: int
    falling_moment: int
    session_id: str
    seq: int


class Windows(Protocol):
    """Where the matches of a search come from."""

    def window(self, place: Place) -> tuple[list[RankedMatch], int]:
        """Return a window's matches in order, and the least number that is in it.

        The window is that of ``place``, or the one below ``place.above`` where it is not read yet.
        """
        ...

    def hits(self, ranked: list[RankedMatch]) -> list[SearchHit]:
        """Return what is told of these matches; those that are gone are left out."""
        ...


def first_place(until: int) -> Place:
    """Return where a search begins that tells what is stored up to ``until``."""
    return Place(0, until, MAX_INTEGER, None, 0, 0, "", 0)


def read_page(
    windows: Windows, query: Query, place: Place, limit: int
) -> tuple[list[SearchHit], Place | None]:
    """Return the hits of the page after ``place``, and its end; None after the last page."""
    hits: list[SearchHit] = []
    while True:
        window, lowest = windows.window(place)
        after = RankedMatch(-place.rank, -place.moment, place.session_id, place.seq)
        left = [each for each in window if place.rank == 0 or each > after]
        room = limit - len(hits)
        if left and not room:
            return hits, place
        hits += windows.hits(left[:room])
        if len(left) > room:
            return hits, _after(place, left[room - 1], lowest)
        following = _following(query, place, lowest)
        if following is None or (place.parts and following.parts):
            return hits, following
        place = following


def is_wanted(query: Query, text: str, *, parts: bool) -> bool:
    """Tell whether a `padded` text matches by its whole words; with ``parts``, only by parts."""
    is_whole = is_match(query, text, parts=False)
    return is_match(query, text, parts=True) and not is_whole if parts else is_whole


def ranked_match(query: Query, words: str, moment: int, session_id: str, seq: int) -> RankedMatch:
    """Return a match by its message's words, of which the first `RANKED` characters count."""
    return RankedMatch(-rank_of(query, f" {words[:RANKED]} "), -moment, session_id, seq)


def _after(place: Place, last: RankedMatch, lowest: int) -> Place:
    """Return the place after a match in the window that goes down to ``lowest``."""
    return place._replace(
        lowest=lowest,
        rank=-last.falling_rank,
        moment=-last.falling_moment,
        session_id=last.session_id,
        seq=last.seq,
    )


def _following(query: Query, place: Place, lowest: int) -> Place | None:
    """Return where the next window begins, or None after the last."""
    start = place._replace(lowest=None, rank=0, moment=0, session_id="", seq=0)
    if lowest > LEAST_NUMBER:
        return start._replace(above=lowest)
    has_parts = any(term.part is not None for term in query)
    if place.parts or not has_parts:
        return None
    return start._replace(parts=1, above=MAX_INTEGER)
