"""The session routes as OpenAPI 3.1 describes them.

Rules of this file: pure functions.
"""

from typing import Any

from hermes_session_mw.routes.parameters import MAX_INDEX
from hermes_session_mw.stores.models import MAX_PAGE, MAX_TITLE, PAGE

_Json = dict[str, Any]

ID_FORMAT, CURSOR_FORMAT = "hermes-session-id", "hermes-session-cursor"
"""The ``format`` of what no client makes up: each is as a response gave it."""

_NO_STORE: _Json = {
    "Cache-Control": {"required": True, "schema": {"type": "string", "const": "no-store"}}
}
_RETRY: _Json = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}

_TITLE: _Json = {
    "type": ["string", "null"],
    "maxLength": MAX_TITLE,
    "pattern": "^[^\\u0000]*$",  # not every database stores NUL
}
_ID: _Json = {"type": "string", "minLength": 1, "maxLength": 256, "format": ID_FORMAT}
_TIME: _Json = {"type": "string", "format": "date-time"}
_COUNT: _Json = {"type": "integer", "minimum": 0}
_MORE: _Json = {"type": "boolean"}

_SCHEMAS: _Json = {
    "Session": {
        "type": "object",
        "required": [
            "id",
            "object",
            "title",
            "length",
            "created_at",
            "updated_at",
            "parent_id",
        ],
        "properties": {
            "id": _ID,
            "object": {"const": "session"},
            "title": _TITLE,
            "length": _COUNT | {"description": "The number of its messages."},
            "created_at": _TIME,
            "updated_at": _TIME | {"description": "When its messages were changed last."},
            "parent_id": {
                "type": ["string", "null"],
                "description": "The session that it was forked from.",
            },
        },
    },
    "SessionList": {
        "type": "object",
        "required": ["object", "data", "has_more", "next_cursor"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Session"}},
            "has_more": _MORE,
            "next_cursor": {"type": ["string", "null"]},
        },
    },
    "MessageList": {
        "type": "object",
        "required": ["object", "data", "length", "has_more", "next_before"],
        "properties": {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": {"type": "object"},
                "description": "Oldest first, each as it was stored.",
            },
            "length": _COUNT | {"description": "The number of messages in the session."},
            "has_more": _MORE,
            "next_before": {"type": ["integer", "null"], "minimum": 1},
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"enum": ["invalid_request_error", "server_error"]},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
            },
        },
    },
}

_ERRORS: dict[int, str] = {
    400: "A parameter or the body is not as described.",
    401: "Nobody knows whose request this is.",
    403: "The sessions have no owners, and are not listed.",
    404: "The owner has no such session.",
    409: "The session is being changed, or was deleted.",
    413: "The body is too large.",
    501: "The sessions are kept where this cannot be done.",
    503: "The sessions cannot be reached at the moment.",
}
_ERROR_HEADERS: dict[int, _Json] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    409: _RETRY,
    503: _RETRY,
}


def describe(prefix: str, server: str) -> dict[str, Any]:
    """Return the description of the routes below ``prefix``, which a client reaches at ``server``.

    It does not say how clients show who they are, which the application's owner hook decides; an
    application adds its ``security`` there.
    """
    one = [{"name": "id", "in": "path", "required": True, "schema": _ID}]
    limit = _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE})
    cursor = _query("cursor", {"type": "string", "format": CURSOR_FORMAT})
    before = _query("before", {"type": "integer", "minimum": 0, "maximum": MAX_INDEX})
    before["description"] = "The place in the session that the page ends before; 0 is its first."
    title = _body({"title": _TITLE}, ["title"])
    length: _Json = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_INDEX}
    length["description"] = "How many of its messages the new session begins with; all by default."
    location = {"Location": {"required": True, "schema": {"type": "string"}}}
    paths: _Json = {
        "": {
            "get": _operation(
                "list_sessions",
                "List the sessions, the ones that were changed last first.",
                _answers(200, "One page of them.", "SessionList", 400, 403),
                parameters=[limit, cursor],
            ),
        },
        "/{id}": {
            "parameters": one,
            "get": _operation(
                "get_session",
                "Tell of one session.",
                _answers(200, "The session.", "Session", 400, 404),
            ),
            "patch": _operation(
                "rename_session",
                "Give the session a title, or none.",
                _answers(200, "The session.", "Session", 400, 404, 409, 413),
                requestBody=title,
            ),
            "delete": _operation(
                "delete_session",
                "Delete the session for good.",
                _answers(204, "It is deleted.", None, 400, 404, 409),
            ),
        },
        "/{id}/messages": {
            "parameters": one,
            "get": _operation(
                "list_messages",
                "Read the session's messages, from the newest page backwards.",
                _answers(
                    200, "One page; it may be shorter than its limit.", "MessageList", 400, 404
                ),
                parameters=[limit, before],
            ),
        },
        "/{id}/fork": {
            "parameters": one,
            "post": _operation(
                "fork_session",
                "Begin another session with the first messages of this one.",
                _answers(201, "The new session.", "Session", 400, 404, 409, 413, headers=location),
                requestBody=_body({"length": length}) | {"required": False},
            ),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sessions", "version": "1"},
        "servers": [{"url": server or "/"}],
        "paths": {f"{prefix}{path}": operations for path, operations in paths.items()},
        "components": {"schemas": _SCHEMAS},
    }


def _operation(name: str, summary: str, responses: _Json, **more: Any) -> _Json:
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def _query(name: str, schema: _Json) -> _Json:
    return {"name": name, "in": "query", "schema": schema}


def _body(properties: _Json, required: list[str] | None = None) -> _Json:
    schema: _Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answers(
    status: int, text: str, schema: str | None, *errors: int, headers: _Json | None = None
) -> _Json:
    found: _Json = {"description": text, "headers": _NO_STORE | (headers or {})}
    if schema is not None:
        found["content"] = _content(schema)
    answers = {str(status): found}
    for code in sorted({*errors, 401, 501, 503}):
        answers[str(code)] = {
            "description": _ERRORS[code],
            "headers": _NO_STORE | _ERROR_HEADERS.get(code, {}),
            "content": _content("Error"),
        }
    return answers


def _content(schema: str) -> _Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
