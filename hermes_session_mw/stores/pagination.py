"""Pages of a list: what may be asked for, and the cursor that leads to the next one.

Rules of this file: pure functions.
"""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hermes_session_mw.stores.base import check_count, check_text
from hermes_session_mw.stores.models import MAX_LEASE, MAX_PAGE, MAX_TITLE, SessionInfo, SessionPage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """The session that a page ended with: when it was changed, in microseconds, and its id."""

    changed: int
    session_id: str


def check_length(length: int | None) -> None:
    """Refuse a negative number of messages.

    Raises:
        TypeError: it is no int.
        ValueError: it is negative.
    """
    check_count("length", length)
    if length is not None and length < 0:
        raise ValueError(f"length: {length} is negative")


def check_lease(seconds: float) -> None:
    """Refuse a lease that ends at once, or never.

    Raises:
        ValueError: it is not more than 0, or more than ``MAX_LEASE`` seconds.
    """
    if not 0 < seconds <= MAX_LEASE:
        raise ValueError(f"a lease of {seconds} s is not one of more than 0, and up to {MAX_LEASE}")


def check_page(limit: int) -> None:
    """Refuse a page without sessions, or with so many that somebody would wait for it.

    Raises:
        TypeError: ``limit`` is no int.
        ValueError: ``limit`` is not between 1 and ``MAX_PAGE``.
    """
    check_count("limit", limit)
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: {limit} is not between 1 and {MAX_PAGE}")


def check_title(title: str | None) -> None:
    """Refuse a title that some database cannot hold.

    Raises:
        ValueError: it is no text, too long, or holds NUL or a lone surrogate.
    """
    if title is not None:
        check_text("title", title, MAX_TITLE, ValueError)


def page_of(found: list[SessionInfo], limit: int) -> SessionPage:
    """Return the first ``limit`` of ``found``, and a cursor if there are more."""
    sessions = found[:limit]
    more = len(found) > limit
    return SessionPage(sessions, cursor_to(*place_of(sessions[-1])) if more else None)


def place_of(session: SessionInfo) -> Place:
    """Return where the session stands in a list."""
    return Place((session.updated_at - _EPOCH) // timedelta(microseconds=1), session.id)


def place_after(cursor: str | None) -> Place | None:
    """Return where the page before ended; None for the first page.

    Raises:
        ValueError: the cursor is not one that a page gave.
    """
    if cursor is None:
        return None
    changed, (session_id,) = place_in(cursor, 256)
    return Place(changed, session_id)


def cursor_to(changed: int, *names: str | None) -> str:
    """Return what leads to the sessions after a place: a time in microseconds, and names."""
    return base64.urlsafe_b64encode(json.dumps([changed, *names]).encode()).decode("ascii")


def place_in(cursor: str, *sizes: int) -> tuple[int, list[str]]:
    """Return the place that a cursor was made of; its names have up to ``sizes`` characters.

    Raises:
        ValueError: the cursor is not one that a page gave.
    """
    try:
        changed, *names = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        # As it is written here: no fraction, no true, no other spelling.
        if type(changed) is int and cursor_to(changed, *names) == cursor:
            for name, size in zip(names, sizes, strict=True):
                check_text("cursor", name, size, ValueError)
            if -(2**63) <= changed < 2**63:
                return changed, names
    except (ValueError, TypeError, RecursionError):
        pass
    raise ValueError("cursor: it is not one that a page of this list gave")


def time_of(microseconds: int) -> datetime:
    """Return the time that is so many microseconds after 1970 began, in UTC."""
    return _EPOCH + timedelta(microseconds=int(microseconds))
