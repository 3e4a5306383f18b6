"""The events of a streamed response."""

import json
from typing import Any

import openai
import pytest
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response
from pydantic import TypeAdapter

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.item_ids import answer_items
from hermes_session_mw.openai_api.response_events import ResponseEvents
from hermes_session_mw.openai_api.response_object import response_object

EVENT: TypeAdapter[Any] = TypeAdapter(openai.types.responses.ResponseStreamEvent)
ID = "resp_" + "a1" * 24
NOTE = {
    "type": "url_citation",
    "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
}

Pieces = list[tuple[str, Message]]


def call(index: int, arguments: str, **more: Any) -> Message:
    return {"index": index, "function": {"arguments": arguments}} | more


def begun(index: int, arguments: str = "") -> Message:
    named = {"name": "f", "arguments": arguments}
    return {"index": index, "id": f"c{index}", "type": "function", "function": named}


def whole(index: int, arguments: str) -> Message:
    return {
        "id": f"c{index}",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }


def custom(text: str, **more: Any) -> Message:
    return {"index": 0, "custom": {"input": text} | more}


def run(pieces: Pieces, message: Message, status: str = "completed") -> list[Any]:
    """Return the events of an answer, each checked by the SDK's type."""
    events = ResponseEvents(ID)
    details = {"id": ID, "model": "m"}
    made = [events.event("response.created", response=response_object("in_progress", details))]
    for text, fields in pieces:
        made += json.loads(json.dumps(list(events.add(text, fields))))
    made += events.end(status, message.get("tool_calls", []))
    ended = response_object(status, details, events.items, finish_reason="length")
    made.append(events.event(f"response.{status}", response=ended))
    for event in made:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in made] == list(range(len(made)))
    return made


def short(events: list[Any]) -> str:
    """Return the kinds of the events, without the response's own."""
    kinds = [event["type"].removeprefix("response.") for event in events[1:-1]]
    letters = {
        "output_item.added": "<", "output_item.done": ">",
        "content_part.added": "(", "content_part.done": ")",
        "output_text.delta": "t", "output_text.done": "T",
        "refusal.delta": "n", "refusal.done": "N",
        "reasoning_text.delta": "r", "reasoning_text.done": "R",
        "function_call_arguments.delta": "f", "function_call_arguments.done": "F",
        "custom_tool_call_input.delta": "c", "custom_tool_call_input.done": "C",
        "output_text.annotation.added": "@",
    }  # fmt: skip
    return "".join(letters[kind] for kind in kinds)


CASES: dict[str, tuple[str, Pieces, Message]] = {
    "text": ("<(ttT)>", [("a", {}), ("b", {})], {"content": "ab"}),
    "nothing": ("<(T)>", [], {"content": ""}),
    "a refusal": ("<(nnN)>", [("", {"refusal": "N"}), ("", {"refusal": "o"})],
                  {"content": None, "refusal": "No"}),
    "text and a refusal": ("<(tT)(nN)>", [("a", {}), ("", {"refusal": "No"})],
                           {"content": "a", "refusal": "No"}),
    "reasoning": ("<(rrR)><(tT)>",
                  [("", {"reasoning_content": "h"}), ("", {"reasoning_content": "m"}), ("a", {})],
                  {"content": "a", "reasoning_content": "hm"}),
    "an annotation": ("<(t@T)>", [("a", {}), ("", {"annotations": [NOTE]})],
                      {"content": "a", "annotations": [NOTE]}),
    "a call": ("<ffF>", [("", {"tool_calls": [begun(0)]}), ("", {"tool_calls": [call(0, "{")]}),
                         ("", {"tool_calls": [call(0, "}")]})],
               {"content": None, "tool_calls": [whole(0, "{}")]}),
    "text and calls": ("<(tT)><fF><fF>",
                       [("a", {}), ("", {"tool_calls": [begun(0, "{}")]}),
                        ("", {"tool_calls": [begun(1, "{}")]})],
                       {"content": "a", "tool_calls": [whole(0, "{}"), whole(1, "{}")]}),
    "mixed calls": ("<<ffF>F>",
                    [("", {"tool_calls": [begun(0), begun(1)]}),
                     ("", {"tool_calls": [call(0, "{}"), call(1, "{}")]})],
                    {"content": None, "tool_calls": [whole(0, "{}"), whole(1, "{}")]}),
    "a name that comes late": ("<fF>",
                               [("", {"tool_calls": [call(0, "{", id="c0")]}),
                                ("", {"tool_calls": [begun(0, "}")]})],
                               {"content": None, "tool_calls": [whole(0, "{}")]}),
    "a call without an id": ("<fF>", [("", {"tool_calls": [call(0, "{}")]})],
                             {"content": None, "tool_calls": [whole(0, "{}")]}),
    "a custom call": ("<ccC>",
                      [("", {"tool_calls": [
                          custom("a", name="f") | {"id": "c0", "type": "custom"}]}),
                       ("", {"tool_calls": [custom("b")]})],
                      {"content": None, "tool_calls": [
                          {"id": "c0", "type": "custom", "custom": {"name": "f", "input": "ab"}}]}),
}  # fmt: skip


@pytest.mark.parametrize(("kinds", "pieces", "message"), CASES.values(), ids=CASES.keys())
def test_events_come_in_the_sdks_order(kinds: str, pieces: Pieces, message: Message) -> None:
    """Each item and each part begins before its pieces, and the items are those that are stored."""
    events = run(pieces, message)
    assert short(events) == kinds
    stored = answer_items({"role": "assistant"} | message, ID)
    assert events[-1]["response"]["output"] == stored
    added = [event["item"]["id"] for event in events if event["type"].endswith("item.added")]
    assert added == [item["id"] for item in stored]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_sdk_assembles_the_same(case: tuple[str, Pieces, Message]) -> None:
    """OpenAI's own helper comes to the response that the last event has."""
    _, pieces, message = case
    state = ResponseStreamState(text_format=openai.omit, input_tools=openai.omit)
    for event in run(pieces, message):
        state.handle_event(EVENT.validate_python(event))
    done = state._completed_response
    assert done is not None
    assert [item.type for item in done.output] == [
        item["type"] for item in answer_items({"role": "assistant"} | message, ID)
    ]


def test_calls_that_are_not_stored_end_as_they_came() -> None:
    """Where the stored answer is not known, a call has what its pieces had."""
    unnamed = [("", {"tool_calls": [call(0, "{"), begun(1, "{}")]}), ("", {"annotations": [NOTE]})]
    events = run([*unnamed, ("", {"reasoning_content": "h"})], {"content": None})
    assert short(events) == "<fF><(rR)><fF>"
    output = events[-1]["response"]["output"]
    assert [item.get("arguments") for item in output] == ["{}", None, "{"]


def test_nothing_comes_after_a_call_has_ended() -> None:
    """White space after whole arguments is passed over once the next call has begun."""
    pieces: Pieces = [("", {"tool_calls": [each]}) for each in (begun(0, "{}"), begun(1, "1"))]
    message = {"content": None, "tool_calls": [whole(0, "{}"), whole(1, "1")]}
    events = run([*pieces, ("", {"tool_calls": [call(0, " ")]})], message)
    assert short(events) == "<fF><fF>"


def test_annotations_without_a_text_are_passed_over() -> None:
    """They belong to a text, and there is none that they could be told of."""
    thought: Pieces = [("", {"reasoning_content": "h"}), ("", {"annotations": [NOTE]})]
    assert short(run(thought, {"content": None, "reasoning_content": "h"})) == "<(rR)>"


def test_text_after_a_call_is_an_item_of_its_own() -> None:
    """An item that has ended does not begin again."""
    pieces: Pieces = [("a", {}), ("", {"tool_calls": [begun(0, "{}")]}), ("b", {})]
    events = run(pieces, {"content": "ab", "tool_calls": [whole(0, "{}")]})
    assert short(events) == "<(tT)><fF><(tT)>"
    ids = [item["id"] for item in events[-1]["response"]["output"]]
    assert len(set(ids)) == 3


def test_an_incomplete_answer_ends_incomplete() -> None:
    """The item that is open at the end says so, and so does the response."""
    events = run([("", {"reasoning_content": "h"}), ("a", {})], {"content": "a"}, "incomplete")
    last = Response.model_validate(events[-1]["response"])
    assert [item.status for item in last.output] == ["completed", "incomplete"]  # type: ignore[union-attr]
    assert last.incomplete_details is not None
    assert last.incomplete_details.reason == "max_output_tokens"
