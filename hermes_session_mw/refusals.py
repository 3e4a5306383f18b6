"""Answers that the middleware gives itself, in the shape of OpenAI's errors.

Rules of this file: values in, ASGI messages out; nothing that the client sent is repeated.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let through.

    ``headers`` are ASGI header pairs that go out beside the usual ones.
    """

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def http_messages(self, param: str) -> Iterator[dict[str, Any]]:
        """Yield the whole response; ``param`` is the header's name."""
        error = {"message": self.message, "type": self.type, "param": param, "code": self.code}
        body = json.dumps({"error": error}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *self.headers,
        ]
        yield {"type": "http.response.start", "status": self.status, "headers": headers}
        yield {"type": "http.response.body", "body": body}


INVALID_ID = Refusal(
    400,
    "invalid_session_id",
    "The session id is not valid: send the one that a response gave you, unchanged and once, "
    "or leave the header out to start a new session.",
)

UNKNOWN_ID = Refusal(
    404,
    "session_not_found",
    "There is no such session: leave the header out to start a new one.",
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
    headers=((b"retry-after", str(RETRY_AFTER_SECONDS).encode()),),
)
