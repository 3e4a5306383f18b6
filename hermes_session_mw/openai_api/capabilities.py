"""What a server says about itself at ``GET /v1/capabilities``, in the shape of Hermes Agent's.

Rules of this file: a pure function of an application's configuration. What clients of Hermes Agent
read (``object``, ``auth``, ``features``, ``endpoints``) is named as there; what it does not say
(``headers``, ``history``, ``session_keys``, ``idempotency``, ``answers``, ``limits``) stands beside
it.
"""

import re
from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, Route

from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    ON_DISCONNECT_HEADER,
    REPLAYED_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
    TURN_HEADER,
)
from hermes_session_mw.session.answer import OnDisconnect
from hermes_session_mw.stores import Store
from hermes_session_mw.stores.models import MAX_KEY_LENGTH, MAX_TITLE

_NAMES = {
    ("GET", "/healthz"): "health",
    ("GET", "/v1/models"): "models",
    ("POST", "/v1/chat/completions"): "chat_completions",
    ("POST", "/v1/responses"): "responses",
    ("GET", "/v1/sessions"): "sessions",
    ("GET", "/v1/sessions/{id}"): "session",
    ("PATCH", "/v1/sessions/{id}"): "session_update",
    ("DELETE", "/v1/sessions/{id}"): "session_delete",
    ("GET", "/v1/sessions/{id}/messages"): "session_messages",
    ("POST", "/v1/sessions/{id}/fork"): "session_fork",
}
"""The names that Hermes Agent gives to endpoints; the name of another one is made of its path."""

_CONVERTOR = re.compile(r":\w+}")  # of Starlette's paths, as in {name:path}


def capabilities(
    routes: Iterable[BaseRoute],
    store: Store,
    *,
    platform: str,
    model: str,
    has_owners: bool,
    session_keys: bool,
    max_body_bytes: int,
    derives_ids: bool = False,
    allows_origins: bool = False,
    on_disconnect: OnDisconnect = "continue",
    header: str = SESSION_HEADER,
) -> dict[str, Any]:
    """Return the answer to ``GET /v1/capabilities``.

    Args:
        routes: the application's; those at ``/v1`` are endpoints, and ``/healthz``.
        store: the middleware's, whose limits are told.
        platform: the server's name.
        model: the model that answers a request which names none.
        has_owners: whether requests need an API key.
        session_keys: whether ``X-Hermes-Session-Key`` names a conversation.
        max_body_bytes: bytes that a request's body may have.
        derives_ids: whether requests without an id are recognized by their conversation.
        allows_origins: whether pages of other origins may use the API.
        on_disconnect: what becomes of a chat's answer whose client leaves without a word on it.
        header: the session header's name.
    """
    endpoints = dict(sorted(_endpoints(routes)))
    if not has_owners:
        endpoints.pop("sessions", None)  # a list of all ids would let anybody read each session
    named = "conversation" if session_keys else "memory_scope"
    key_header = SESSION_KEY_HEADER if has_owners else None
    return {
        "object": "hermes.api_server.capabilities",
        "platform": platform,
        "model": model,
        "auth": {"type": "bearer", "required": has_owners},
        "runtime": {"mode": "chat_server", "tool_execution": "client", "split_runtime": False},
        "features": {
            "chat_completions": "chat_completions" in endpoints,
            "chat_completions_streaming": "chat_completions" in endpoints,
            "responses_api": "responses" in endpoints,
            "responses_streaming": "responses" in endpoints,
            "responses_background": "post_responses_response_id_cancel" in endpoints,
            "conversations_api": "post_conversations" in endpoints,
            "session_resources": has_owners and "sessions" in endpoints,
            "session_fork": has_owners and "session_fork" in endpoints,
            "run_submission": False,
            "session_continuity_header": header,
            "session_key_header": key_header,
            "cors": allows_origins,
        },
        "headers": {
            "session_id": header,
            "session_key": key_header,
            "history_source": HISTORY_SOURCE_HEADER,
            "turn": TURN_HEADER,
            "idempotency_key": IDEMPOTENCY_HEADER,
            "idempotency_replayed": REPLAYED_HEADER,
            "on_disconnect": ON_DISCONNECT_HEADER,
        },
        "history": {
            # With an id the stored history counts, and only what is new in the body is added.
            "source": "session",
            "sources": ["session", "request"],
            "body": ["whole", "new"],
            "without_id": "derived" if derives_ids else "new",
        },
        "session_keys": {"names": named if has_owners else None},
        "idempotency": {
            "scope": "session",
            "apis": "separate",  # one key at both is two requests
            "reused": 409,
            "compares": "request",
            "running": "joined",  # a request that is repeated while its answer runs
        },
        "answers": {"on_disconnect": on_disconnect, "cursor": "event_id"},
        "limits": {
            "max_body_bytes": max_body_bytes,
            "max_message_bytes": getattr(store, "max_message_bytes", None),
            "max_turn_messages": getattr(store, "max_turn_messages", None),
            "max_session_id_length": MAX_KEY_LENGTH["session_id"],
            "max_session_key_length": MAX_KEY_LENGTH["key"],
            "max_idempotency_key_length": MAX_KEY_LENGTH["turn_id"],
            "max_title_length": MAX_TITLE,
        },
        "endpoints": endpoints,
    }


def _endpoints(routes: Iterable[BaseRoute]) -> Iterable[tuple[str, dict[str, str]]]:
    for route in routes:
        if isinstance(route, Route) and route.path.startswith(("/v1/", "/healthz")):
            for method in (route.methods or set()) - {"HEAD"}:
                path = _CONVERTOR.sub("}", route.path)
                name = _NAMES.get((method, path)) or _name_of(method, path)
                yield name, {"method": method, "path": path}


def _name_of(method: str, path: str) -> str:
    """Return a name for an endpoint: ``get_responses_id`` for ``GET /v1/responses/{id}``."""
    words = [word.strip("{}") for word in path.split("/")[2:]]
    return "_".join([method.lower(), *words])
