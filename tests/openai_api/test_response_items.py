"""Items of the Responses API, and the messages that they are."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import response_items
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import placed_items
from hermes_session_mw.openai_api.response_items import (
    flat_annotation,
    input_items,
    items_of,
    logprobs_of,
    messages_of,
    nested_annotation,
    with_references,
    without_last_item,
)
from hermes_session_mw.session.new_messages import is_same
from tests.support import json_values

Item = dict[str, Any]

CALL: Item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
ITEMS: dict[str, Item] = {
    "u": {"type": "message", "role": "user", "content": "q"},
    "s": {"type": "message", "role": "system", "content": "s"},
    "a": {"type": "message", "role": "assistant", "content": "a"},
    "r": {
        "type": "reasoning", "id": "rs_1", "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    },
    "f": CALL,
    "o": {"type": "function_call_output", "call_id": "c", "output": "1"},
}  # fmt: skip
TABLE = re.findall(
    r"^    ([uasrfo]+) +(\[[\]\[ uasrfo]+\])", response_items.__doc__ or "", flags=re.MULTILINE
)


def letters_of(message: Message) -> str:
    """Return which items a message was made of."""
    if message["role"] != "assistant":
        return {"user": "u", "system": "s", "tool": "o"}[message["role"]]
    calls = message.get("tool_calls", [])
    return (
        ("r" if message.get("reasoning_content") else "")
        + ("a" if message["content"] else "")
        + "f" * len(calls)
    )


@pytest.mark.parametrize(("items", "messages"), TABLE)
def test_items_are_messages_as_the_table_says(items: str, messages: str) -> None:
    """Calls and reasoning join the answer that they belong to."""
    made = messages_of([ITEMS[letter] for letter in items])
    assert " ".join(f"[{letters_of(message)}]" for message in made) == messages.strip()


def test_the_table_is_read() -> None:
    """The module's head has as many cases as are tried."""
    assert len(TABLE) == 10


CHAT_CALL: Message = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ENCRYPTED: Item = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
KINDS: dict[str, tuple[Item, Message]] = {
    "a message without a type": (
        {"role": "user", "content": "a"},
        {"role": "user", "content": "a"},
    ),
    "a developer's": (
        {"role": "developer", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "developer", "content": "a"},
    ),
    "several texts": (
        {"role": "user", "content": [{"type": "input_text", "text": text} for text in "ab"]},
        {"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]},
    ),
    "a text with more": (
        {"role": "user", "content": [{"type": "input_text", "text": "a", "x": 1}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]},
    ),
    "a picture": (
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
    ),
    "a picture with its detail": (
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "u", "detail": "low", "file_id": None}
            ],
        },
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}],
        },
    ),
    "a file": (
        {"role": "user", "content": [{"type": "input_file", "file_data": "d", "filename": "f"}]},
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": "d", "filename": "f"}}],
        },
    ),
    "audio": (
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "d"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "d"}}]},
    ),
    "a refusal": (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ),
    "an annotation": (
        {
            "role": "assistant",
            "content": [
                {
                    "type": "output_text", "text": "a", "logprobs": [],
                    "annotations": [{"type": "url_citation", "url": "u"}],
                }
            ],
        },
        {
            "role": "assistant", "content": "a",
            "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}],
        },
    ),
    "a call": (
        CALL | {"id": "fc_1", "status": "completed", "namespace": None},
        {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
    ),
    "a call with a provider's extra": (
        CALL | {"extra_content": {"google": {"thought_signature": "x"}}},
        {
            "role": "assistant", "content": None,
            "tool_calls": [CHAT_CALL | {"extra_content": {"google": {"thought_signature": "x"}}}],
        },
    ),
    "a custom call": (
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
        {
            "role": "assistant", "content": None,
            "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}],
        },
    ),
    "an output": (
        {"type": "function_call_output", "call_id": "c", "output": "1", "id": "fco_1"},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ),
    "an output of parts": (
        {
            "type": "function_call_output", "call_id": "c",
            "output": [{"type": "input_text", "text": "1"}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ),
    "a custom call's output": (
        {"type": "custom_tool_call_output", "call_id": "c", "output": "1"},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ),
    "encrypted reasoning": (
        ENCRYPTED,
        {"role": "assistant", "content": None, "codex_reasoning_items": [ENCRYPTED]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("item", "message"), KINDS.values(), ids=KINDS.keys())
def test_each_kind_of_item_is_a_message(item: Item, message: Message) -> None:
    """An item is converted, with what a provider has added to it."""
    assert messages_of([item]) == [message]


BAD: dict[str, tuple[Any, str, str | None]] = {
    "a text": ("a", "input[0]", None),
    "a number": (1, "input[0]", None),
    "a hosted tool's call": (
        {"type": "computer_call", "id": "x"}, "input[0].type", "unsupported_parameter",
    ),
    "a type that is no text": (
        {"type": [], "role": "user"}, "input[0].type", "unsupported_parameter",
    ),
    "no role": ({"type": "message", "content": "a"}, "input[0].role", None),
    "a tool's role": ({"role": "tool", "content": "a"}, "input[0].role", None),
    "no content": ({"role": "user"}, "input[0].content", None),
    "a part of text": ({"role": "user", "content": ["a"]}, "input[0].content[0]", None),
    "an unknown part": (
        {"role": "user", "content": [{"type": "input_video"}]},
        "input[0].content[0].type", "unsupported_parameter",
    ),
    "a file's id": (
        {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
        "input[0].content[0].file_id", "unsupported_parameter",
    ),
    "a file's address": (
        {"role": "user", "content": [{"type": "input_file", "file_url": "u"}]},
        "input[0].content[0].file_url", "unsupported_parameter",
    ),
    "an empty file": (
        {"role": "user", "content": [{"type": "input_file"}]},
        "input[0].content[0].file_data", None,
    ),
    "no picture": (
        {"role": "user", "content": [{"type": "input_image"}]},
        "input[0].content[0].image_url", None,
    ),
    "a call without a name": (
        {"type": "function_call", "call_id": "c", "arguments": ""}, "input[0].name", None,
    ),
    "arguments as an object": (CALL | {"arguments": {}}, "input[0].arguments", None),
    "an output without its call": (
        {"type": "function_call_output", "output": "1"}, "input[0].call_id", None,
    ),
    "an output without a value": (
        {"type": "function_call_output", "call_id": "c"}, "input[0].output", None,
    ),
    "reasoning of numbers": (
        {"type": "reasoning", "summary": [], "content": [1]}, "input[0].content", None,
    ),
    "a reference without an id": ({"type": "item_reference"}, "input[0].id", None),
}  # fmt: skip


@pytest.mark.parametrize(("item", "param", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_item_is_refused_by_name(item: Any, param: str, code: str | None) -> None:
    """The error names the field, and the type that is not supported."""
    with pytest.raises(InvalidRequest) as refused:
        messages_of(input_items([item]))
    assert (refused.value.param, refused.value.code, refused.value.status) == (param, code, 400)


def test_references_are_replaced_by_their_items() -> None:
    """A reference may leave out its type, and one to nothing is a 404."""
    items = [{"type": "item_reference", "id": "a"}, {"id": "a"}, ITEMS["u"]]
    assert with_references(items, {"a": ITEMS["a"]}) == [ITEMS["a"], ITEMS["a"], ITEMS["u"]]
    with pytest.raises(InvalidRequest) as refused:
        with_references(items, {})
    assert (refused.value.param, refused.value.status) == ("input", 404)


STORED: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "a"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "b"},
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
            {"type": "file", "file": {"file_data": "d"}},
        ],
    },
    {"role": "assistant", "content": "c"},
    {"role": "assistant", "content": None, "refusal": "No."},
    {
        "role": "assistant", "content": "Let me look.", "reasoning_content": "hm",
        "tool_calls": [
            CHAT_CALL | {"extra_content": {"google": {"thought_signature": "x"}}},
            {"id": "d", "type": "custom", "custom": {"name": "f", "input": "x"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "1"},
    {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "2"}]},
    {"role": "assistant", "content": "", "codex_reasoning_items": [ENCRYPTED]},
]  # fmt: skip


def test_what_is_stored_comes_back_as_it_was() -> None:
    """Messages that are told as items and told back are the same messages."""
    items = [each.item for each in placed_items(STORED)]
    back = messages_of(items)
    assert all(map(is_same, back, STORED))
    assert len(back) == len(STORED)
    assert back[5]["tool_calls"] == STORED[5]["tool_calls"]
    assert back[5]["reasoning_content"] == "hm"
    assert back[8]["codex_reasoning_items"][0]["encrypted_content"] == "x"
    assert items[-2]["type"] == "custom_tool_call_output"


KEYS = (
    *("role", "content", "tool_calls", "function_call", "refusal", "annotations"),
    *("metadata", "reasoning_content", "codex_reasoning_items", "tool_call_id"),
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, json_values.values)))
def test_any_stored_message_has_items(message: Message) -> None:
    """Whatever a store holds is told, each item with an id, a type and a status."""
    for each in placed_items([message]):
        assert {"id", "type", "status"} <= each.item.keys()
        json.dumps(each.item)


@given(st.lists(json_values.values))
def test_any_items_are_messages_or_refused(items: list[Any]) -> None:
    """Whatever an input holds, it is messages or a refusal that names the field."""
    param: str | None = "input"
    try:
        messages_of(input_items(items))
    except InvalidRequest as exc:
        param = exc.param
    assert str(param).startswith("input")


def test_an_older_function_call_is_an_item() -> None:
    """The call of the older API has no id: its name stands for it."""
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": 1}}
    (item,) = items_of(message, lambda _: "fc_1")
    assert (item["call_id"], item["name"], item["arguments"]) == ("f", "f", "1")
    result = {"role": "function", "name": "f", "content": "2"}
    (output,) = items_of(result, lambda _: "fco_1")
    assert (output["call_id"], output["output"]) == ("f", "2")


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"role": "assistant", "content": "a"}, "completed"),
        ({"role": "assistant", "content": "a", "status": "incomplete"}, "incomplete"),
        ({"role": "assistant", "content": "a", "finish_reason": "length"}, "incomplete"),
    ],
)
def test_an_answer_that_ended_early_is_incomplete(message: Message, status: str) -> None:
    """An item says whether its answer is whole."""
    assert [item["status"] for item in items_of(message, lambda _: "m")] == [status]


def test_items_are_taken_off_the_end_one_by_one() -> None:
    """An answer without its last item is the answer that was before it, down to nothing."""
    message: Message | None = STORED[5]
    kinds = []
    while message is not None:
        kinds.append([item["type"] for item in items_of(message, lambda _: "m")])
        message = without_last_item(message)
    whole = ["reasoning", "message", "function_call", "custom_tool_call"]
    assert kinds == [whole[:count] for count in (4, 3, 2, 1)]
    assert without_last_item({"role": "user", "content": "a"}) is None


@given(json_values.values)
def test_annotations_survive_both_ways(value: Any) -> None:
    """What is no annotation is left as it is, and one comes back as it was."""
    note = {"type": "url_citation", "url": "u", "start_index": 1}
    assert flat_annotation(nested_annotation(note)) == note
    assert nested_annotation(nested_annotation(note)) == nested_annotation(note)
    flat_annotation(value)
    nested_annotation(value)


ENTRIES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("token", "bytes", "top_logprobs"), json_values.values)
)


@given(json_values.values | st.fixed_dictionaries({"content": st.lists(ENTRIES)}))
def test_any_log_probabilities_are_told(logprobs: Any) -> None:
    """Whatever a provider sends, each entry has the two lists that the SDKs' types require."""
    for entry in logprobs_of({"logprobs": logprobs}):
        for each in (entry, *entry["top_logprobs"]):
            assert isinstance(each["bytes"], list)
