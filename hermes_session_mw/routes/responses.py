"""The responses of the session routes."""

import json
from typing import Any

from starlette.responses import Response

from hermes_session_mw.asgi.error_responses import route_refusal_of
from hermes_session_mw.asgi.exception_handlers import NO_STORE, response_of
from hermes_session_mw.exceptions import HermesSessionError, StoreError
from hermes_session_mw.logging import logger
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
