"""The headers that pages of another origin send and read: for a server's CORS settings."""

from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    ON_DISCONNECT_HEADER,
    REPLAYED_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
    TURN_HEADER,
)

CORS_REQUEST_HEADERS = (
    "Authorization", "Content-Type",
    SESSION_HEADER, SESSION_KEY_HEADER, HISTORY_SOURCE_HEADER, TURN_HEADER, IDEMPOTENCY_HEADER,
    ON_DISCONNECT_HEADER, "Last-Event-ID",
    # OpenAI's JavaScript SDK, as of 7.59; browsers that send a page's own User-Agent ask for it.
    "OpenAI-Beta", "OpenAI-Organization", "OpenAI-Project", "User-Agent",
    "X-Stainless-Arch", "X-Stainless-Custom-Poll-Interval", "X-Stainless-Helper-Method",
    "X-Stainless-Lang", "X-Stainless-OS", "X-Stainless-Package-Version",
    "X-Stainless-Poll-Helper", "X-Stainless-Retry-Count", "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version", "X-Stainless-Timeout",
)  # fmt: skip
"""What passes a preflight: this package's headers, and those that OpenAI's SDK sends by itself."""

CORS_RESPONSE_HEADERS = (
    SESSION_HEADER, SESSION_KEY_HEADER, REPLAYED_HEADER, "Location", "OpenAI-Poll-After-Ms",
    "Retry-After", "Retry-After-Ms", "X-Request-Id", "X-Should-Retry",
)  # fmt: skip
"""What a page may read: this package's headers, and those by which OpenAI's SDK decides."""
