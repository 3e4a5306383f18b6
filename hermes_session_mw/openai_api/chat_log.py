"""What the chunks of an answer tell, which were logged as Chat Completions stream them.

Rules of this file: pure. The payloads of a log are chunks, from the first one, which has the role:

    {"choices": [{"delta": {"role": "assistant", "content": ""}, ...}]}
    {"choices": [{"delta": {...}, ...}]}                    any number of times
    {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    {"choices": [], "usage": {...}}                         not each client gets it

An answer that failed has ``{"error": {...}}`` as its last payload. The last chunks are logged
before the turn is stored, so that they count only if the answer is completed.
"""

from collections.abc import Iterable
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import MessageAssembly, add_to_choice

OF_ANSWER = ("id", "object", "created", "model")
"""Fields that all chunks of an answer have alike."""

_OF_CHUNK = (*OF_ANSWER, "choices", "usage")
_OF_CHOICE = ("index", "delta", "finish_reason")


def is_usage(payload: Message) -> bool:
    """Return whether it is the chunk that tells the usage, after the answer."""
    return payload.get("choices") == []


def is_end(payload: Message) -> bool:
    """Return whether it is one of the chunks that end an answer."""
    return is_usage(payload) or payload["choices"][0].get("finish_reason") is not None


def error_of(payloads: Iterable[Any]) -> Message | None:
    """Return the payload with the error that ended the answer, or None."""
    return next((each for each in payloads if isinstance(each, dict) and "error" in each), None)


def whole_completion(chunks: Iterable[Message]) -> Message:
    """Return the answer as one object, as a request gets it that does not stream."""
    assembly, choice, shape = MessageAssembly(), Message(), Message()
    beside, reason, usage = Message(), None, None
    for chunk in chunks:
        shape = {name: chunk.get(name) for name in OF_ANSWER}
        beside |= _others(chunk, _OF_CHUNK)
        usage = chunk.get("usage", usage)
        for told in chunk["choices"]:
            assembly.add(told["delta"])
            add_to_choice(choice, _others(told, _OF_CHOICE))
            reason = told["finish_reason"] or reason
    message = {"role": "assistant"} | assembly.message
    choice |= {"index": 0, "message": message, "finish_reason": reason}
    return {**beside, **shape, "object": "chat.completion", "choices": [choice], "usage": usage}


def _others(value: Message, known: tuple[str, ...]) -> Message:
    return {name: each for name, each in value.items() if name not in known}
