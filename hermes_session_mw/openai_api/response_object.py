"""The response object of the Responses API, and what is stored of it beside its answer.

Rules of this file: pure functions over JSON values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.response_items import Item
from hermes_session_mw.openai_api.response_options import response_defaults

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The reason of an incomplete response, by its ``finish_reason`` in Chat Completions."""


def end_status(finish_reason: str) -> str:
    """Return the status of an answer that ended for this reason."""
    return "incomplete" if finish_reason in _INCOMPLETE else "completed"


def response_object(
    status: str, details: Mapping[str, Any], output: Sequence[Item] = (), *, finish_reason: str = ""
) -> Message:
    """Return a response with all fields that the types of OpenAI's SDKs require.

    Args:
        status: ``in_progress``, ``completed``, ``incomplete`` or ``failed``.
        details: the fields that differ from one response to the next: ``id``, ``created_at``,
            ``model``, ``usage``, and those that the request gives.
        output: the response's items; empty before its end.
        finish_reason: why the answer ended, in the terms of Chat Completions.
    """
    reason = _INCOMPLETE.get(finish_reason) if status == "incomplete" else None
    return {
        **response_defaults(),
        "object": "response",
        "created_at": 0,
        "completed_at": None,
        "previous_response_id": None,
        "usage": None,
        **details,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": list(output),
    }


def usage_of(usage: Mapping[str, Any] | None) -> Message | None:
    """Return the usage of Chat Completions as Responses has it, with its details."""
    if usage is None:
        return None
    used, made = usage["prompt_tokens"], usage["completion_tokens"]
    read = {"cached_tokens": 0, "cache_write_tokens": 0} | _counts(usage, "prompt_tokens_details")
    written = {"reasoning_tokens": 0} | _counts(usage, "completion_tokens_details")
    return {
        "input_tokens": used,
        "input_tokens_details": read,
        "output_tokens": made,
        "output_tokens_details": written,
        "total_tokens": usage.get("total_tokens", used + made),
    }


def _counts(usage: Mapping[str, Any], name: str) -> Message:
    details = usage.get(name)
    found = details if isinstance(details, dict) else {}
    return {key: value for key, value in found.items() if value is not None}
