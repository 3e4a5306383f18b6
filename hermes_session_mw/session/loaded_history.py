"""The loaded part of a request's history, and its change with each write.

Rules of this file: pure functions. A `History` may be the newest part of what is stored: its
``length`` counts all messages, and those that come before the loaded ones are *unloaded*.
"""

import json
from collections.abc import Sequence

from hermes_session_mw.exceptions import HistoryNotLoaded
from hermes_session_mw.messages import Message, copy_messages
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.validation import check_replaced


def count_unloaded(history: History) -> int:
    """Return how many messages come before those that are loaded."""
    return history.length - len(history.messages)


def loaded_of_first(history: History, count: int) -> list[Message]:
    """Return the history's first ``count`` messages, as far as they are loaded."""
    return history.messages[: max(count - count_unloaded(history), 0)]


def check_loaded(history: History, replace_from: int) -> None:
    """Raise ``SessionConflict`` if the history is shorter, ``HistoryNotLoaded`` if unloaded."""
    check_replaced(replace_from, history.length)
    unloaded = count_unloaded(history)
    if 0 < replace_from <= unloaded:
        raise HistoryNotLoaded(
            f"the first {unloaded} messages are not loaded, and replace_from={replace_from} keeps "
            "none but these: call 'await session.load(limit=None)' before, inside of turn()"
        )


def after_replacement(history: History, messages: Sequence[Message], replace_from: int) -> History:
    """Return the history after ``messages`` replaced all but its first ``replace_from``."""
    keep = min(replace_from, history.length)
    kept = loaded_of_first(history, keep)
    return History([*kept, *messages], keep + len(messages), exists=True)


def may_be_repetition(history: History, messages: Sequence[Message], replace_from: int) -> bool:
    """Return whether a replacing turn may be one that the history had already.

    Repeating a turn changes nothing, and returns the same length as the first time. If the history
    has other messages after the possible repetition, only the store knows which it was.
    """
    if history.length <= replace_from + len(messages):
        return False
    start = replace_from - count_unloaded(history)
    seen = history.messages[max(start, 0) : max(start + len(messages), 0)]
    return seen == list(messages[len(messages) - len(seen) :])


def after_rewind(history: History, length: int) -> History:
    """Return the history after a rewind to ``length``."""
    if length >= history.length:
        return history
    return History(loaded_of_first(history, length), length, exists=history.exists)


def after_compaction(history: History, replaced: int, summary: Sequence[Message]) -> History:
    """Return the history after ``summary`` replaced its first ``replaced`` messages."""
    # The summary of messages that were not loaded is not loaded, either.
    before = summary if replaced >= count_unloaded(history) else ()
    messages = [*before, *history.messages[len(loaded_of_first(history, replaced)) :]]
    return History(messages, len(summary) + history.length - replaced, exists=True)


def begins_with(messages: Sequence[Message], question: Sequence[Message]) -> bool:
    """Return whether a turn begins with the question, which may be empty."""
    if not question:
        return True
    first, asked = messages[: len(question)], copy_messages(question)
    # Not by ==, for which 1, 1.0 and true are one value.
    return json.dumps(first, sort_keys=True) == json.dumps(asked, sort_keys=True)
