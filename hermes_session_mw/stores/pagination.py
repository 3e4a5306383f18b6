"""Pages of a list of sessions, and the cursors that lead from one page to the next."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hermes_session_mw.stores.labels import Order
from hermes_session_mw.stores.models import MAX_INTEGER, SessionInfo, SessionPage
from hermes_session_mw.stores.validation import check_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Position(NamedTuple):
    """The last session of a page: when it was changed, in microseconds from 1970, and its id."""

    changed: int
    session_id: str


class OwnedPosition(NamedTuple):
    """The last session of a page of all owners' sessions: when it was changed, and its keys."""

    changed: int
    owner: str
    session_id: str


class Placed(NamedTuple):
    """A session, and its place in a list.

    ``is_pinned`` is whether it is among the pinned ones, None where these do not come first.
    """

    place: Position
    info: SessionInfo
    is_pinned: bool | None = None


_GROUPS = {True: "pinned", False: "others"}
_NO_CURSOR = "cursor: it does not come from a page of this list"

FIRST = Position(MAX_INTEGER, "")
"""The position that all sessions come after."""

FIRST_OF_ALL = OwnedPosition(MAX_INTEGER, "", "")
"""The position that all sessions of all owners come after."""


def page_of(found: list[SessionInfo], limit: int) -> SessionPage:
    """Return the first ``limit`` of ``found``, and a cursor if there are more."""
    sessions = found[:limit]
    more = len(found) > limit
    return SessionPage(sessions, encode_cursor(*position_of(sessions[-1])) if more else None)


def owned_page_of(found: list[SessionInfo], limit: int) -> SessionPage:
    """Return the first ``limit`` of all owners' sessions, and a cursor if there are more."""
    sessions = found[:limit]
    more = len(found) > limit
    return SessionPage(sessions, encode_cursor(*owned_position_of(sessions[-1])) if more else None)


def position_of(session: SessionInfo) -> Position:
    """Return the position of the session in a list."""
    return Position((session.updated_at - _EPOCH) // timedelta(microseconds=1), session.id)


def owned_position_of(session: SessionInfo) -> OwnedPosition:
    """Return the position of the session in a list of all owners' sessions."""
    return OwnedPosition(position_of(session).changed, session.owner, session.id)


def placed_page_of(found: Sequence[Placed], limit: int) -> SessionPage:
    """Return the first ``limit`` of a list, and a cursor if there are more."""
    sessions = [each.info for each in found[:limit]]
    if len(found) <= limit:
        return SessionPage(sessions, None)
    place, _, is_pinned = found[limit - 1]
    group = () if is_pinned is None else (_GROUPS[is_pinned],)
    return SessionPage(sessions, encode_cursor(*place, *group))


def check_cursor(cursor: str | None, order: Order) -> None:
    """Raise ``ValueError`` unless a list in this order may have the cursor."""
    if order == "pinned":
        decode_pinned_cursor(cursor)
    else:
        decode_cursor(cursor)


def decode_pinned_cursor(cursor: str | None) -> tuple[Position, bool]:
    """Return the position before a page of a list with the pinned sessions first.

    And whether it is among these. ``ValueError`` if no such list has the cursor.
    """
    if cursor is None:
        return FIRST, True
    changed, (session_id, group) = decode_fields(cursor, 256, 6)
    if group not in _GROUPS.values():
        raise ValueError(_NO_CURSOR)
    return Position(changed, session_id), group == _GROUPS[True]


def decode_owned_pinned_cursor(cursor: str | None) -> tuple[OwnedPosition, bool]:
    """Return the same as `decode_pinned_cursor`, of a list of all owners' sessions."""
    if cursor is None:
        return FIRST_OF_ALL, True
    changed, (owner, session_id, group) = decode_fields(cursor, 255, 256, 6)
    if group not in _GROUPS.values():
        raise ValueError(_NO_CURSOR)
    return OwnedPosition(changed, owner, session_id), group == _GROUPS[True]


def encode_owned_cursor(session: SessionInfo, *, is_pinned: bool | None = None) -> str:
    """Return the cursor for what comes after a session in a list of all owners' sessions.

    ``is_pinned`` is as for `Placed`.
    """
    group = () if is_pinned is None else (_GROUPS[is_pinned],)
    return encode_cursor(*owned_position_of(session), *group)


def list_order(session: SessionInfo) -> tuple[int, str]:
    """Return the key that a list is sorted by: the last change first, and then by id."""
    changed, session_id = position_of(session)
    return -changed, session_id


def owned_list_order(session: SessionInfo) -> tuple[int, str, str]:
    """Return the key that a list of all owners' sessions is sorted by."""
    changed, owner, session_id = owned_position_of(session)
    return -changed, owner, session_id


def decode_cursor(cursor: str | None) -> Position:
    """Return the position before a page, by its cursor; ``ValueError`` if no list has it."""
    if cursor is None:
        return FIRST
    changed, (session_id,) = decode_fields(cursor, 256)
    return Position(changed, session_id)


def decode_owned_cursor(cursor: str | None) -> OwnedPosition:
    """Return the position before a page of all owners' sessions; ``ValueError`` as above."""
    if cursor is None:
        return FIRST_OF_ALL
    changed, (owner, session_id) = decode_fields(cursor, 255, 256)
    return OwnedPosition(changed, owner, session_id)


def encode_cursor(changed: int, *names: str | None) -> str:
    """Return the cursor for the sessions after a position: a time in microseconds, and keys."""
    return base64.urlsafe_b64encode(json.dumps([changed, *names]).encode()).decode("ascii")


def decode_fields(cursor: str, *sizes: int) -> tuple[int, list[str]]:
    """Return what a cursor was made of; ``ValueError`` if no list with keys of ``sizes`` has it."""
    try:
        changed, *names = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        # Exactly as `encode_cursor` writes it: no fraction, no true, no other spelling.
        if type(changed) is int and encode_cursor(changed, *names) == cursor:
            for name, size in zip(names, sizes, strict=True):
                check_text("cursor", name, size, ValueError)
            if -MAX_INTEGER - 1 <= changed <= MAX_INTEGER:
                return changed, names
    except (ValueError, TypeError, RecursionError):
        pass
    raise ValueError(_NO_CURSOR)


def time_of(microseconds: int) -> datetime:
    """Return the time that many microseconds after 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=int(microseconds))
