"""The route that finds messages: its parameters, and what it answers."""

from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams

from hermes_session_mw.routes import parameters
from hermes_session_mw.stores.models import rfc3339
from hermes_session_mw.stores.search import MAX_HITS, MAX_QUERY, SearchHit, SearchPage
from hermes_session_mw.stores.validation import check_keys

HITS = 20
"""Hits on a page, by default."""

_SESSION_ID = "'session_id' is an id that a session can have."
_SINCE = "'since' is a time with its zone, such as 2026-01-31T12:00:00Z."


def arguments(query: QueryParams, owner: str) -> dict[str, Any]:
    """Return the arguments of `SearchStore.search`; refuse what cannot be one."""
    names = ("q", "cursor", "session_id", "role", "since")
    values = {name: parameters.single_value(name, query.getlist(name)) for name in names}
    text = values["q"] or ""
    if len(text) > MAX_QUERY:
        raise parameters.invalid("q", f"'q' has up to {MAX_QUERY} characters.")
    limit = parameters.whole_number("limit", query.getlist("limit"), 1, MAX_HITS)
    session_id = values["session_id"]
    if session_id is not None:
        try:
            check_keys(session_id, owner)
        except ValueError:
            raise parameters.invalid("session_id", _SESSION_ID) from None
    return {
        "owner": owner,
        "query": text,
        "limit": HITS if limit is None else limit,
        "cursor": values["cursor"],
        "session_id": session_id,
        "role": values["role"],
        "since": None if values["since"] is None else _time(values["since"]),
    }


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            time.timestamp()
            return time
    except (ValueError, OverflowError):
        pass
    raise parameters.invalid("since", _SINCE)


def page_as_json(page: SearchPage) -> dict[str, Any]:
    """Return a page as the route answers it: the schema ``SearchPage`` of the description."""
    more = {"has_more": page.cursor is not None, "next_cursor": page.cursor}
    return {"object": "list", "data": [_hit_as_json(each) for each in page.hits], **more}


def _hit_as_json(hit: SearchHit) -> dict[str, Any]:
    return {
        "object": "search.hit",
        "session_id": hit.session_id,
        "title": hit.title,
        "turn_id": hit.turn_id,
        "index": hit.index,
        "role": hit.role,
        "created_at": rfc3339(hit.created_at),
        "rank": hit.rank,
        "snippet": _pieces(hit),
    }


def _pieces(hit: SearchHit) -> list[dict[str, Any]]:
    """Return the snippet as texts, of which some were found.

    JavaScript counts characters otherwise than Python, so that indexes would not lead there.
    """
    found, end = [], 0
    for start, stop in hit.marks:
        found += [(hit.snippet[end:start], False), (hit.snippet[start:stop], True)]
        end = stop
    found.append((hit.snippet[end:], False))
    return [{"text": text, "found": is_found} for text, is_found in found if text]
