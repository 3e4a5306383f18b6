"""Pages of a list: what may be asked for, and the cursor that leads to the next one.

Rules of this file: pure functions.
"""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hermes_session_mw.stores.models import SessionInfo, SessionPage
from hermes_session_mw.stores.validation import check_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """The session that a page ended with: when it was changed, in microseconds, and its id."""

    changed: int
    session_id: str


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
