"""What Hermes Agent does with its database differs between its versions: the rules, by schema.

Hermes writes the version of its schema into the file, and raises it when a newer Hermes opens the
file. `rules_of` finds the rules of the versions that write a file; columns and tables that may be
missing are looked up in the file itself (``schema.py``). Each difference was found by running a
version's own ``SessionDB`` (``make hermes-versions``), which is where a field says its source; what
is newer than 0.19 was read, and not run.
"""

from dataclasses import dataclass, replace
from typing import Literal

RELEASES = (
    ("0.13.0", 11),
    ("0.14.0", 11),
    ("0.15.2", 13),
    ("0.16.0", 14),
    ("0.17.0", 16),
    ("0.18.2", 19),
    ("0.19.0", 22),
)
"""The versions of Hermes Agent beside which this was run, each with its schema version."""

NEWEST_RUN = RELEASES[-1][1]
"""The newest of Hermes' schema versions that this was run with: Hermes Agent 0.19's."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for files from one schema version on, up to the next one in `RULES`.

    Attributes:
        schema: the schema version.
        continuation: which child continues its compressed parent: one that began after the parent
            had ended; one without a marker of a branch or a helper; or one whose markers, which a
            continuation inherits, do not name the parent (``get_compression_tip``).
        chain: how many continuations are followed (``get_compression_tip``).
        order: in which order messages are read (``get_messages_as_conversation``).
        has_times: whether a message that is read has its ``timestamp`` (the same).
        hides_reviews: whether Hermes' own prompts that review its memory, and their answers, are
            left out (``_strip_background_review_harness``); ``"once"``: of several prompts after
            each other, only the first one's answer.
        blanks_markers: whether an answer with calls loses a text such as ``[memory]``
            (``_strip_stale_tool_call_markers``).
        marks_branches: whether a branch is listed by its marker (``list_sessions_rich``).
        marks_helpers: whether a helper is left out of lists, and deleted with its parent, by its
            marker (``list_sessions_rich``, ``delete_session``).
        lists_resets: whether a child that began after a reset is listed (``list_sessions_rich``).
        recounts: whether a rewind sets a session's counts to what is left (``rewind_to_message``).
        fences_appends: whether no append may happen while a session is compressed. Newer versions
            copy what was appended meanwhile behind the summary (``publish_compression_child``).
    """

    schema: int
    continuation: Literal["later", "unmarked", "not marked by its parent"]
    chain: int = 100
    order: Literal["id", "timestamp"] = "id"
    has_times: bool = True
    hides_reviews: Literal["no", "each", "once"] = "each"
    blanks_markers: bool = False
    marks_branches: bool = True
    marks_helpers: bool = True
    lists_resets: bool = False
    recounts: bool = False
    fences_appends: bool = True


_0_13 = Rules(
    11, "later", has_times=False, hides_reviews="no", marks_branches=False, marks_helpers=False
)
_0_16 = replace(_0_13, schema=14, marks_branches=True)
_0_17 = replace(_0_16, schema=16, marks_helpers=True, order="timestamp", has_times=True)
_0_18 = Rules(19, "unmarked")
_NEXT = Rules(  # up to schema 25, before 0.20, they are still those of 0.19
    26,
    "not marked by its parent",
    chain=1000,
    hides_reviews="once",
    blanks_markers=True,
    lists_resets=True,
    recounts=True,
    fences_appends=False,
)

RULES = (_0_13, _0_16, _0_17, _0_18, _NEXT)
"""In the order of their schema versions."""

_NEWEST = _0_18


def rules_of(schema: int | None) -> Rules:
    """Return the rules for a schema version; the newest that were run for a file without one."""
    if schema is None:
        return _NEWEST
    return next((rules for rules in reversed(RULES) if rules.schema <= schema), RULES[0])
