"""What an answer cost: the ``usage`` of Chat Completions.

Rules of this file: pure.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

from hermes_session_mw.messages import Message
from hermes_session_mw.session.prompts import estimate_tokens

Usage = dict[str, Any]
"""The ``usage`` of a chat completion, with all that an upstream tells."""


def read_usage(value: Any) -> Usage | None:
    """Return an upstream's usage with all its details, or None if it does not have both counts."""
    if not isinstance(value, dict):
        return None
    used, made = value.get("prompt_tokens"), value.get("completion_tokens")
    if not _is_count(used) or not _is_count(made):
        return None
    has_total = _is_count(value.get("total_tokens"))
    return value if has_total else value | {"total_tokens": used + made}


def estimated_usage(prompt: Sequence[Message], answer: str) -> Usage:
    """Return the usage where the upstream tells none, as by `estimate_tokens`.

    Clients rely on the counts, and some fail without them. ``"estimated": true`` tells that they
    are no bill. ``answer`` is all of the answer's texts.
    """
    used, made = sum(map(estimate_tokens, prompt)), estimate_tokens({"content": answer})
    counts = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
    return counts | {"estimated": True}


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
