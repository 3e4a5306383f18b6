"""The other request headers: the session's key, the idempotency key, the history's source."""

import re

from hermes_session_mw.asgi import error_responses
from hermes_session_mw.asgi.error_responses import Refusal
from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    SESSION_KEY_HEADER,
)
from hermes_session_mw.session.session import HermesSession

SESSION_KEY, HISTORY_SOURCE, IDEMPOTENCY_KEY = (
    name.lower().encode("ascii")
    for name in (SESSION_KEY_HEADER, HISTORY_SOURCE_HEADER, IDEMPOTENCY_HEADER)
)

OTHER_HEADERS = (HISTORY_SOURCE, IDEMPOTENCY_KEY)
"""Those that are read from each request; the session's key is read with ``session_keys`` alone."""

_PRINTABLE = re.compile(rb"[\x20-\x7e]{1,255}")
"""Both kinds of key: 1 to 255 printable ASCII characters."""

_QUOTED = re.compile(rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}"')
"""A key as the draft writes it, a String of RFC 9651, section 3.3.3; and not an empty one."""

_ESCAPED = re.compile(rb'\\(["\\])')


def read_other_headers(session: HermesSession, found: dict[bytes, list[bytes]]) -> Refusal | None:
    """Set the header fields' values on ``session``; return a refusal if one is not valid.

    The session's key is ignored if the request names its session by its id.
    """
    if SESSION_KEY in found and session.is_new:
        session.key = _printable(found[SESSION_KEY])
        if session.key is None:
            return error_responses.INVALID_KEY
    if IDEMPOTENCY_KEY in found:
        session.idempotency_key = _idempotency_key(found[IDEMPOTENCY_KEY])
        if session.idempotency_key is None:
            return error_responses.INVALID_IDEMPOTENCY_KEY
    match found.get(HISTORY_SOURCE):
        case None | [b"session"]:
            return None
        case [b"request"]:
            session.history_source = "request"
            return None
    return error_responses.INVALID_HISTORY_SOURCE


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
