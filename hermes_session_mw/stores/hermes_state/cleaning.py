"""What Hermes leaves out when it reads: fenced memory, white space, and turns of its own upkeep.

Rules of this file: pure functions, and each does neither more nor less than Hermes Agent 0.19.
"""

import re
from collections.abc import Sequence

from ...messages import Message

_FENCED = re.compile(r"<\s*memory-context\s*>.*?</\s*memory-context\s*>", re.IGNORECASE | re.DOTALL)
_NOTE = re.compile(
    r"\s*".join(
        [
            r"\[System note:",
            r"The following is recalled memory context,",
            r"NOT new user input\.",
            r"Treat as (?:informational background data|authoritative reference data[^\]]*)\.\]",
            "",
        ]
    ),
    re.IGNORECASE,
)
_FENCE = re.compile(r"</?\s*memory-context\s*>", re.IGNORECASE)

_UPKEEP = (
    "Review the conversation above and update the skill library",
    "Review the conversation above and consider saving to memory",
)

SUSPECT = (
    "role IN ('user', 'system') AND ("
    "instr(lower(content), 'review the conversation above and') > 0"
    # What is cut out of a text may join what comes before it and after it.
    " OR instr(lower(content), 'memory-context') > 0 OR instr(lower(content), 'ystem note:') > 0"
    # A text that was stored as JSON: NUL, json, colon, quotation mark.
    " OR substr(CAST(content AS BLOB), 1, 7) = X'006A736F6E3A22')"
)
"""SQL that is true of every message of Hermes' upkeep, and of few others."""


def cleaned(text: str) -> str:
    """Return what Hermes reads where a user's or an assistant's text is ``text``."""
    for part in (_FENCED, _NOTE, _FENCE):
        text = part.sub("", text)
    return text.strip()


def without_upkeep(messages: Sequence[Message]) -> list[Message]:
    """Leave out the prompts by which Hermes has its memory reviewed, and the answer to each."""
    kept: list[Message] = []
    answered = True
    for message in messages:
        if _is_upkeep(message):
            answered = False
            continue
        is_answer = not answered and message["role"] == "assistant"
        answered = True
        if not is_answer:
            kept.append(message)
    return kept


def _is_upkeep(message: Message) -> bool:
    content = message["content"]
    return (
        message["role"] in ("user", "system")
        and isinstance(content, str)
        and content.lstrip().startswith(_UPKEEP)
    )
