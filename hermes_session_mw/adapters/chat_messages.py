"""The one form in which other frameworks' conversations are stored.

What is stored are messages in the shape of Chat Completions, of the roles user, assistant, tool and
system, so that every endpoint and every other adapter reads them. Beside it the framework's own
form is kept exactly, under the key ``hermes_item``, so that a round trip loses nothing::

    {"role": "user", "content": "Hi", "hermes_item": {"format": "google_adk", "item": {...}}}

An item that has no chat form, such as encrypted reasoning or a call that the provider makes itself,
is a message with this key and without a role. Its own framework reads it; all others, models and
clients skip it. In an item, what JSON cannot hold is escaped (``escaping.py``); such an item is
marked, ``"escaped": true``, because to look through all others takes longer than to parse them.
"""

from typing import Any

from hermes_session_mw.adapters.escaping import escape, readable, unescape
from hermes_session_mw.messages import ITEM, Message, chat_message, chat_messages

__all__ = ["ITEM", "chat_message", "chat_messages", "store_item", "stored_item"]


def store_item(format: str, item: Any, chat: Message | None = None) -> Message:  # noqa: A002
    """Return the message that keeps a framework's item.

    Args:
        format: the framework's name, such as ``"openai_agents"``.
        item: the framework's own form, of values of JSON and those that ``escape`` takes.
        chat: the same in the shape of Chat Completions, with a role; None where it has no such
            form. A lone surrogate in it, which no client could be sent, becomes U+FFFD.

    Raises:
        ValueError: ``chat`` has no role, so that nobody would read it.
    """
    escaped = escape(item)
    form = {"format": format, "item": escaped}
    kept: Message = {ITEM: form if escaped is item else {**form, "escaped": True}}
    if chat is None:
        return kept
    if "role" not in chat:
        raise ValueError("chat: the message has no role")
    return {**readable(chat), **kept}


def stored_item(message: Message, format: str) -> Any:  # noqa: A002
    """Return the framework's own form of a stored message; None if it has none of this format.

    Then ``chat_message`` has the other form, if there is one.
    """
    kept = message.get(ITEM)
    if not isinstance(kept, dict) or kept.get("format") != format:
        return None
    item = kept.get("item")
    return unescape(item) if kept.get("escaped") else item
