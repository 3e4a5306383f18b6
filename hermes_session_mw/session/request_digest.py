"""The digest of a request, which tells a repeated request from another one under the same key.

Rules of this file: pure functions. The digest is stored as a key of its turn's last message, so
that it is exported, forked and replaced with it, and no table needs another column.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from hermes_session_mw.exceptions import InvalidMessage
from hermes_session_mw.messages import Message, size_of_text

TRANSPORT = ("stream", "stream_options")
"""Fields of a request to OpenAI's APIs that change how its answer is sent, and not the answer."""

REQUEST_DIGEST = "request_digest"
"""The key of a turn's last message that holds the digest of the turn's request."""


def request_digest(body: Mapping[str, Any], *, leave_out: Collection[str] = TRANSPORT) -> str:
    """Return a digest of what a request asks for: SHA-256, as 64 hexadecimal digits.

    Two bodies have the same digest if they are the same JSON (RFC 8259) but for the order of keys:
    1, 1.0, true and "1" are four values, and a field that is null differs from one that is missing.

    Args:
        body: the request's body: strings as keys, and JSON values.
        leave_out: fields of the body that do not count: by default ``stream`` and
            ``stream_options``, which do not change the answer.

    Raises:
        InvalidMessage: the body is not JSON, or nests too deep.
    """
    counted = {name: value for name, value in body.items() if name not in leave_out}
    try:
        text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidMessage(f"the request is not JSON: {exc}") from None
    except RecursionError:
        raise InvalidMessage("the request nests too deep") from None
    return sha256(text.encode()).hexdigest()


def with_digest(messages: Sequence[Message], digest: str | None) -> Sequence[Message]:
    """Return a turn's messages with the digest of its request, if there is one."""
    if digest is None or not messages:
        return messages
    return [*messages[:-1], {**messages[-1], REQUEST_DIGEST: digest}]


def without_digest(messages: Sequence[Message]) -> list[Message]:
    """Return a turn's messages as they were before ``with_digest``."""
    *before, last = messages
    return [*before, {name: value for name, value in last.items() if name != REQUEST_DIGEST}]


def digest_of(messages: Sequence[Message]) -> str | None:
    """Return the digest that a stored turn has, or None."""
    digest = messages[-1].get(REQUEST_DIGEST)
    return digest if isinstance(digest, str) else None


def size_of_digest(digest: str | None) -> int:
    """Return the bytes of UTF-8 that the digest takes in its message."""
    return 0 if digest is None else len(f',"{REQUEST_DIGEST}":""') + size_of_text(digest)
