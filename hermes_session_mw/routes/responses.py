"""What the session routes answer."""

import json
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from hermes_session_mw.asgi.error_responses import Refusal, refusal_of
from hermes_session_mw.exceptions import (
    HermesSessionError,
    InvalidMessage,
    NotSupported,
    SessionDeleted,
    SessionNotFound,
    SessionTaken,
    StoreError,
)
from hermes_session_mw.logging import logger
from hermes_session_mw.routes.parameters import NOT_FOUND
from hermes_session_mw.stores import SessionInfo

UNKNOWN_OWNER = Refusal(
    401,
    "owner_required",
    "Sessions are shown to their owner: authenticate, and send the request again.",
    headers=((b"www-authenticate", b"Bearer"),),
)

NO_OWNERS = Refusal(
    403,
    "owner_required",
    "Sessions are not listed here: they have no owners, so that anybody could read all of them.",
)

DELETED = Refusal(409, "session_deleted", "The session was deleted.", param="id")

TAKEN = Refusal(409, "session_taken", "The session cannot be stored for its owner.", param="id")

UNAVAILABLE = Refusal(
    503,
    "session_store_unavailable",
    "The sessions cannot be reached at the moment: try again later.",
    type="server_error",
    headers=((b"retry-after", b"1"),),
)

NOT_SUPPORTED = Refusal(
    501, "not_supported", "The sessions are kept where this cannot be done.", type="server_error"
)


def shown(info: SessionInfo) -> dict[str, Any]:
    """Return what a client is told of a session."""
    return {
        "id": info.id,
        "object": "session",
        "title": info.title,
        "length": info.length,
        "created_at": _rfc3339(info.created_at),
        "updated_at": _rfc3339(info.updated_at),
        "parent_id": info.parent_id,
    }


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def as_json(value: Any, status: int = 200) -> Response:
    """Return the response with ``value`` as its body."""
    headers = {"cache-control": "no-store"}
    return Response(json.dumps(value), status, headers, media_type="application/json")


def refusal_for(error: HermesSessionError) -> Refusal | None:
    """Return what an error that a store raised is answered with; None where it is another one."""
    match error:
        case StoreError():
            logger.warning("a session route is answered 503: %s", error)
            logger.debug("the store's failure in full", exc_info=error)
            return UNAVAILABLE
        case NotSupported():
            return NOT_SUPPORTED
        case SessionNotFound():
            return NOT_FOUND
        case SessionDeleted():
            return DELETED
        case SessionTaken():
            return TAKEN
        case _:
            # A message that cannot be stored is a bug here: the client sent none.
            return None if isinstance(error, InvalidMessage) else refusal_of(error)
