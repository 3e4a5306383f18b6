"""Reading the parameters and bodies of the session routes, and refusing what is not valid.

Rules of this file: pure functions; nothing that the client sent is repeated.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from hermes_session_mw.asgi.error_responses import OfRoutes, Refusal
from hermes_session_mw.stores.models import MAX_TITLE
from hermes_session_mw.stores.validation import check_keys, check_title

MAX_BODY = 65_536
"""Bytes that a request's body may have; a title of the longest kind takes a tenth."""

MAX_INDEX = 2**31 - 1
"""The greatest place in a conversation that may be named: any database's numbers hold it."""

BODY_TOO_LARGE = Refusal(413, "body_too_large", f"The body has more than {MAX_BODY} bytes.")


class Refused(Exception):
    """The request is answered by ``refusal``."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.code)


def invalid(param: str | None, message: str) -> Refused:
    """Return the 400 about a parameter; about the body as a whole where that is None."""
    return Refused(Refusal(400, f"invalid_{param or 'body'}", message, param=param))


def single(name: str, values: Sequence[str]) -> str | None:
    """Return the one value of a parameter, None where it was not sent.

    Raises:
        Refused: it was sent twice, so that nobody knows which is meant.
    """
    if len(values) > 1:
        raise invalid(name, f"Send '{name}' once.")
    return values[0] if values else None


def only(allowed: Collection[str], names: Iterable[str]) -> None:
    """Refuse parameters that mean nothing here: a misspelt one would be passed over.

    Raises:
        Refused: there is one.
    """
    if not set(names) <= set(allowed):
        known = ", ".join(repr(name) for name in allowed) or "none"
        raise invalid("query", f"There is a parameter that is not known here; these are: {known}.")


def number(name: str, values: Sequence[str], least: int, most: int) -> int | None:
    """Return the whole number that a parameter is, None where it was not sent.

    Raises:
        Refused: it is none from ``least`` to ``most``.
    """
    text = single(name, values)
    if text is None:
        return None
    # Only digits, and few: int() would take "+1", "1_0", other scripts' digits, and its time.
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)):
        value = int(text)
        if least <= value <= most:
            return value
    raise invalid(name, f"'{name}' is a whole number from {least} to {most}.")


def check_id(session_id: str, owner: str) -> None:
    """Refuse an id that nothing can be stored under, as one that nothing is stored under.

    Raises:
        Refused: it is such.
    """
    try:
        check_keys(session_id, owner)
    except ValueError:
        raise Refused(OfRoutes.NOT_FOUND) from None


def title_of(body: bytes) -> str | None:
    """Return the title that a body gives; None is to take it away.

    Raises:
        Refused: it gives none, or one that cannot be stored.
    """
    fields = _fields(body, "title")
    if "title" not in fields:
        raise invalid("title", "Send a 'title': a text, or null for none.")
    title = fields["title"]
    try:
        check_title(title)
    except ValueError:
        message = f"'title' is null, or a text of up to {MAX_TITLE} characters without NUL."
        raise invalid("title", message) from None
    return None if title is None else str(title)


def length_of(body: bytes) -> int | None:
    """Return how many messages a body says; None, or no body, is for all.

    Raises:
        Refused: it is no such body.
    """
    length = _fields(body, "length").get("length") if body else None
    if isinstance(length, float) and length.is_integer():
        length = int(length)  # 2.0 is a whole number in JSON Schema
    if length is not None and (type(length) is not int or not 0 <= length <= MAX_INDEX):
        raise invalid("length", f"'length' is null, or a whole number from 0 to {MAX_INDEX}.")
    return length


def _fields(body: bytes, name: str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise invalid(None, "The body is not a JSON object.")
    # A misspelt field would do something else than was meant.
    if not fields.keys() <= {name}:
        raise invalid(None, f"The body has a field that is not '{name}'.")
    return fields
