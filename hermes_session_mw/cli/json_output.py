"""The output of ``--json``: sessions, messages and totals as JSON objects."""

import json
from datetime import UTC, datetime
from typing import Any

from hermes_session_mw.stores.models import ArchivedMessage
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession, Totals


def as_json(value: Any) -> str:
    """Return JSON in ASCII, without control characters."""
    return json.dumps(value, indent=2)


def iso(time: datetime | None) -> str | None:
    """Return the time as ISO 8601, in UTC."""
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


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
        "messages": info.length,
        "turns": session.turns,
        "archived": session.archived,
        "created_at": iso(info.created_at),
        "updated_at": iso(info.updated_at),
        "parent_id": info.parent_id,
    }


def archived_json(archived: ArchivedMessage) -> dict[str, Any]:
    """Return an archived message."""
    return {
        "message": archived.message,
        "turn_id": archived.turn_id,
        "reason": archived.reason,
        "archived_at": iso(archived.archived_at),
    }


def totals_json(totals: Totals) -> dict[str, Any]:
    """Return the totals of a store."""
    return {
        "sessions": totals.sessions,
        "messages": totals.messages,
        "turns": totals.turns,
        "archived": totals.archived,
        "owners": totals.owners,
        "ownerless": totals.ownerless,
        "deleted": totals.deleted,
        "oldest": iso(totals.oldest),
        "newest": iso(totals.newest),
        "bytes": totals.bytes,
    }
