"""Gives every item an id that leads to it, and pages through items.

Rules of this file: pure functions; nothing is kept to find an item again. There are two kinds of
ids, each with the API's prefix for the item's type:

- An item that a response made has the response's own 48 hexadecimal digits in its id, and for a
  call, or a second item of a kind, its number: ``msg_<48>``, ``rs_<48>``, ``fc_<48><number>``. So
  it is known before the answer is complete, and leads to the response without a conversation. The
  stored answer has the response's id among its ``metadata``, which a fork copies.
- Any other item, such as a user's message or an answer of the chat, has a digest of what it says
  and of how many equal items are before it in the conversation. So it stays the same after a
  restart, in a fork, and when other messages are added, removed or summarized.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hermes_session_mw.messages import Message, has_chat_form
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.response_items import Item, calls_of, is_custom_call, items_of

PAGE = 20
MAX_PAGE = 100
"""Items on one page of a list: by default, and at most."""

RESPONSE_ID = re.compile(r"resp_[0-9a-f]{48}")

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "function_call_output": "fco",
    "custom_tool_call_output": "ctco",
}
_CALLS = ("function_call", "custom_tool_call")
_MADE = re.compile(r"(?:msg|rs|fc|ctc)_([0-9a-f]{48})(?:[0-9a-f]{2,})?")


@dataclass(frozen=True, slots=True)
class PlacedItem:
    """An item, and where the message is that it belongs to.

    Attributes:
        at: the message's index among those that were given.
        item: the item.
    """

    at: int
    item: Item


class ResponseNames:
    """Names the items of one response, in the order in which they are made."""

    def __init__(self, response_id: str) -> None:
        """Take the response's id: ``resp_`` and 48 hexadecimal digits."""
        self._digits = response_id.removeprefix("resp_")
        self._made: Counter[str] = Counter()

    def __call__(self, item: Item) -> str:
        """Return the id of the next item; only its type is read."""
        kind = item["type"]
        group = "call" if kind in _CALLS else kind
        number = self._made[group]
        self._made[group] += 1
        shown = f"{number:02x}" if number or group == "call" else ""
        return f"{_PREFIXES[kind]}_{self._digits}{shown}"


def placed_items(messages: Sequence[Message]) -> list[PlacedItem]:
    """Return the items of a conversation, in order; ``messages`` are all of its messages.

    Other frameworks' items, which have no chat form, are none of this API's.
    """
    seen: Counter[str] = Counter()
    customs: set[str] = set()

    def by_content(item: Item) -> str:
        said = {name: value for name, value in item.items() if name not in ("id", "status")}
        text = json.dumps(said, sort_keys=True)
        seen[text] += 1
        digest = sha256(f"{seen[text]} {text}".encode()).hexdigest()
        return f"{_PREFIXES[item['type']]}_{digest[:40]}"

    placed: list[PlacedItem] = []
    for at, message in enumerate(messages):
        if not has_chat_form(message):
            continue
        made = response_details(message).get("id")
        name = ResponseNames(str(made)) if is_response_id(made) else by_content
        customs |= {str(call.get("id")) for call in calls_of(message) if is_custom_call(call)}
        is_custom = str(message.get("tool_call_id")) in customs
        placed += [PlacedItem(at, item) for item in items_of(message, name, is_custom=is_custom)]
    return placed


def answer_items(message: Message, response_id: str) -> list[Item]:
    """Return the items of a response's answer."""
    return items_of(message, ResponseNames(response_id))


def response_of_item(item_id: str) -> str | None:
    """Return the id of the response that has made the item, or None for another item's id."""
    made = _MADE.fullmatch(item_id)
    return f"resp_{made[1]}" if made else None


def is_response_id(value: object) -> bool:
    """Return whether the value is an id of a response."""
    return isinstance(value, str) and RESPONSE_ID.fullmatch(value) is not None


def response_details(message: Message) -> Message:
    """Return what is stored about a response beside its answer, or an empty dict."""
    metadata = message.get("metadata")
    details = metadata.get("response") if isinstance(metadata, dict) else None
    return details if isinstance(details, dict) else {}


def page_of(items: Sequence[Item], query: Mapping[str, str]) -> Message:
    """Return a page of items as the API's lists have it.

    Args:
        items: all items, oldest first, each with an ``id``.
        query: the request's parameters: ``limit`` (1 to 100, by default 20), ``order`` (``asc`` or
            ``desc``, the default), ``after`` (the id of an item). ``include`` asks for nothing that
            would be left out.

    Raises:
        InvalidRequest: a parameter is invalid, or not known.
    """
    for name in query:
        if name not in ("limit", "order", "after", "include", "include[]"):
            raise InvalidRequest(f"'{name}' is no parameter here", name, code="unknown_parameter")
    limit, order, after = (
        query.get("limit", str(PAGE)),
        query.get("order", "desc"),
        query.get("after"),
    )
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= MAX_PAGE):
        raise InvalidRequest(f"'limit' is a whole number from 1 to {MAX_PAGE}", "limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' is 'asc' or 'desc'", "order")
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        start = 1 + next((at for at, item in enumerate(ordered) if item["id"] == after), -1)
        if not start:
            raise InvalidRequest("'after' is no item of this list", "after")
    return list_of(ordered[start : start + int(limit)], has_more=len(ordered) > start + int(limit))


def list_of(items: Sequence[Item], *, has_more: bool = False) -> Message:
    """Return items as the API's lists have them."""
    ends = [items[0]["id"], items[-1]["id"]] if items else [None, None]
    return {
        "object": "list",
        "data": list(items),
        "first_id": ends[0],
        "last_id": ends[1],
        "has_more": has_more,
    }
