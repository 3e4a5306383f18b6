"""Converts messages to JSON texts and back, unchanged.

Rules of this file: pure functions; a message is a ``dict`` of JSON values (RFC 8259), of any
shape that the OpenAI message format has, and nothing in it is rewritten.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hermes_session_mw.exceptions import (
    InvalidMessage,
    MessageTooLarge,
    StoreCorrupt,
    StoreMisconfigured,
    TurnTooLong,
)

Message = dict[str, Any]
Parse = Callable[[str], Any]

MAX_MESSAGE_BYTES = 1_048_576
"""Bytes of UTF-8 that one message may take as JSON, by default."""

MAX_DEPTH = 100
"""How deep lists and objects may nest, so that no JSON parser runs out of stack."""


MAX_TURN_MESSAGES = 1000
"""Messages that one turn may have, by default."""

ENCRYPTED = "$h1$"
"""What an encrypted text begins with (``stores/encryption.py``)."""

ITEM = "hermes_item"
"""The key that has another framework's own form of a message; see ``adapters/chat_messages.py``.

A message with this key and without a role has no other form, and is for that framework alone.
"""

_PORTION = 4096  # characters


def fast_parser() -> Parse:
    """Return msgspec's parser if the extra ``fast`` has brought it, else the standard library's.

    Both return the same: what msgspec refuses (``NaN``, a lone surrogate, a number beyond a float's
    range, deep nesting) the standard library is given.
    """
    try:
        from msgspec import MsgspecError  # noqa: PLC0415  # an extra
        from msgspec.json import Decoder  # noqa: PLC0415
    except ImportError:
        return json.loads
    decode = Decoder().decode

    def parse(text: str) -> Any:
        try:
            return decode(text)
        except (MsgspecError, RecursionError, UnicodeEncodeError):
            return json.loads(text)

    return parse


parse_json: Parse = fast_parser()
"""Returns a JSON text's value; raises ``ValueError`` or ``RecursionError`` as ``json.loads``."""

# Created once: json.dumps creates another encoder for each call.
as_json: Callable[[object], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode
"""Returns a value as compact JSON, and checks nothing but that it is JSON."""


class EncodedMessages(list[Message]):
    """Copies of messages, with the JSON text of each, so that a store need not encode them again.

    A store keeps the texts. So only code that never changes a message may be given one of these.

    Attributes:
        bodies: the texts, in order; no size was checked.
    """

    __slots__ = ("bodies",)

    def __init__(self, messages: Iterable[Message], bodies: Sequence[str]) -> None:
        super().__init__(messages)
        self.bodies: Sequence[str] = bodies


def encode_messages(
    messages: Sequence[Message],
    max_bytes: int = MAX_MESSAGE_BYTES,
    max_messages: int = MAX_TURN_MESSAGES,
) -> list[str]:
    """Return each message as a JSON text.

    Control characters, including NUL, are escaped, so that any text column can hold the result.

    Raises:
        InvalidMessage: there is no message, ``messages`` is a dict, or a message is not a dict or
            not JSON (NaN, bytes, a tuple, a key that is not a string, a lone surrogate, nested
            deeper than ``MAX_DEPTH``).
        MessageTooLarge: one takes more than ``max_bytes`` bytes of UTF-8.
        TurnTooLong: there are more than ``max_messages``.
    """
    if len(messages) > max_messages and not isinstance(messages, dict):
        raise TurnTooLong(
            f"the turn has {len(messages)} messages, and may have {max_messages}; "
            "nothing was stored"
        )
    if not isinstance(messages, EncodedMessages):
        return [body for body, _ in _encode_each(messages, max_bytes)]
    for number, body in enumerate(messages.bodies):
        _check_size(number, _size_of(body), max_bytes)
    return list(messages.bodies)


def decode_messages(bodies: Sequence[str]) -> list[Message]:
    """Return the messages of the JSON texts ``bodies``; raise ``StoreCorrupt`` for other texts."""
    return parse_messages(",".join(bodies), len(bodies))


def parse_messages(texts: str, count: int) -> list[Message]:
    """Return the ``count`` messages of ``texts``: JSON texts with commas between.

    Parsed in one go, which takes less than half the time of parsing one by one. Raises
    ``StoreCorrupt`` if they are not JSON, or another number.
    """
    try:
        messages: list[Message] = parse_json(f"[{texts}]")
    except (ValueError, RecursionError):
        # The cause's text may quote the message.
        raise (needs_keys() if ENCRYPTED in texts else _not_json()) from None
    if len(messages) != count:
        raise _not_json()
    return messages


def copy_and_encode(messages: Sequence[Message]) -> EncodedMessages:
    """Return copies with their JSON texts; ``InvalidMessage`` as in ``encode_messages``."""
    both = _encode_each(messages, sys.maxsize)
    return EncodedMessages([copy for _, copy in both], [body for body, _ in both])


def copy_messages(messages: Sequence[Message]) -> list[Message]:
    """Return copies, which a caller cannot change; ``InvalidMessage`` as in ``encode_messages``."""
    return list(copy_and_encode(messages))


def has_chat_form(message: Message) -> bool:
    """Return whether the message is one for everybody, and not another framework's item alone."""
    return ITEM not in message or "role" in message


def chat_message(message: Message) -> Message | None:
    """Return the message without another framework's form of it; None if it has no other form."""
    if ITEM not in message:
        return message
    if not has_chat_form(message):
        return None
    return {name: value for name, value in message.items() if name != ITEM}


def chat_messages(messages: Sequence[Message]) -> list[Message]:
    """Return the messages that are for everybody, without other frameworks' forms of them."""
    found = map(chat_message, messages)
    return [message for message in found if message is not None]


def ends_with_answer(messages: Sequence[Message]) -> bool:
    """Return whether the last one for everybody is an answer, and none that calls tools."""
    last = next(filter(has_chat_form, reversed(messages)), {})
    is_call = bool(last.get("tool_calls") or last.get("function_call"))
    return last.get("role") == "assistant" and not is_call


def text_of(message: Message) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def size_of_text(text: str) -> int:
    """Return the bytes of UTF-8 that a text takes in a message, without its quotation marks."""
    return len(as_json(text).encode("utf-8", "surrogatepass")) - 2


def beginning_of(text: str, room: int) -> str:
    """Return the longest beginning of ``text`` that takes up to ``room`` bytes in a message."""
    kept, at = 0, 0
    for step in (_PORTION, 1):
        while at < len(text):
            size = size_of_text(text[at : at + step])
            if kept + size > room:
                break
            kept, at = kept + size, at + step
    return text[:at]


def _encode_each(messages: Sequence[Message], max_bytes: int) -> list[tuple[str, Message]]:
    if isinstance(messages, dict):
        raise InvalidMessage("messages is a dict, not a list: give [message]; nothing was stored")
    both = [_encode(number, message, max_bytes) for number, message in enumerate(messages)]
    if not both:
        raise InvalidMessage("there is no message to append")
    return both


def _encode(number: int, message: Message, max_bytes: int) -> tuple[str, Message]:
    """Return the message's JSON text, and a copy, which is what the text is read as."""
    if not isinstance(message, dict):
        raise _not_a_dict(number, message)
    try:
        body = as_json(message)
        size = _size_of(body)
    except UnicodeEncodeError:
        raise _invalid(number, "has a lone surrogate, which is not Unicode text") from None
    except RecursionError:
        raise _too_deep(number) from None
    except (TypeError, ValueError) as exc:
        raise _invalid(number, f"is not JSON: {exc}") from None
    _check_size(number, size, max_bytes)
    return body, _read_back(number, body, message)


def _size_of(body: str) -> int:
    return len(body) if body.isascii() else len(body.encode())


def _check_size(number: int, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        problem = f"takes {size} bytes as JSON; the store takes {max_bytes} (max_message_bytes)"
        raise _invalid(number, problem, MessageTooLarge)


def _read_back(number: int, body: str, message: Message) -> Message:
    """Return what the text of a message is read as, if that is the same."""
    if _has_only_texts(message):
        return message.copy()
    if not _depth_is_safe(body, message):
        raise _too_deep(number)
    read: Message = parse_json(body)
    if read != message:
        raise _invalid(number, "would come back changed (a tuple, or a key that is not a string)")
    return read


def _has_only_texts(message: Message) -> bool:
    """Tell whether it is a plain dict of plain strings, as most are, which JSON cannot change."""
    if type(message) is not dict:
        return False
    for name, value in message.items():  # all() takes three times as long
        if type(value) is not str or type(name) is not str:
            return False
    return True


def _not_a_dict(number: int, value: object) -> InvalidMessage:
    hint = ""
    if isinstance(value, (list, tuple)):
        hint = ": a session's append(*messages) takes each message by itself"
    return _invalid(number, f"is a {type(value).__name__}, not a dict{hint}")


def _depth_is_safe(body: str, message: Message) -> bool:
    # Most messages have too few brackets to be too deep, which takes one scan in C.
    if body.count("{") + body.count("[") <= MAX_DEPTH:
        return True
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _nested(value)]
        if not level:
            return True
    return False


def _nested(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value
    return [child for child in children if isinstance(child, (dict, list, tuple))]


def _too_deep(number: int) -> InvalidMessage:
    return _invalid(number, f"nests deeper than {MAX_DEPTH} levels")


def is_encrypted(text: str | None) -> bool:
    """Tell whether a stored text is encrypted, as no JSON text and no title begins like that."""
    return text is not None and text.startswith(ENCRYPTED)


def needs_keys() -> StoreMisconfigured:
    """Return the error for encrypted content that a store without keys has read."""
    return StoreMisconfigured(
        "what is stored of the session is encrypted, and the store has no keys: give it the "
        "Keyring that it was encrypted with (encryption=)"
    )


def _not_json() -> StoreCorrupt:
    return StoreCorrupt("a stored message is not JSON: restore it from a backup")


def _invalid(
    number: int, problem: str, error: type[InvalidMessage] = InvalidMessage
) -> InvalidMessage:
    return error(f"message {number} {problem}; nothing was stored")
