"""Removes what Hermes leaves out on reading: inserted memory, white space, maintenance prompts.

Pure functions; each does exactly what Hermes Agent does, by the rules of a file's version.
"""

import re
from collections.abc import Sequence

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.hermes_state.rules import Rules

# The beginning and the end of a removed part have separate patterns, each of which needs one pass.
# A single pattern would search for the end again from every beginning.
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

_MAINTENANCE = (
    "Review the conversation above and update the skill library",
    "Review the conversation above and consider saving to memory",
)

MAY_BE_MAINTENANCE = (
    "role IN ('user', 'system') AND ("
    "instr(lower(content), 'review the conversation above and') > 0"
    # Cutting something out of a text may join such words.
    " OR instr(lower(content), 'memory-context') > 0 OR instr(lower(content), 'ystem note:') > 0"
    # A text that was stored as JSON: NUL, json, colon, quotation mark.
    " OR substr(CAST(content AS BLOB), 1, 7) = X'006A736F6E3A22')"
)
"""SQL that is true for every maintenance prompt, and for few other messages."""


def clean_text(text: str) -> str:
    """Return the text as Hermes reads it in a user's or an assistant's message."""
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
    """Leave out the notes: a beginning, then ``.]``; after one of two kinds, text between them."""
    kept, at, begin, bracket = [], 0, 0, 0
    while (start := _NOTE.search(text, begin)) is not None:
        if bracket < start.end():
            bracket = text.find("]", start.end())
            if bracket < 0:
                break
        begin = start.start() + 1
        stop = bracket - 1
        may_have_text = start[1].lower().startswith("authoritative")
        if text[stop] == "." and (stop == start.end() or (may_have_text and stop > start.end())):
            kept.append(text[at : start.start()])
            space = _SPACE.match(text, bracket + 1)
            at = begin = space.end() if space is not None else bracket + 1  # pragma: no branch
    return "".join(kept) + text[at:]


def without_maintenance(messages: Sequence[Message], rules: Rules) -> list[Message]:
    """Leave out the prompts by which Hermes reviews its memory, and the answer to each."""
    if rules.hides_reviews == "no":
        return list(messages)
    kept: list[Message] = []
    was_prompt = hides_answer = False
    for message in messages:
        if _is_maintenance(message):
            hides_answer = not was_prompt or rules.hides_reviews == "each"
            was_prompt = True
            continue
        if not hides_answer or message["role"] != "assistant":
            kept.append(message)
        was_prompt = hides_answer = False
    return kept


def _is_maintenance(message: Message) -> bool:
    content = message["content"]
    return (
        message["role"] in ("user", "system")
        and isinstance(content, str)
        and content.lstrip().startswith(_MAINTENANCE)
    )
