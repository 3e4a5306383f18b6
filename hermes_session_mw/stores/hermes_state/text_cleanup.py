"""What Hermes leaves out when it reads: fenced memory, white space, and turns of its own upkeep.

Rules of this file: pure functions, and each does neither more nor less than Hermes Agent 0.19.
"""

import re
from collections.abc import Sequence

from hermes_session_mw.messages import Message

# Each part of what is cut out has a pattern of its own, which finds it in one pass. One pattern for
# the whole would look for the end anew at each beginning, and of those a text may have many.
_OPENING = re.compile(r"<\s*memory-context\s*>", re.IGNORECASE)
_CLOSING = re.compile(r"</\s*memory-context\s*>", re.IGNORECASE)
_NOTE = re.compile(
    r"\s*".join(
        [
            r"\[System note:",
            r"The following is recalled memory context,",
            r"NOT new user input\.",
            r"Treat as (informational background data|authoritative reference data)",
        ]
    ),
    re.IGNORECASE,
)
_SPACE = re.compile(r"\s*")
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
    return _FENCE.sub("", _without_notes(_without_fenced(text))).strip()


def _without_fenced(text: str) -> str:
    kept, at = [], 0
    while (opening := _OPENING.search(text, at)) is not None:
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            break
        kept.append(text[at : opening.start()])
        at = closing.end()
    return "".join(kept) + text[at:]


def _without_notes(text: str) -> str:
    """Leave out the notes: a beginning, for one of its two kinds anything, and then ``.]``."""
    kept, at, begin, bracket = [], 0, 0, 0
    while (start := _NOTE.search(text, begin)) is not None:
        if bracket < start.end():
            bracket = text.find("]", start.end())
            if bracket < 0:
                break
        begin = start.start() + 1
        stop = bracket - 1
        may_say_more = start[1].lower().startswith("authoritative")
        if text[stop] == "." and (stop == start.end() or (may_say_more and stop > start.end())):
            kept.append(text[at : start.start()])
            space = _SPACE.match(text, bracket + 1)
            at = begin = space.end() if space is not None else bracket + 1  # pragma: no branch
    return "".join(kept) + text[at:]


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
