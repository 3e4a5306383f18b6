"""Reads and validates the parameters and bodies of the session routes.

Rules of this file: pure functions; nothing that the client sent is repeated.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from hermes_session_mw.asgi.error_responses import Refusal, RouteRefusals
from hermes_session_mw.stores.models import MAX_TITLE
from hermes_session_mw.stores.validation import check_keys, check_title

MAX_BODY = 65_536
"""Bytes that a request's body may have; the longest title takes a tenth of that."""

MAX_INDEX = 2**31 - 1
"""The greatest index in a conversation: it fits every database's integers."""

BODY_TOO_LARGE = Refusal(413, "body_too_large", f"The body has more than {MAX_BODY} bytes.")


class Refused(Exception):
    """The request is answered with ``refusal``."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.code)


def invalid(param: str | None, message: str) -> Refused:
    """Return the 400 about a parameter, or about the body as a whole if that is None."""
    return Refused(Refusal(400, f"invalid_{param or 'body'}", message, param=param))


def single_value(name: str, values: Sequence[str]) -> str | None:
    """Return a parameter, or None if it was not sent; one that was sent twice is refused."""
    if len(values) > 1:
        raise invalid(name, f"Send '{name}' once.")
    return values[0] if values else None


def check_names(allowed: Collection[str], names: Iterable[str]) -> None:
    """Refuse other parameters than the allowed ones: a misspelt one would be ignored."""
    if not set(names) <= set(allowed):
        known = ", ".join(repr(name) for name in allowed) or "none"
        raise invalid("query", f"There is a parameter that is not known here; these are: {known}.")


def whole_number(name: str, values: Sequence[str], least: int, most: int) -> int | None:
    """Return a parameter as an int, or None if it was not sent; others are refused."""
    text = single_value(name, values)
    if text is None:
        return None
    # Only few ASCII digits: int() accepts "+1", "1_0" and other scripts' digits, and can be slow.
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)):
        value = int(text)
        if least <= value <= most:
            return value
    raise invalid(name, f"'{name}' is a whole number from {least} to {most}.")


def check_id(session_id: str, owner: str) -> None:
    """Answer 404 for an id that no session can be stored under."""
    try:
        check_keys(session_id, owner)
    except ValueError:
        raise Refused(RouteRefusals.NOT_FOUND) from None


def title_of(body: bytes) -> str | None:
    """Return the title in a body, None to remove it; refuse a missing or invalid one."""
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
    """Return the number of messages in a body; null, or an empty body, means all."""
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
    # A misspelt field would be ignored.
    if not fields.keys() <= {name}:
        raise invalid(None, f"The body has a field that is not '{name}'.")
    return fields
