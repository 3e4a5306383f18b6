"""Header fields: their names, and reading and editing them.

Rules of this file: pure functions; bytes in, values out. It knows the shapes of the ASGI
specification (headers are an iterable of two-item iterables of bytes) and nothing about sessions.
"""

import re
from collections.abc import Iterable, Iterator

from hermes_session_mw.exceptions import ConfigurationError

SESSION_HEADER = "X-Hermes-Session-Id"
"""The header's name as Hermes Agent writes it."""

SESSION_KEY_HEADER = "X-Hermes-Session-Key"
"""Names a memory scope, as in Hermes Agent; or with ``session_keys`` a conversation."""

HISTORY_SOURCE_HEADER = "X-Hermes-History-Source"
"""Says which history to use: the one in the ``request``, or the stored ``session``."""

TURN_HEADER = "X-Hermes-Turn"
"""Says that the request is no turn of the conversation: ``none``, or the name of a task."""

ON_DISCONNECT_HEADER = "X-Hermes-On-Disconnect"
"""Says what becomes of an answer whose client leaves: ``continue`` or ``stop``."""

IDEMPOTENCY_HEADER = "Idempotency-Key"
"""Makes a request safe to repeat: draft-ietf-httpapi-idempotency-key-header."""

REPLAYED_HEADER = "Idempotency-Replayed"
"""Says, as ``true``, that the response answers an earlier attempt of the same request."""

OWS = b" \t"  # optional white space: RFC 9110, section 5.6.3
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token: RFC 9110, section 5.6.2

ALLOW_CREDENTIALS = b"access-control-allow-credentials"
ALLOW_ORIGIN = b"access-control-allow-origin"
CACHE_CONTROL = b"cache-control"
_CONNECTION = b"connection"
_CONTENT_LENGTH = b"content-length"
_COOKIE = b"cookie"
EXPOSE_HEADERS = b"access-control-expose-headers"
VARY = b"vary"

_MEMBER = re.compile(rb'(?:[^,"]|"[^"]*"|")+')  # a comma inside quotes is no separator

_TAKEN = {
    "accept", "age", "allow", "authorization", "baggage", "cache-control", "connection",
    "content-disposition", "content-encoding", "content-language", "content-length",
    "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect",
    "expires", "forwarded", "from", "host", "if-match", "if-modified-since", "if-none-match",
    "if-range", "if-unmodified-since", "keep-alive", "last-event-id", "last-modified", "link",
    "location", "origin", "pragma", "range", "referer", "retry-after", "server", "set-cookie",
    "strict-transport-security", "te", "traceparent", "tracestate", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "www-authenticate",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
    *map(str.lower, (SESSION_KEY_HEADER, HISTORY_SOURCE_HEADER, TURN_HEADER)),
    *map(str.lower, (ON_DISCONNECT_HEADER, IDEMPOTENCY_HEADER, REPLAYED_HEADER)),
}  # fmt: skip
"""Fields that servers, proxies, browsers or this package use for something else, in lower case."""

_TAKEN_PREFIXES = ("accept-", "access-control-", "proxy-", "sec-")

_SHARED = frozenset({b"public", b"s-maxage"})
_UNSHARED = frozenset({b"private", b"no-store", b"no-cache"})

RawHeaders = Iterable[Iterable[bytes]]
Pairs = list[tuple[bytes, bytes]]


def header_names(given: object) -> tuple[str, ...]:
    """Return the session header's names; raise ``ConfigurationError`` for one that cannot be."""
    listed = (
        given if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    )
    names = tuple(check_header_name(name) for name in listed)
    if not names:
        raise ConfigurationError("header_name: give at least one name")
    if len(set(map(str.lower, names))) < len(names):
        raise ConfigurationError("header_name: a name is there twice; case does not matter")
    return names


def check_header_name(name: object) -> str:
    """Return the name of a header for session ids; raise ``ConfigurationError`` if it is none."""
    if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
        raise ConfigurationError(f"header_name: {name!r} is not the name of a header")
    if name.lower() in _TAKEN or name.lower().startswith(_TAKEN_PREFIXES):
        raise ConfigurationError(
            f"header_name: {name!r} has another meaning: give a name that only session ids have"
        )
    return name


def join_cookies(headers: RawHeaders) -> Pairs:
    """Return a request's headers with no more than one ``cookie`` field.

    Over HTTP/2 and HTTP/3 clients split it, and a server should join it before an application reads
    it (RFC 9113, section 8.2.3); not all servers do.
    """
    pairs = [(key, value) for key, value in headers]
    cookies = [value for key, value in pairs if key.lower() == _COOKIE]
    if len(cookies) <= 1:
        return pairs
    joined = (_COOKIE, b"; ".join(cookies))
    return [*(pair for pair in pairs if pair[0].lower() != _COOKIE), joined]


def content_length(headers: RawHeaders) -> int | None:
    """Return the body's length in bytes by its header, or None.

    Of a number of more than 19 digits only these count: it is too large in any case.
    """
    said = [value for key, value in headers if key.lower() == _CONTENT_LENGTH]
    if len(said) != 1 or not said[0].isdigit():
        return None
    return int(said[0].lstrip(b"0")[:19] or b"0")  # Python refuses to read 4301 digits


def close_connection(headers: Pairs) -> None:
    """Add ``connection: close``, unless the headers have a ``connection``."""
    if all(key.lower() != _CONNECTION for key, _ in headers):
        headers.append((_CONNECTION, b"close"))


def make_private(headers: Pairs) -> bool:
    """Make the response private, unless it is meant for shared caches; return whether it is not.

    A response without cache directives about sharing becomes private.
    """
    directives = cache_directives(headers)
    if not directives.isdisjoint(_SHARED):
        return False
    if directives.isdisjoint(_UNSHARED):
        add_member(headers, CACHE_CONTROL, b"private")
    return True


def is_shared(headers: Pairs) -> bool:
    """Return whether the response is meant for shared caches."""
    return not cache_directives(headers).isdisjoint(_SHARED)


def cache_directives(headers: Pairs) -> set[bytes]:
    """Return the names of the response's cache directives, in lower case."""
    return {member.split(b"=")[0] for member in list_members(headers, CACHE_CONTROL)}


def expose(headers: Pairs, name: bytes) -> None:
    """Let the page that may read the response read the header too: Fetch standard, 3.2.3."""
    # With credentials "*" is not a wildcard but a header of that name.
    with_credentials = b"true" in list_members(headers, ALLOW_CREDENTIALS)
    if with_credentials or b"*" not in list_members(headers, EXPOSE_HEADERS):
        add_member(headers, EXPOSE_HEADERS, name)


def set_exposed(headers: Pairs, name: bytes, value: bytes) -> None:
    """Set a field to one value, and expose it if a page may read the response."""
    lower = name.lower()
    headers[:] = [pair for pair in headers if pair[0].lower() != lower]
    headers.append((lower, value))
    if any(key.lower() == ALLOW_ORIGIN for key, _ in headers):
        expose(headers, name)


def add_member(headers: Pairs, field: bytes, member: bytes) -> None:
    """Add a member to a list-valued field, at the end of its last line, unless it is there."""
    if member.lower() in list_members(headers, field):
        return
    for at in reversed(range(len(headers))):
        key, content = headers[at]
        if key.lower() == field:
            listed = content.rstrip(b" \t,")
            headers[at] = (key, listed + b", " + member if listed else member)
            return
    headers.append((field, member))


def list_members(headers: Pairs, field: bytes) -> Iterator[bytes]:
    """Yield the members of a list-valued field, in lower case: RFC 9110, section 5.6.1."""
    for key, content in headers:
        if key.lower() == field:
            for member in _MEMBER.findall(content):
                yield member.strip(OWS).lower()
