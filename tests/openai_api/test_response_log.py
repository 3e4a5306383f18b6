"""What a response's events tell, so far and after an end."""

import json
from typing import Any, get_args

import pytest
from openai.types.responses import Response

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import InvalidRequest
from hermes_session_mw.openai_api.item_ids import answer_items
from hermes_session_mw.openai_api.response_log import (
    BROKE_OFF,
    end_events,
    is_end,
    known_events,
    response_of,
)
from hermes_session_mw.stores.answers import AnswerState
from tests.openai_api.test_response_events import CASES, EVENT, ID, Pieces, run

FAILED = {"error": {"message": "slower", "type": "rate_limit_error"}, "status": 429}


SERVER_ERROR = {"code": "server_error", "message": "the answer broke off"}


def events_of(pieces: Pieces, message: Message, status: str = "completed") -> list[Any]:
    """Return the events of an answer, as a log gives them back."""
    events: list[Any] = json.loads(json.dumps(run(pieces, message, status)))
    return events


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_log_tells_the_items_that_its_end_has(case: tuple[str, Pieces, Message]) -> None:
    """Before the end is true, the output is the same, and the response in progress."""
    _, pieces, message = case
    events = events_of(pieces, message)
    ended = response_of(events, "completed", ID)
    assert ended == events[-1]["response"]
    running = response_of(events, "running", ID)
    assert running == ended | {"status": "in_progress"}
    assert ended["output"] == answer_items({"role": "assistant"} | message, ID)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_beginning_of_a_log_tells_its_pieces(case: tuple[str, Pieces, Message]) -> None:
    """Wherever the log ends, each piece that it has is in the output once, and nothing else."""
    _, pieces, message = case
    events = events_of(pieces, message)
    for count in range(1, len(events)):
        told = response_of(events[:count], "running", ID)
        Response.model_validate(told)
        said = "".join(event.get("delta", "") for event in events[:count])
        shown = "".join(map(all_text, told["output"]))
        assert sorted(shown) == sorted(said)  # pieces of two calls may be mixed
        broken = response_of(events[:count], "stopped", ID)
        assert broken["status"] == "cancelled"
        assert "in_progress" not in {item.get("status") for item in broken["output"]}


def all_text(item: Any) -> str:
    """Return what an item says."""
    given = str(item.get("arguments") or item.get("input") or "")
    parts = item.get("content") or []
    return given + "".join(part.get("text") or part.get("refusal") or "" for part in parts)


def test_log_probabilities_are_told_so_far() -> None:
    """They stand beside the text that they belong to."""
    events = events_of([("a", {}), ("b", {})], {"content": "ab"})
    for event in events:
        if event["type"] == "response.output_text.delta":
            event["logprobs"] = [{"token": event["delta"], "logprob": -1.0}]
    (item,) = response_of(events[:4], "running", ID)["output"]
    assert [each["token"] for each in item["content"][0]["logprobs"]] == ["a"]


@pytest.mark.parametrize("state", [each for each in get_args(AnswerState) if each != "running"])
@pytest.mark.parametrize("logged", ["nothing", "a part", "completed", "failed"])
def test_an_end_is_true_of_the_answer(state: AnswerState, logged: str) -> None:
    """The log's own end counts if the answer ended so; else the numbers go on from the events."""
    whole = events_of([("a", {}), ("b", {})], {"content": "ab"})
    part = [event for event in whole if not is_end(event)][:5]
    logs = {"nothing": [], "a part": part, "completed": whole, "failed": [*part, FAILED]}
    events = logs[logged]
    if state == "completed" and logged != "completed":
        return  # which no answer is
    ends = end_events(events, state, ID)
    for event in ends:
        EVENT.validate_python(event)
    last = ends[-1]["response"]
    assert last == response_of(events, state, ID)
    said = [event for event in events if not is_end(event)]
    numbers = [event["sequence_number"] for event in [*said, *ends]]
    assert numbers == list(range(len(numbers)))
    kinds = [event["type"] for event in ends]
    if state == "completed":
        assert kinds == ["response.completed"]
    elif state == "stopped":
        assert (kinds, last["status"]) == (["response.incomplete"], "cancelled")
        assert (last["error"], last["incomplete_details"]) == (None, None)
    else:
        assert (kinds, last["status"]) == (["error", "response.failed"], "failed")
        code, failure = "server_error", BROKE_OFF
        if logged == "failed":
            code, failure = "rate_limit_exceeded", FAILED
        assert last["error"] == {"code": code, "message": failure["error"]["message"]}
        assert ends[0].items() >= {**last["error"], "error": failure["error"]}.items()
    assert "".join(map(all_text, last["output"])) == ("" if logged == "nothing" else "ab")


def test_an_end_is_numbered_after_what_the_client_has() -> None:
    """A client may have events that were never logged, since the process was killed."""
    events = events_of([("a", {})], {"content": "a"})[:4]
    (number, after) = (
        each["sequence_number"] for each in end_events(events, "incomplete", ID, known=9)
    )
    assert (number, after) == (9, 10)


def test_a_log_without_events_tells_the_id() -> None:
    """The response has all fields that the SDK's type requires."""
    told = response_of([], "incomplete", ID)
    assert Response.model_validate(told).id == ID
    assert (told["status"], told["error"], told["output"]) == ("failed", SERVER_ERROR, [])


@pytest.mark.parametrize(("value", "known"), [(None, 0), ("0", 1), ("41", 42), ("007", 8)])
def test_a_client_knows_the_events_up_to_a_number(value: str | None, known: int) -> None:
    """Numbers begin with 0, so that a client has one event more."""
    assert known_events(value) == known


@pytest.mark.parametrize("value", ["", "-1", "+1", "1.0", "1_0", " 1", "one", "\u0661", "9" * 16])
def test_what_is_no_number_is_refused(value: str) -> None:
    """It is refused by its name."""
    with pytest.raises(InvalidRequest) as refused:
        known_events(value)
    assert (refused.value.param, refused.value.status) == ("starting_after", 400)
