"""Ids that lead to items, and pages of items."""

from typing import Any

import pytest

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import (
    answer_items,
    list_of,
    page_of,
    placed_items,
    response_of_item,
)

RESPONSE = "resp_" + "a1" * 24
TALK: list[Message] = [
    {"role": "user", "content": "yes"},
    {
        "role": "assistant", "content": "Well.",
        "reasoning_content": "hm", "metadata": {"response": {"id": RESPONSE}},
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "d", "type": "custom", "custom": {"name": "f", "input": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "1"},
    {"role": "tool", "tool_call_id": "d", "content": "1"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "yes"},
]  # fmt: skip


def ids_of(messages: list[Message]) -> list[str]:
    return [each.item["id"] for each in placed_items(messages)]


def test_every_item_has_an_id_of_its_own() -> None:
    """Also the same text said twice has two ids, each with the API's prefix."""
    ids = ids_of(TALK)
    assert len(set(ids)) == len(ids) == 9
    kinds = ["msg", "rs", "msg", "fc", "ctc", "fco", "ctco", "msg", "msg"]
    assert [item_id.partition("_")[0] for item_id in ids] == kinds
    assert max(map(len, ids)) <= 64  # as in OpenAI's API


def test_a_responses_items_lead_to_it() -> None:
    """Their ids are made of the response's, whether they come from it or from the history."""
    made = [item["id"] for item in answer_items(TALK[1], RESPONSE)]
    assert ids_of(TALK)[1:5] == made
    assert {response_of_item(item_id) for item_id in made} == {RESPONSE}
    assert response_of_item(ids_of(TALK)[0]) is None


def test_ids_stay_when_other_messages_come_and_go() -> None:
    """A fork, a summary of older messages and later turns leave an item's id as it is."""
    ids = ids_of(TALK)
    assert ids_of(TALK[:3]) == ids[:6]
    assert ids_of([*TALK, {"role": "user", "content": "more"}])[:9] == ids
    assert ids_of([{"role": "user", "content": "Summary"}, *TALK[4:]])[1] == ids[7]


ITEMS = [{"id": f"msg_{number}"} for number in range(25)]


@pytest.mark.parametrize(
    ("query", "first", "last", "has_more"),
    [
        ({}, 24, 5, True),
        ({"order": "asc"}, 0, 19, True),
        ({"order": "asc", "after": "msg_19"}, 20, 24, False),
        ({"after": "msg_5"}, 4, 0, False),
        ({"limit": "1", "order": "desc"}, 24, 24, True),
        ({"limit": "100", "include[]": "message.input_image.image_url"}, 24, 0, False),
    ],
)
def test_a_page_is_the_apis(query: dict[str, str], first: int, last: int, has_more: bool) -> None:
    """Newest first unless asked otherwise, twenty unless asked otherwise, and how to go on."""
    page = page_of(ITEMS, query)
    assert (page["first_id"], page["last_id"]) == (f"msg_{first}", f"msg_{last}")
    assert (page["has_more"], page["object"]) == (has_more, "list")
    assert page["data"][0]["id"] == page["first_id"]


@pytest.mark.parametrize(
    "query",
    [
        *({"limit": value} for value in ("0", "101", "-1", "x", "", "1" * 5000, "\u0661")),
        {"order": "up"},
        {"after": "msg_x"},
        {"before": "msg_1"},
    ],
)
def test_a_bad_page_is_refused_by_name(query: dict[str, Any]) -> None:
    """A parameter that is invalid or unknown is named."""
    with pytest.raises(InvalidRequest) as refused:
        page_of(ITEMS, query)
    assert refused.value.param == next(iter(query))


def test_an_empty_list_has_no_ends() -> None:
    """There is no first and no last id, and no more."""
    empty: dict[str, Any] = {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    assert list_of([]) == page_of([], {}) == empty
