"""The first words of a conversation, which represent it where it has no title.

Rules of this file: pure functions; what they return is one line, and a title that every store
takes.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from hermes_session_mw.messages import Message, chat_message

FIRST_WORDS = 60
"""Characters of the first words, by default."""

FIRST_MESSAGES = 4
"""Messages that a store reads of a history for them, from its beginning."""

_READ = 16
"""Characters that are read for each one that is returned: marks of Markdown and spaces are not."""

_JOINERS = "\u200c\u200d"  # in emoji, and between letters of several scripts
_FENCE = re.compile(r"(?m)^[ \t]*(?:```|~~~).*$")
_MARKS = re.compile(r"(?m)^[ \t]*(?:(?:#{1,6}|>|[-*+]|\d{1,9}[.)])[ \t]+)+")
_LINK = re.compile(r"!?\[([^\][\n]*)\]\([^()\s]*(?:[ \t]+\"[^\"\n]*\")?\)")
_STRONG = re.compile(r"(\*\*|~~)(?=\S)(.+?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![*\w])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![*\w])")
# A string, whose end may be missing, with half an escape before it; or what stands between values.
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*+)(?:\\(?:u[0-9a-fA-F]{0,3})?)?(?P<end>"?)'
    r"|[{}\[\],]"
)
_CLOSING = {"{": "}", "[": "]"}


def first_words(message: Message, max_length: int = FIRST_WORDS) -> str:
    """Return the beginning of a message's text as one line, cut between words.

    Markdown's marks, control characters and line breaks are left out. A longer text ends with
    ``…``. Where one word is longer, as in scripts without spaces, it is cut, but never within a
    character that is written by several code points (most of Unicode's grapheme clusters).

    Args:
        message: in the shape of Chat Completions; its content may be a list of parts, of which
            those with a text count.
        max_length: code points that are returned at most, with the ``…``; 1 or more.

    Returns:
        The words; ``""`` where the message has no text, such as one of pictures alone.
    """
    if max_length < 1:
        raise ValueError(f"max_length: {max_length} is not more than 0")
    chat = chat_message(message) or {}
    return one_line(_text_of(chat.get("content"), max_length * _READ), max_length, markdown=True)


def first_words_of(messages: Iterable[Message], max_length: int = FIRST_WORDS) -> str:
    """Return the first words of the user's first message that has any; ``""`` without one."""
    said = (first_words(each, max_length) for each in messages if each.get("role") == "user")
    return next(filter(None, said), "")


def one_line(text: str, max_length: int, *, markdown: bool = False) -> str:
    """Return the text's beginning as one line of printable characters, cut between words."""
    text = text.lstrip()[: max_length * _READ]
    if markdown:
        text = _without_marks(text)
    shown = (char if char.isprintable() or char in _JOINERS else " " for char in text)
    line = " ".join("".join(shown).replace("`", " ").split())
    if len(line) <= max_length:
        return line
    if line[max_length - 1] == " ":
        return f"{line[: max_length - 1]}…"
    at_a_word = line[: max_length - 1].rpartition(" ")[0]
    return f"{at_a_word or line[: _cut(line, max_length - 1)]}…"


def first_words_of_json(bodies: Sequence[str], max_length: int = FIRST_WORDS) -> str:
    """Return the same as `first_words_of`, for JSON texts that may be cut off at their end.

    So a store need not read a picture of megabytes for a line of its caption. Where what is there
    of a message does not tell its role, it counts as the user's.
    """
    found = (parse_beginning(body) for body in bodies)
    told = ({"role": "user", **each} for each in found if isinstance(each, dict))
    return first_words_of(told, max_length)


def parse_beginning(text: str) -> Any:
    """Return the value of a JSON text, or what the beginning of one says; None for no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    beginning, closing, last = _open_ends(text)
    # What is open at the end may be a key or a value; and a number or a word may be cut off.
    for end in ("", ":null", "null"):
        for kept in (beginning, beginning[:last]):
            try:
                return json.loads(kept + end + closing)
            except (ValueError, RecursionError):
                continue
    return None


def _open_ends(text: str) -> tuple[str, str, int]:
    """Return a JSON text without half an escape, what closes it, and where its last comma is."""
    stack: list[str] = []
    last = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in _CLOSING:
            stack.append(_CLOSING[mark])
            last = token.end()
        elif mark == ",":
            last = token.start()
        elif mark in "]}" and stack:
            stack.pop()
        elif token["end"] == "":
            return f'{text[: token.start()]}{token["string"]}"', "".join(reversed(stack)), last
    return text, "".join(reversed(stack)), last


def _text_of(content: Any, most: int) -> str:
    """Return the beginning of a content's text, with a space between its parts."""
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    found: list[str] = []
    size = 0
    for text in texts:
        if isinstance(text, str) and size < most:
            found.append(text.lstrip()[:most])
            size += len(found[-1])
    return "\n".join(found)


def _without_marks(text: str) -> str:
    """Return the text without Markdown's marks; what only looks like one stays."""
    plain = _LINK.sub(r"\1", _MARKS.sub("", _FENCE.sub("", text)))
    marked = _EMPHASIS.sub(r"\1", _STRONG.sub(r"\2", plain))
    return marked if marked.strip() else text  # marks alone are what was said


def _cut(line: str, most: int) -> int:
    """Return where to cut a line's beginning of up to ``most`` code points, between characters."""
    at = most
    while at > 0 and _continues(line, at):
        at -= 1
    return at or most  # one that is too long is cut


def _continues(line: str, at: int) -> bool:
    """Tell whether the code point belongs to the same character as the one before it."""
    char, before = line[at], line[at - 1]
    if char in _JOINERS or before == "\u200d" or unicodedata.category(char).startswith("M"):
        return True
    if "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f":
        return True  # skin tones, and the tags of flags
    if _is_regional(char):  # flags are pairs of these
        start = at
        while start > 0 and _is_regional(line[start - 1]):
            start -= 1
        return (at - start) % 2 == 1
    # Parts of one syllable: consonants, then vowels, then consonants that end it.
    return 0 <= _jamo(char) - _jamo(before) <= 1 and _jamo(before) > 0


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _jamo(char: str) -> int:
    """Return which part of a Hangul syllable it is: 1, 2 or 3; -1 for another character."""
    if not "\u1100" <= char <= "\u11ff":
        return -1
    return 1 + (char >= "\u1160") + (char >= "\u11a8")
