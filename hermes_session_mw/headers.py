"""The session header on the way in and on the way out.

Rules of this file: bytes in, values out. It knows the shapes of the ASGI specification (headers
are an iterable of two-item iterables of bytes) and nothing about sessions.
"""

import re
from collections.abc import Iterable

from .exceptions import ConfigurationError

SESSION_HEADER = "X-Hermes-Session-Id"
"""The header's name as Hermes Agent writes it."""

_OWS = b" \t"  # optional white space: RFC 9110, section 5.6.3
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token: RFC 9110, section 5.6.2

RawHeaders = Iterable[Iterable[bytes]]


def field_name(name: str) -> bytes:
    """Return ``name`` as ASGI wants it in a response: lower-case bytes.

    Raises:
        ConfigurationError: ``name`` is not a field name of RFC 9110.
    """
    if not _FIELD_NAME.fullmatch(name):
        raise ConfigurationError(f"header_name: {name!r} is not a header's name")
    return name.lower().encode("ascii")


def field_values(headers: RawHeaders, name: bytes) -> list[bytes]:
    """Return every value of the field ``name`` that is not blank, trimmed, in order.

    Names are compared without regard to case: that they arrive in lower case is only a "should"
    of the ASGI specification.
    """
    size = len(name)
    values = [v.strip(_OWS) for field, v in headers if len(field) == size and field.lower() == name]
    return [value for value in values if value]


def stamp(headers: RawHeaders, name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """Return ``headers`` as a new list in which ``name`` stands once, with ``value``, at the end.

    ``headers`` is read once and not changed: applications reuse constant lists, and may send a
    generator or pairs that are lists.
    """
    size = len(name)
    stamped = [
        (field, content)
        for field, content in headers
        if len(field) != size or field.lower() != name
    ]
    stamped.append((name, value))
    return stamped
