"""Items whose chat form is several messages, such as a request with the results of two calls.

The last of the messages has the item, and its id; the ones before it say whose they are, and its
own framework skips them::

    {"role": "tool", ..., "hermes_item": {"format": "pydantic_ai", "item": {"part_of": "0190..."}}}
    {"role": "user", ..., "hermes_item": {"format": "pydantic_ai", "item": {"id": "0190...", ...}}}
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from hermes_session_mw.adapters.chat_messages import store_item, stored_item
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.message_store import StoredMessage

__all__ = ["item_of", "read_items", "store_parts"]

T = TypeVar("T")

_PART_OF = "part_of"


def store_parts(format: str, item: Message, forms: Sequence[Message]) -> list[Message]:  # noqa: A002
    """Return the messages that keep an item, which has an ``id``: one or more."""
    parts = [store_item(format, {_PART_OF: item["id"]}, chat) for chat in forms[:-1]]
    return [*parts, store_item(format, item, forms[-1] if forms else None)]


def item_of(message: Message, format: str) -> Any:  # noqa: A002
    """Return an item, or the ``part_of`` of one; None for a message of another kind."""
    item = stored_item(message, format)
    if not isinstance(item, dict):
        return None
    return item if isinstance(item.get("id", item.get(_PART_OF)), str) else None


def read_items(
    messages: Sequence[StoredMessage],
    format: str,  # noqa: A002
    read: Callable[[Message], T | None],
) -> Iterator[tuple[StoredMessage, T | None]]:
    """Yield the messages that count, each with what ``read`` makes of its item.

    None is for one to be read by its chat form: another's, the parts of an item whose last message
    was archived, and all messages of one that ``read`` returns None for, as of another version's.
    """
    parts: list[StoredMessage] = []
    part_of: Any = None
    for stored in messages:
        item = item_of(stored.message, format)
        if parts and (item is None or part_of not in (item.get("id"), item.get(_PART_OF))):
            yield from ((part, None) for part in parts)
            parts = []
        if item is None or _PART_OF not in item:
            found = None if item is None else read(item)
            if found is None:
                yield from ((part, None) for part in parts)
            parts = []
            yield stored, found
            continue
        part_of = item[_PART_OF]
        parts.append(stored)
    yield from ((part, None) for part in parts)
