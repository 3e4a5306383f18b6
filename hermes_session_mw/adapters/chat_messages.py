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

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from hermes_session_mw.adapters.escaping import escape, readable, unescape
from hermes_session_mw.messages import ITEM, Message, chat_message, chat_messages
from hermes_session_mw.session.request_digest import REQUEST_DIGEST

__all__ = [
    "ITEM",
    "Call",
    "calls_in",
    "chat_message",
    "chat_messages",
    "read_chat",
    "store_item",
    "stored_item",
]

_TEXTS = ("name", "refusal", "tool_call_id", "model")
_GIVEN = {"function": "arguments", "custom": "input"}


class Call(NamedTuple):
    """A call of a tool; its ``arguments`` are JSON, if the model has made no mistake."""

    id: str
    name: str
    arguments: str

    @property
    def given(self) -> Message:
        """The arguments as an object; what is none becomes its ``input``."""
        try:
            value = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            value = self.arguments
        return value if isinstance(value, dict) else {"input": value}


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


def read_chat(message: Message) -> Message | None:
    """Return what ``chat_message`` does, with fields of the types that OpenAI's API gives them.

    A store keeps any JSON, and an endpoint may have stored what its client sent. A field of another
    type is left out, and so are a call of no tool, and the digest of the request; arguments that
    are no text become one of JSON.
    """
    chat = chat_message(message)
    if chat is None:
        return None
    changed = {name for name in _TEXTS if not isinstance(chat.get(name), str | None)}
    changed |= {REQUEST_DIGEST} & chat.keys()
    if changed:
        chat = {name: value for name, value in chat.items() if name not in changed}
    calls = chat.get("tool_calls")
    if calls is None:
        return chat
    read = [*map(_read_call, filter(_is_call, calls))] if isinstance(calls, list) else []
    return chat if read == calls else {**chat, "tool_calls": read}


def calls_in(message: Message) -> Iterator[Call]:
    """Yield the calls of a message that ``read_chat`` returned; a custom tool's has one input."""
    for call in message.get("tool_calls") or []:
        kind = _kind_of(call)
        called = call[kind]
        given = called[_GIVEN[kind]]
        arguments = given if kind == "function" else json.dumps({"input": given})
        yield Call(call.get("id") or "", called["name"], arguments)


def _kind_of(call: Message) -> str:
    return "function" if isinstance(call.get("function"), dict) else "custom"


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict):
        return False
    called = call.get(_kind_of(call))
    return isinstance(called, dict) and isinstance(called.get("name"), str)


def _read_call(call: Message) -> Message:
    kind = _kind_of(call)
    given = call[kind].get(_GIVEN[kind])
    if not isinstance(given, str):
        given = "" if given is None else json.dumps(given, ensure_ascii=False)
        call = {**call, kind: {**call[kind], _GIVEN[kind]: given}}
    if not isinstance(call.get("id"), str | None):
        call = {name: value for name, value in call.items() if name != "id"}
    return call
