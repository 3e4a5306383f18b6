"""Reads and validates the parameters and bodies of the session routes.

Rules of this file: pure functions; nothing that the client sent is repeated.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

from starlette.datastructures import QueryParams

from hermes_session_mw.asgi.error_responses import Refusal, RouteRefusals
from hermes_session_mw.stores.expiry import MAX_EXPIRY, Setting, setting_from_json
from hermes_session_mw.stores.labels import (
    MAX_PAIR_KEY,
    MAX_PAIR_VALUE,
    MAX_PAIRS,
    MAX_TAG,
    MAX_TAGS,
    Order,
    check_pairs,
    make_change,
    make_filter,
)
from hermes_session_mw.stores.models import MAX_TITLE
from hermes_session_mw.stores.validation import check_keys, check_title

MAX_BODY = 65_536
"""Bytes that a request's body may have; the longest title takes a tenth of that."""

MAX_INDEX = 2**31 - 1
"""The greatest index in a conversation: it fits every database's integers."""

PAIR = "metadata[KEY]"
"""The name of the parameters for pairs of metadata, one for each key."""

_LABELS: dict[str, Any] = {
    "tags": list,
    "add_tags": list,
    "remove_tags": list,
    "pinned": bool,
    "shelved": bool,
    "metadata": dict,
}
NO_LABELS = (
    f"A session has up to {MAX_TAGS} tags of 1 to {MAX_TAG} characters, 'pinned' and 'shelved' are "
    f"true or false, and 'metadata' has up to {MAX_PAIRS} texts of {MAX_PAIR_VALUE} characters "
    f"under keys of {MAX_PAIR_KEY}."
)

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
    found = {PAIR if _is_pair(name) else name for name in names}
    if not found <= set(allowed):
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


def includes_times(values: Sequence[str]) -> bool:
    """Return whether ``include`` asks for the messages' times, the one thing it can ask for."""
    name = single_value("include", values)
    if name not in (None, "created_at"):
        raise invalid("include", "'include' is 'created_at'.")
    return name is not None


def check_id(session_id: str, owner: str) -> None:
    """Answer 404 for an id that no session can be stored under."""
    try:
        check_keys(session_id, owner)
    except ValueError:
        raise Refused(RouteRefusals.NOT_FOUND) from None


def flag(name: str, values: Sequence[str]) -> bool | None:
    """Return a parameter as a bool, or None if it was not sent."""
    text = single_value(name, values)
    if text not in (None, "true", "false"):
        raise invalid(name, f"'{name}' is true or false.")
    return None if text is None else text == "true"


def filter_of(query: QueryParams) -> dict[str, Any]:
    """Return the arguments of ``list`` that the parameters ask for."""
    wanted = {name: flag(name, query.getlist(name)) for name in ("pinned", "shelved")}
    order = single_value("order", query.getlist("order"))
    if order not in (None, *get_args(Order)):
        raise invalid("order", "'order' is updated or pinned.")
    tags = query.getlist("tag") or None
    try:
        make_filter(tag=tags)
    except ValueError:
        message = f"Send up to {MAX_TAGS} tags, of 1 to {MAX_TAG} characters."
        raise invalid("tag", message) from None
    asked: dict[str, Any] = {**wanted, "order": order, "tag": tags, "metadata": _pairs_of(query)}
    return {name: value for name, value in asked.items() if value is not None}


def _pairs_of(query: QueryParams) -> dict[str, str] | None:
    """Return the pairs in parameters such as ``metadata[project]=p1``; None for none."""
    sent = {name: query.getlist(name) for name in query if _is_pair(name)}
    pairs = {
        name.removeprefix("metadata[")[:-1]: single_value("metadata", values) or ""
        for name, values in sent.items()
    }
    try:
        check_pairs(pairs)
        is_valid = not any(set(key) & {"[", "]"} for key in pairs)
    except ValueError:
        is_valid = False
    if not is_valid:
        message = (
            f"Send up to {MAX_PAIRS} pairs as '{PAIR}', of {MAX_PAIR_VALUE} characters under keys "
            f"of {MAX_PAIR_KEY} without brackets."
        )
        raise invalid("metadata", message)
    return pairs or None


def _is_pair(name: str) -> bool:
    return name.startswith("metadata[") and name.endswith("]")


def change_of(body: bytes) -> dict[str, Any]:
    """Return the title and labels in a body, as the arguments of ``label``."""
    fields = _fields(body, "title", *_LABELS)
    if not fields:
        raise invalid("title", "Send a 'title': a text, or null for none; or labels.")
    try:
        check_title(fields.get("title"))
    except ValueError:
        message = f"'title' is null, or a text of up to {MAX_TITLE} characters without NUL."
        raise invalid("title", message) from None
    labels = {name: fields[name] for name in _LABELS if name in fields}
    try:
        make_change(**labels)
        is_valid = all(isinstance(value, _LABELS[name]) for name, value in labels.items())
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise invalid(None, NO_LABELS)
    return fields


def expires_after_of(body: bytes) -> Setting | None:
    """Return the setting of expiry in a body, None to remove it; refuse one that is none."""
    fields = _fields(body, "expires_after")
    if "expires_after" not in fields:
        raise invalid("expires_after", "Send an 'expires_after': seconds, \"never\", or null.")
    value = fields["expires_after"]
    try:
        return None if value is None else setting_from_json(value)
    except ValueError:
        most = int(MAX_EXPIRY.total_seconds())
        message = f"'expires_after' is null, \"never\", or a whole number of seconds, 1 to {most}."
        raise invalid("expires_after", message) from None


def length_of(body: bytes) -> int | None:
    """Return the number of messages in a body; null, or an empty body, means all."""
    length = _fields(body, "length").get("length") if body else None
    if isinstance(length, float) and length.is_integer():
        length = int(length)  # 2.0 is a whole number in JSON Schema
    if length is not None and (type(length) is not int or not 0 <= length <= MAX_INDEX):
        raise invalid("length", f"'length' is null, or a whole number from 0 to {MAX_INDEX}.")
    return length


def _fields(body: bytes, *names: str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise invalid(None, "The body is not a JSON object.")
    # A misspelt field would be ignored.
    if not fields.keys() <= {*names}:
        known = ", ".join(map(repr, names))
        raise invalid(None, f"The body has a field that is not known here; these are: {known}.")
    return fields
