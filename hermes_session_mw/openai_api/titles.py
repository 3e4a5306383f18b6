"""Makes titles of what was said.

Rules of this file: pure functions; what they return is a title that every store takes.
"""

from collections.abc import Sequence

from hermes_session_mw.messages import Message, text_of

TITLE_LENGTH = 60


def title_of(messages: Sequence[Message], length: int = TITLE_LENGTH) -> str:
    """Return a conversation's title: the beginning of the user's first message, in one line.

    It has up to ``length`` printable characters, and none where that message has no text.
    """
    first = next((each for each in messages if each.get("role") == "user"), {})
    content = first.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = (part if isinstance(part, str) else text_of({"content": [part]}) for part in parts)
    return one_line(" ".join(texts), length)


def one_line(text: str, length: int) -> str:
    """Return the text's beginning as one line of printable characters, cut between words."""
    shown = (char if char.isprintable() and char != "`" else " " for char in text[: length * 4])
    line = " ".join("".join(shown).split())
    if len(line) <= length:
        return line
    cut = line[: length - 1].rstrip()
    at_a_word = cut.rpartition(" ")[0] if line[len(cut)] != " " else cut
    return f"{at_a_word or cut}…"
