"""All refusals: of the middleware, of the session routes, and for errors of an application.

Rules of this file: values in, ASGI messages out; nothing that the client sent is repeated. A
refusal is a constant here, or a value of `BY_ERROR`; its message says what the client can do.
"""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    ON_DISCONNECT_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
    TURN_HEADER,
)
from hermes_session_mw.exceptions import (
    AppendInDoubt,
    CursorConflict,
    HermesSessionError,
    InvalidCursor,
    InvalidMessage,
    MessageTooLarge,
    NotSupported,
    OwnerRequired,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionNotFound,
    SessionTaken,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    TurnConflict,
    TurnLost,
    TurnTooLong,
)
from hermes_session_mw.logging import logger

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
"""WebSocket close codes: RFC 6455, section 7.4.1, and IANA's registry."""

_NO_STORE = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, which is sent in the shape of OpenAI's errors.

    ``message`` is empty if the error's own text is sent; ``param`` names the field at fault, if
    that is not the session's header; ``headers`` are ASGI header pairs beside the usual ones;
    ``close_code`` is for a WebSocket if the server cannot send a response.
    """

    status: int
    code: str
    message: str = ""
    type: str = "invalid_request_error"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close_code: int = POLICY_VIOLATION
    param: str | None = None

    def response(self, prefix: str, param: str) -> Iterator[dict[str, Any]]:
        """Yield the whole response; ``param`` is the session header's name.

        ``prefix`` begins the messages' types: ``http`` or ``websocket.http``.
        """
        headers = (_NO_STORE, *self.headers)
        return _response(prefix, self.status, b"application/json", self.body(param), headers)

    def body(self, param: str | None) -> bytes:
        """Return the response's body; ``param`` is as for ``response``, or None for none."""
        at_fault = self.param or param
        error = {"message": self.message, "type": self.type, "param": at_fault, "code": self.code}
        return json.dumps({"error": error}).encode()


def server_error(prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the response for an application that raised before its response began."""
    body = b"Internal Server Error"
    return _response(prefix, 500, b"text/plain; charset=utf-8", body, ())


def forbidden(prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the response for an application that closed a WebSocket before accepting it."""
    return _response(prefix, 403, b"text/plain; charset=utf-8", b"", ())


def _response(
    prefix: str,
    status: int,
    content_type: bytes,
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
) -> Iterator[dict[str, Any]]:
    pairs = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    yield {"type": f"{prefix}.response.start", "status": status, "headers": pairs}
    yield {"type": f"{prefix}.response.body", "body": body}


INVALID_ID = Refusal(
    400,
    "invalid_session_id",
    "The session id is not valid: send the one that a response gave you, unchanged and once, "
    "or leave the header out to start a new session.",
)

INVALID_KEY = Refusal(
    400,
    "invalid_session_key",
    "The session key is not valid: send one, of 1 to 255 printable ASCII characters.",
    param=SESSION_KEY_HEADER,
)

INVALID_SCOPE = replace(
    INVALID_KEY,
    message="The session key is not valid: send one, of up to 256 characters of UTF-8, without "
    "control characters.",
)

NO_OWNERS = Refusal(
    403,
    "owner_required",
    "A session key names a part of its owner's memory, but this server does not tell owners apart: "
    "leave the header out.",
    param=SESSION_KEY_HEADER,
)

INVALID_HISTORY_SOURCE = Refusal(
    400,
    "invalid_history_source",
    "The history's source is either 'session' or 'request'.",
    param=HISTORY_SOURCE_HEADER,
)

INVALID_TURN = Refusal(
    400,
    "invalid_turn",
    "A request that is no turn of its conversation says 'none', or names its task, such as "
    "'title_generation'; for a turn leave the header out.",
    param=TURN_HEADER,
)

INVALID_ON_DISCONNECT = Refusal(
    400,
    "invalid_on_disconnect",
    "What becomes of an answer whose client leaves is either 'continue' or 'stop'.",
    param=ON_DISCONNECT_HEADER,
)

INVALID_IDEMPOTENCY_KEY = Refusal(
    400,
    "invalid_idempotency_key",
    "The idempotency key is not valid: send one, of 1 to 255 printable ASCII characters, bare or "
    "as a quoted string, in which only a quote and a backslash are escaped.",
    param=IDEMPOTENCY_HEADER,
)

UNKNOWN_ID = Refusal(
    404, "session_not_found", "There is no such session: leave the header out to start a new one."
)

OWNER_REQUIRED = Refusal(
    401,
    "owner_required",
    "This session can only be continued by its owner: authenticate, and send the request again.",
    # RFC 9110, section 15.5.2: a 401 names a challenge.
    headers=((b"www-authenticate", b"Bearer"),),
)

STORE_UNAVAILABLE = Refusal(
    503,
    "session_store_unavailable",
    "The session's history cannot be read at the moment: try again later.",
    type="server_error",
    headers=((b"retry-after", b"1"),),
    close_code=TRY_AGAIN_LATER,
)

STORE_NOT_REACHED = replace(
    STORE_UNAVAILABLE,
    message="The session's store cannot be reached at the moment: try again later.",
)

IN_DOUBT = replace(
    STORE_UNAVAILABLE,
    message="The session's store did not answer in time, and may have completed the operation: "
    "try again later, with the same Idempotency-Key if there was one.",
)

STORE_FAILED = Refusal(
    500,
    "session_store_failed",
    "The session's store has failed, and will fail again until an operator repairs it.",
    type="server_error",
    close_code=INTERNAL_ERROR,
)

BY_ERROR: dict[type[HermesSessionError], Refusal] = {
    OwnerRequired: OWNER_REQUIRED,
    InvalidMessage: Refusal(400, "invalid_message", param="messages"),
    MessageTooLarge: Refusal(413, "message_too_large", param="messages"),
    TurnTooLong: Refusal(413, "turn_too_long", param="messages"),
    InvalidCursor: Refusal(400, "invalid_cursor", param="after"),
    CursorConflict: Refusal(409, "cursor_conflict", param="after"),
    SessionBusy: Refusal(409, "session_busy", close_code=TRY_AGAIN_LATER),
    SessionConflict: Refusal(409, "session_conflict", close_code=TRY_AGAIN_LATER),
    SessionDeleted: Refusal(409, "session_deleted", close_code=TRY_AGAIN_LATER),
    SessionFull: Refusal(409, "session_full", close_code=TRY_AGAIN_LATER),
    SessionTaken: Refusal(409, "session_taken", close_code=TRY_AGAIN_LATER),
    TurnConflict: Refusal(
        409, "idempotency_key_reused", close_code=TRY_AGAIN_LATER, param=IDEMPOTENCY_HEADER
    ),
    TurnLost: Refusal(409, "turn_lost", close_code=TRY_AGAIN_LATER),
    # Before its subclasses: an application's own handler for it takes precedence.
    StoreError: STORE_FAILED,
    StoreUnavailable: STORE_NOT_REACHED,
    StoreTimeout: IN_DOUBT,
    AppendInDoubt: IN_DOUBT,
}
"""The answer to each error that an application raises, and to its subclasses."""

ANSWERED: tuple[type[HermesSessionError], ...] = tuple(BY_ERROR)
"""The errors that ``refusal_of`` answers."""

_LONGEST_WAIT = 5
"""Seconds: a lease is as long as an answer may ever take, and most end far earlier."""


class RouteRefusals:
    """The refusals of the session routes."""

    OWNER_UNKNOWN = replace(
        OWNER_REQUIRED,
        message="Sessions are shown to their owner only: authenticate, and send the request again.",
    )
    NO_OWNERS = Refusal(
        403,
        "owner_required",
        "Sessions are not listed here: they have no owners, so that any client could read all of "
        "them.",
    )
    NOT_FOUND = replace(UNKNOWN_ID, message="There is no such session.", param="id")
    DELETED = replace(BY_ERROR[SessionDeleted], message="The session was deleted.", param="id")
    TAKEN = replace(
        BY_ERROR[SessionTaken], message="The session cannot be stored for its owner.", param="id"
    )
    UNAVAILABLE = replace(
        STORE_UNAVAILABLE, message="The sessions cannot be reached at the moment: try again later."
    )
    NOT_SUPPORTED = Refusal(
        501,
        "not_supported",
        "The sessions' store does not support this.",
        type="server_error",
    )


BY_ERROR_IN_ROUTES: dict[type[HermesSessionError], Refusal] = {
    StoreError: RouteRefusals.UNAVAILABLE,
    NotSupported: RouteRefusals.NOT_SUPPORTED,
    SessionNotFound: RouteRefusals.NOT_FOUND,
    SessionDeleted: RouteRefusals.DELETED,
    SessionTaken: RouteRefusals.TAKEN,
}
"""The session routes' answers to an error of the store that differ from `BY_ERROR`."""


def refusal_of(error: Exception) -> Refusal | None:
    """Return the answer to an error that an application raised, or None.

    A 400 or 413 for messages that cannot be stored, a 409 for a conflict, the 401 for an append
    without an owner, a 503 if the store is unavailable, and a 500 if it fails in another way.
    """
    refusal = next((BY_ERROR[kind] for kind in type(error).__mro__ if kind in BY_ERROR), None)
    if refusal is None or refusal.message:
        return refusal
    refusal = replace(refusal, message=str(error))
    if isinstance(error, SessionBusy):
        # A third party's store may give any number. Whole seconds: RFC 9110, section 10.2.3.
        wait = min(error.retry_after, _LONGEST_WAIT) if error.retry_after >= 1 else 1
        refusal = replace(refusal, headers=((b"retry-after", str(math.ceil(wait)).encode()),))
    return refusal


def route_refusal_of(error: HermesSessionError) -> Refusal | None:
    """Return a session route's answer to an error of the store, or None."""
    kinds = type(error).__mro__
    own = next((BY_ERROR_IN_ROUTES[kind] for kind in kinds if kind in BY_ERROR_IN_ROUTES), None)
    if own is not None:
        return own
    # A message that cannot be stored is a bug here: the client sent none.
    return None if isinstance(error, InvalidMessage) else refusal_of(error)


class ErrorResponse(NamedTuple):
    """What an error of the package is answered with, for any framework's response class.

    Attributes:
        status: the status code.
        headers: the header fields, ``Content-Type`` among them, and ``Content-Length`` not.
        body: JSON, in the shape of the middleware's own refusals.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def error_response(error: Exception) -> ErrorResponse | None:
    """Return what the middleware would answer to an error that an endpoint does not handle.

    It is for a framework whose own error page comes before the middleware sees the error, and for
    its handler of ``HermesSessionError``. A failure of the store is logged, as the middleware does.

    Args:
        error: what was raised.

    Returns:
        The status, headers and body, which names the session's header as it is by default. None for
        an error that is the framework's own 500, which goes on as it came.
    """
    refusal = refusal_of(error)
    if refusal is None:
        return None
    log_failure(error, refusal)
    fields = ((b"content-type", b"application/json"), _NO_STORE, *refusal.headers)
    headers = {name.decode("ascii"): value.decode("ascii") for name, value in fields}
    return ErrorResponse(refusal.status, headers, refusal.body(SESSION_HEADER))


def log_failure(error: Exception, refusal: Refusal) -> None:
    """Log a failure of the store that is answered, since it is not raised further."""
    if refusal.status < 500:  # noqa: PLR2004  # the client can do something about it
        return
    level = logging.ERROR if refusal is STORE_FAILED else logging.WARNING
    logger.log(level, "a request is answered %d: %s", refusal.status, error)
    logger.debug("the store's failure in full", exc_info=error)
