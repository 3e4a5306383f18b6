r"""Whole characters: halves of one, as JSON can have them, can be neither stored nor sent.

Rules of this file: pure.

    text               becomes
    "\ud83d\ude00"     the one character that they are
    "\ud83d", "\ude00" "\ufffd", each by itself
"""

from typing import Any


def whole_text(text: str) -> str:
    """Return the text with its surrogate pairs as characters, and other surrogates as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def whole(value: Any) -> Any:
    """Return a JSON value in which all texts are whole."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, dict):
        return {whole_text(name): whole(each) for name, each in value.items()}
    return value
