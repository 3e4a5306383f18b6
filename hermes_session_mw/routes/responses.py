"""The responses of the session routes."""

import json
from typing import Any

from starlette.responses import Response

from hermes_session_mw.asgi.error_responses import route_refusal_of
from hermes_session_mw.asgi.exception_handlers import NO_STORE, response_of
from hermes_session_mw.exceptions import HermesSessionError, StoreError
from hermes_session_mw.logging import logger
from hermes_session_mw.messages import chat_message
from hermes_session_mw.stores.expiry import SessionExpiry, setting_as_json
from hermes_session_mw.stores.message_store import HistoryRange
from hermes_session_mw.stores.models import SessionInfo, rfc3339


def session_as_json(info: SessionInfo) -> dict[str, Any]:
    """Return a session as the routes show it: the schema ``Session`` of the description."""
    return {
        "id": info.id,
        "object": "session",
        "title": info.title,
        "length": info.length,
        "created_at": rfc3339(info.created_at),
        "updated_at": rfc3339(info.updated_at),
        "parent_id": info.parent_id,
        "expires_at": None if info.expires_at is None else rfc3339(info.expires_at),
        "tags": list(info.tags),
        "pinned": info.pinned,
        "shelved": info.shelved,
        "metadata": dict(info.metadata),
        "first_words": info.first_words,
    }


def expiry_as_json(found: SessionExpiry) -> dict[str, Any]:
    """Return when a session expires: the schema ``Expiry`` of the description."""
    return {
        "object": "session.expiry",
        "expires_after": None if found.own is None else setting_as_json(found.own),
        "inherited": setting_as_json(found.inherited),
        "expires_at": None if found.expires_at is None else rfc3339(found.expires_at),
    }


def messages_as_json(found: HistoryRange) -> dict[str, Any]:
    """Return a page of messages with their times: ``MessageList`` of the description."""
    placed = [(stored, chat_message(stored.message)) for stored in found.messages]
    shown = [(stored, message) for stored, message in placed if message is not None]
    start = found.messages[0].index if found.messages else 0
    return {
        "object": "list",
        "data": [message for _, message in shown],
        "positions": [stored.index for stored, _ in shown],
        "created_at": [rfc3339(stored.created_at) for stored, _ in shown],
        "length": found.length,
        "has_more": start > 0,
        "next_before": start or None,
    }


def json_response(value: Any, status: int = 200) -> Response:
    """Return the response with ``value`` as its body."""
    return Response(json.dumps(value), status, NO_STORE, media_type="application/json")


def error_response(error: HermesSessionError) -> Response | None:
    """Return the response to an error of the store, or None."""
    if isinstance(error, StoreError):
        logger.warning("a session route is answered 503: %s", error)
        logger.debug("the store's failure in full", exc_info=error)
    refusal = route_refusal_of(error)
    return None if refusal is None else response_of(refusal)
