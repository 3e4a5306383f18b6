"""The output of ``--json``, and times for people to read."""

import json
from datetime import UTC, datetime
from typing import Any

from hermes_session_mw.stores.models import rfc3339
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession, Problem


def as_json(value: Any) -> str:
    """Return JSON in ASCII, without control characters; times as ISO 8601, in UTC."""
    return json.dumps(value, indent=2, default=rfc3339)


def problem_json(problem: Problem) -> dict[str, Any]:
    """Return what is wrong, and of which session, if it is one's."""
    return {"problem": problem.what, "session_id": problem.session_id, "owner": problem.owner}


def plain(time: datetime | None) -> str:
    """Return the time for people to read, in UTC."""
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def session_json(session: OwnedSession) -> dict[str, Any]:
    """Return a session's description."""
    info = session.info
    return {
        "id": info.id,
        "owner": session.owner,
        "title": info.title,
        "first_words": info.first_words,
        "messages": info.length,
        "turns": session.turns,
        "archived": session.archived,
        "created_at": info.created_at,
        "updated_at": info.updated_at,
        "parent_id": info.parent_id,
        "expires_at": info.expires_at,
        "tags": info.tags,
        "pinned": info.pinned,
        "shelved": info.shelved,
        "metadata": dict(info.metadata),
    }
