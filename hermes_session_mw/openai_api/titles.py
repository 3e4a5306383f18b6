"""Makes titles of what was said.

Rules of this file: pure functions; what they return is a title that every store takes.
"""

from collections.abc import Sequence

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.first_words import FIRST_WORDS, first_words_of


def title_of(messages: Sequence[Message], length: int = FIRST_WORDS) -> str:
    """Return a conversation's title: the first words of the user's first message that has any.

    It has up to ``length`` printable characters in one line, and none where no message has a text.
    """
    return first_words_of(messages, length)
