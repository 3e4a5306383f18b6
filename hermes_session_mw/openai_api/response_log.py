"""What a response's log tells of it: so far, and after an end that it does not have.

Rules of this file: no input or output. The payloads of a log are the events that `ResponseEvents`
makes, from the first one on; payload n has the ``sequence_number`` n - 1. An answer that failed has
``{"error": {...}, "status": ...}`` as its last payload, as in Chat Completions. The event that ends
a response is logged before its turn is stored, so that it counts only if the answer is completed.
For an answer that ended otherwise there are others:

    the answer's state      the response's status       its last events
    running                 in_progress                 -
    completed               completed or incomplete     the log's
    stopped                 cancelled                   response.incomplete
    incomplete, failed      failed                      error, response.failed

The API has no event for a cancelled response. An answer that broke off is no ``incomplete``
response: clients take what that has for the whole answer, as one that reached its
``max_output_tokens``.
"""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.response_events import Event
from hermes_session_mw.openai_api.response_items import Item
from hermes_session_mw.openai_api.response_object import response_object
from hermes_session_mw.stores.answers import AnswerState

BROKE_OFF: Message = {
    "error": {
        "message": "the answer broke off",
        "type": "server_error",
        "param": None,
        "code": "answer_incomplete",
    },
    "status": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The error of a response whose server was stopped or killed, or whose time was over."""

_ENDS = ("response.completed", "response.incomplete")

_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_STATUS = {"running": "in_progress", "stopped": "cancelled"}
_GIVEN = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
_TEXTS = {
    "response.output_text.delta": "text",
    "response.reasoning_text.delta": "text",
    "response.refusal.delta": "refusal",
}


def known_events(starting_after: str | None) -> int:
    """Return how many events a client has that asks for those after a ``sequence_number``.

    Raises:
        InvalidRequest: it is no whole number of up to 15 digits.
    """
    if starting_after is None:
        return 0
    if not _NUMBER.fullmatch(starting_after):
        raise InvalidRequest("'starting_after' is not a whole number", "starting_after")
    return int(starting_after) + 1


def response_of(
    payloads: Sequence[Message], state: AnswerState, response_id: str, error: Message | None = None
) -> Message:
    """Return the response that the log tells of an answer in this state.

    Args:
        payloads: all payloads of the log.
        state: the answer's state.
        response_id: the response's id, of which alone is known if the log is empty.
        error: why the answer failed, as a payload, if the log does not say so.
    """
    events = [each for each in payloads if not is_end(each)]
    if state == "completed" and len(events) < len(payloads):
        ended: Message = payloads[-1]["response"]
        return ended
    status = _STATUS.get(state, "failed")
    begun = events[0]["response"] if events else response_object(status, _unknown(response_id))
    output = _output(events, has_ended=state != "running")
    failed = _failure(payloads, error) if status == "failed" else None
    shown = None if failed is None else {name: failed[name] for name in ("code", "message")}
    return {**begun, "status": status, "error": shown, "output": output}


def end_events(
    payloads: Sequence[Message],
    state: AnswerState,
    response_id: str,
    *,
    known: int = 0,
    error: Message | None = None,
) -> list[Event]:
    """Return the events that end the stream of an answer that has ended.

    Args:
        payloads: all payloads of the log.
        state: how the answer ended.
        response_id: the response's id.
        known: how many events the client has. They may be more than are logged, if the process was
            killed that made them; the last events are numbered after both.
        error: as for `response_of`.
    """
    ends = [each for each in payloads if is_end(each)]
    if state == "completed" and ends:
        return ends
    response = response_of(payloads, state, response_id, error)
    number = len(payloads) - len(ends)
    if state == "incomplete":
        number = max(number, known)
    if response["status"] == "cancelled":
        return [{"type": "response.incomplete", "sequence_number": number, "response": response}]
    return [
        # The SDKs raise the first one, while they pass the second one on as an event.
        error_event(number, _failure(payloads, error)),
        {"type": "response.failed", "sequence_number": number + 1, "response": response},
    ]


def error_event(number: int, failure: Message) -> Event:
    """Return the event that tells an error; ``failure`` has its code, message and error."""
    return {"type": "error", "sequence_number": number, "param": None} | failure


def as_error(payload: Message) -> Message:
    """Return what the API's objects tell of a failure, which a payload has."""
    is_limit = payload.get("status") == HTTPStatus.TOO_MANY_REQUESTS
    code = "rate_limit_exceeded" if is_limit else "server_error"
    return {"code": code, "message": payload["error"]["message"], "error": payload["error"]}


def logged_error(payloads: Iterable[Message]) -> Message | None:
    """Return the payload that says why the answer failed, or None."""
    return next((each for each in payloads if _is_error(each)), None)


def is_end(payload: Message) -> bool:
    """Return whether the payload ends a response."""
    return _is_error(payload) or payload["type"] in _ENDS


def _is_error(payload: Message) -> bool:
    return "error" in payload and "type" not in payload


def _failure(payloads: Sequence[Message], error: Message | None) -> Message:
    return as_error(logged_error(payloads) or error or BROKE_OFF)


def _unknown(response_id: str) -> Message:
    return {"id": response_id, "model": "unknown"}


def _output(events: Sequence[Event], *, has_ended: bool) -> list[Item]:
    output = _Output()
    for event in events:
        output.add(event)
    items = output.whole()
    for item in items:
        if has_ended and item.get("status") == "in_progress":
            item["status"] = "incomplete"
    return items


class _Output:
    """The items of a response, as its events tell them; the work is linear in the events."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._pieces: dict[tuple[int, int | None, str], list[str]] = {}

    def add(self, event: Event) -> None:
        kind, at = event["type"], event.get("output_index")
        if at is None:
            return
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._items[at] = _copied(event["item"])
            self._drop(at)
        elif kind == "response.content_part.added":
            self._items[at]["content"].append(_copied(event["part"]))
        elif kind == "response.output_text.annotation.added":
            self._part(event)["annotations"].append(event["annotation"])
        elif kind in _GIVEN or kind in _TEXTS:
            self._add_piece(kind, event)

    def _add_piece(self, kind: str, event: Event) -> None:
        place = (
            event["output_index"],
            event.get("content_index"),
            _TEXTS.get(kind) or _GIVEN[kind],
        )
        self._pieces.setdefault(place, []).append(event["delta"])
        if event.get("logprobs"):
            self._part(event)["logprobs"].extend(event["logprobs"])

    def _part(self, event: Event) -> Message:
        part: Message = self._items[event["output_index"]]["content"][event["content_index"]]
        return part

    def _drop(self, at: int) -> None:
        """Drop the pieces of an item that is told as a whole."""
        for place in [place for place in self._pieces if place[0] == at]:
            del self._pieces[place]

    def whole(self) -> list[Item]:
        for (at, part, name), pieces in self._pieces.items():
            holder = self._items[at] if part is None else self._items[at]["content"][part]
            holder[name] = "".join(pieces)
        return [self._items[at] for at in sorted(self._items)]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
