"""The other request headers: history, turn, end of the connection, and the two keys."""

import re

from hermes_session_mw.asgi import error_responses
from hermes_session_mw.asgi.error_responses import Refusal
from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    ON_DISCONNECT_HEADER,
    SESSION_KEY_HEADER,
    TURN_HEADER,
)
from hermes_session_mw.asgi.options import MiddlewareOptions
from hermes_session_mw.session.session import HermesSession

OTHER_HEADERS = SESSION_KEY, HISTORY_SOURCE, TURN, IDEMPOTENCY_KEY, ON_DISCONNECT = tuple(
    name.lower().encode("ascii")
    for name in (
        SESSION_KEY_HEADER,
        HISTORY_SOURCE_HEADER,
        TURN_HEADER,
        IDEMPOTENCY_HEADER,
        ON_DISCONNECT_HEADER,
    )
)
"""Those that are read from each request, beside the session's."""

_PRINTABLE = re.compile(rb"[\x20-\x7e]{1,255}")
"""Keys of conversations and of requests: 1 to 255 printable ASCII characters."""

_NO_TURN = re.compile(rb"none|[a-z0-9]+(?:_[a-z0-9]+)+")
"""``none``, or a name as Open WebUI gives its tasks: at least two words, so that no "true" is one.

Open WebUI's ``{{TASK}}`` is ``title_generation``, ``memory_review`` and the like in the requests
that it makes for itself, and empty in a turn; what it does not know it leaves as it is.
"""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Octets that no value may have: RFC 9110, section 5.5."""

_MAX_SCOPE = 256
"""Characters of a memory scope, as in Hermes Agent."""

_QUOTED = re.compile(rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}"')
"""A key as the draft writes it, a String of RFC 9651, section 3.3.3; and not an empty one."""

_ESCAPED = re.compile(rb'\\(["\\])')


def read_other_headers(
    session: HermesSession, found: dict[bytes, list[bytes]], options: MiddlewareOptions
) -> Refusal | None:
    """Set the header fields' values on ``session``; return a refusal if one is not valid."""
    if SESSION_KEY in found:
        read = _read_key if options.session_keys else _read_scope
        refusal = read(session, found[SESSION_KEY], options)
        if refusal is not None:
            return refusal
    if IDEMPOTENCY_KEY in found:
        session.idempotency_key = _idempotency_key(found[IDEMPOTENCY_KEY])
        if session.idempotency_key is None:
            return error_responses.INVALID_IDEMPOTENCY_KEY
    if TURN in found:
        session.is_turn = False
        if len(found[TURN]) != 1 or not _NO_TURN.fullmatch(found[TURN][0]):
            return error_responses.INVALID_TURN
    if ON_DISCONNECT in found and not _read_on_disconnect(session, found[ON_DISCONNECT]):
        return error_responses.INVALID_ON_DISCONNECT
    return _read_history_source(session, found.get(HISTORY_SOURCE))


def _read_on_disconnect(session: HermesSession, values: list[bytes]) -> bool:
    """Read what becomes of an answer whose client leaves; return whether it is valid."""
    match values:
        case [b"continue"]:
            session.on_disconnect = "continue"
        case [b"stop"]:
            session.on_disconnect = "stop"
        case _:
            return False
    return True


def _read_history_source(session: HermesSession, values: list[bytes] | None) -> Refusal | None:
    match values:
        case None | [b"session"]:
            return None
        case [b"request"]:
            session.history_source = "request"
            return None
    return error_responses.INVALID_HISTORY_SOURCE


def _read_key(session: HermesSession, values: list[bytes], _: MiddlewareOptions) -> Refusal | None:
    """Read a conversation's key, which is ignored if the request names its session by its id."""
    if not session.is_new:
        return None
    session.key = _printable(values)
    return error_responses.INVALID_KEY if session.key is None else None


def _read_scope(
    session: HermesSession, values: list[bytes], options: MiddlewareOptions
) -> Refusal | None:
    """Read a memory scope, by the rules of Hermes Agent's API server."""
    if options.owner is None:
        return error_responses.NO_OWNERS
    session.memory_scope = _scope(values)
    return error_responses.INVALID_SCOPE if session.memory_scope is None else None


def _scope(values: list[bytes]) -> str | None:
    if len(values) != 1 or _CONTROL.search(values[0]):
        return None
    try:
        scope = values[0].decode()
    except UnicodeDecodeError:
        return None
    return scope if len(scope) <= _MAX_SCOPE else None


def _idempotency_key(values: list[bytes]) -> str | None:
    """Return the key; the quoted form and the bare one are the same key."""
    if len(values) != 1 or not values[0].startswith(b'"'):
        return _printable(values)
    quoted = _QUOTED.fullmatch(values[0])
    return None if quoted is None else _ESCAPED.sub(rb"\1", quoted[0][1:-1]).decode("ascii")


def _printable(values: list[bytes]) -> str | None:
    if len(values) != 1 or not _PRINTABLE.fullmatch(values[0]):
        return None
    return values[0].decode("ascii")
