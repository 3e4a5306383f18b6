"""The session header on the way in and on the way out.

Rules of this file: bytes in, values out. It knows the shapes of the ASGI specification (headers
are an iterable of two-item iterables of bytes) and nothing about sessions.
"""

import re
from collections.abc import Iterable, Iterator

from hermes_session_mw.exceptions import ConfigurationError

SESSION_HEADER = "X-Hermes-Session-Id"
"""The header's name as Hermes Agent writes it."""

SESSION_KEY_HEADER = "X-Hermes-Session-Key"
"""Names a conversation by a key of the client's own; looked for with ``session_keys``."""

HISTORY_SOURCE_HEADER = "X-Hermes-History-Source"
"""Says whose history counts: the one in the ``request``, or the stored ``session``."""

IDEMPOTENCY_HEADER = "Idempotency-Key"
"""Makes a request repeatable: draft-ietf-httpapi-idempotency-key-header."""

_OWS = b" \t"  # optional white space: RFC 9110, section 5.6.3
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token: RFC 9110, section 5.6.2

_ALLOW_CREDENTIALS = b"access-control-allow-credentials"
_ALLOW_ORIGIN = b"access-control-allow-origin"
_CACHE_CONTROL = b"cache-control"
_CONNECTION = b"connection"
_CONTENT_LENGTH = b"content-length"
_COOKIE = b"cookie"
_EXPOSE = b"access-control-expose-headers"
_VARY = b"vary"
_NOTED = frozenset({_ALLOW_CREDENTIALS, _ALLOW_ORIGIN, _CACHE_CONTROL, _EXPOSE, _VARY})

_MEMBER = re.compile(rb'(?:[^,"]|"[^"]*"|")+')  # a comma inside quotes is no separator

_SHARED = frozenset({b"public", b"s-maxage"})
_UNSHARED = frozenset({b"private", b"no-store", b"no-cache"})

RawHeaders = Iterable[Iterable[bytes]]
Pairs = list[tuple[bytes, bytes]]


class Fields:
    """The request header fields that are looked for, all in one go.

    ``names`` are in lower case, as bytes.
    """

    __slots__ = ("names", "sizes")

    def __init__(self, *names: bytes) -> None:
        self.names: frozenset[bytes] = frozenset(names)
        self.sizes: frozenset[int] = frozenset(map(len, names))


def find_fields(headers: RawHeaders, fields: Fields) -> dict[bytes, list[bytes]]:
    """Return every value of the fields that is not blank, trimmed, in order, by its field.

    Names are compared without regard to case: that they arrive in lower case is only a "should"
    of the ASGI specification.
    """
    names, sizes = fields.names, fields.sizes
    found: dict[bytes, list[bytes]] = {}
    for key, value in headers:
        # Most names have another length than any that is looked for.
        if len(key) in sizes and (name := key.lower()) in names and (trimmed := value.strip(_OWS)):
            found.setdefault(name, []).append(trimmed)
    return found


def join_cookies(headers: RawHeaders) -> Pairs:
    """Return a request's headers with no more than one ``cookie`` field.

    Over HTTP/2 and HTTP/3 clients split it, and a server is to join it before an application reads
    it (RFC 9113, section 8.2.3), which not all of them do.
    """
    pairs = [(key, value) for key, value in headers]
    cookies = [value for key, value in pairs if key.lower() == _COOKIE]
    if len(cookies) <= 1:
        return pairs
    joined = (_COOKIE, b"; ".join(cookies))
    return [*(pair for pair in pairs if pair[0].lower() != _COOKIE), joined]


def content_length(headers: RawHeaders) -> int | None:
    """Return how many bytes the body is said to have; None where that is not said."""
    said = [value for key, value in headers if key.lower() == _CONTENT_LENGTH]
    return int(said[0]) if len(said) == 1 and said[0].isdigit() else None


class Stamp:
    """Puts an id into response headers.

    Every method returns a new list, reads the given headers once and does not change them:
    applications reuse constant lists, and may send a generator, or pairs that are lists.

    Attributes:
        field: the header's name as ASGI wants it in a response: lower-case bytes.
        name: the same as people write it.
    """

    __slots__ = ("_special", "_token", "_usual", "field", "name")

    def __init__(self, name: str) -> None:
        """Take the header's name.

        Raises:
            ConfigurationError: ``name`` is not a field name of RFC 9110.
        """
        if not _FIELD_NAME.fullmatch(name):
            raise ConfigurationError(f"header_name: {name!r} is not a header's name")
        self.name: str = name
        self.field: bytes = name.lower().encode("ascii")
        self._token = name.encode("ascii")
        self._special = _NOTED | {self.field}
        self._usual = ((_CACHE_CONTROL, b"private"), (_VARY, self._token))

    def once(self, headers: RawHeaders, value: bytes) -> Pairs:
        """Return ``headers`` with the field once, holding ``value``, and nothing else changed."""
        stamped = [(key, content) for key, content in headers if key.lower() != self.field]
        stamped.append((self.field, value))
        return stamped

    def response(self, headers: RawHeaders, value: bytes) -> Pairs:
        """Return an HTTP response's headers with the field once, fit for browsers and caches.

        Where ``Access-Control-Allow-Origin`` lets a page read the response, the field is exposed
        to it (Fetch standard, section 3.2.3). A response that does not say who may keep it becomes
        private, and ``Vary`` names the field (RFC 9111, sections 4.1 and 5.2.2): a shared cache
        would hand one client's id to the next. One that is meant for shared caches is left as it
        is.
        """
        stamped: Pairs = []
        noted: set[bytes] = set()
        for key, content in headers:
            stamped.append((key, content))
            if (lower := key.lower()) in self._special:
                noted.add(lower)
        if not noted:  # as most responses are
            stamped += ((self.field, value), *self._usual)
            return stamped
        stamped = self.once(stamped, value)
        if _ALLOW_ORIGIN in noted:
            self._expose(stamped)
        if _CACHE_CONTROL not in noted:
            stamped.append((_CACHE_CONTROL, b"private"))
        else:
            directives = {token.split(b"=")[0] for token in _tokens(stamped, _CACHE_CONTROL)}
            if not directives.isdisjoint(_SHARED):
                return stamped
            if directives.isdisjoint(_UNSHARED):
                _list_in(stamped, _CACHE_CONTROL, b"private")
        if _VARY not in noted:
            stamped.append((_VARY, self._token))
        elif b"*" not in _tokens(stamped, _VARY):
            _list_in(stamped, _VARY, self._token)
        return stamped

    def _expose(self, headers: Pairs) -> None:
        # With credentials "*" is no wildcard, but a header of that name.
        with_credentials = b"true" in _tokens(headers, _ALLOW_CREDENTIALS)
        if with_credentials or b"*" not in _tokens(headers, _EXPOSE):
            _list_in(headers, _EXPOSE, self._token)


def say_close(headers: Pairs) -> None:
    """Have the connection closed after the response, unless the headers say something about it."""
    if all(key.lower() != _CONNECTION for key, _ in headers):
        headers.append((_CONNECTION, b"close"))


def _list_in(headers: Pairs, field: bytes, token: bytes) -> None:
    """Add ``token`` to a list-valued field, at the end of its last line, unless it is there."""
    if token.lower() in _tokens(headers, field):
        return
    for at in reversed(range(len(headers))):
        key, content = headers[at]
        if key.lower() == field:
            listed = content.rstrip(b" \t,")
            headers[at] = (key, listed + b", " + token if listed else token)
            return
    headers.append((field, token))


def _tokens(headers: Pairs, field: bytes) -> Iterator[bytes]:
    """Yield the members of a list-valued field, in lower case: RFC 9110, section 5.6.1."""
    for key, content in headers:
        if key.lower() == field:
            for member in _MEMBER.findall(content):
                yield member.strip(_OWS).lower()
