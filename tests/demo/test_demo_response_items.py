"""The demo's Responses with tools, formats, pictures, reasoning and references to items."""

import json
from functools import partial
from typing import Any

import anyio
import openai
import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import MemoryStore
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.reply import Delta
from hermes_session_mw.openai_api.stored_responses import MAX_REFERENCES
from tests.demo.test_demo import HEADER, ask, stored, user
from tests.demo.test_demo_model import OwnModel, client_of
from tests.demo.test_demo_responses import (
    PATH,
    UNKNOWN,
    K,
    S,
    body_of,
    error_of,
    events_of,
    respond,
    text_of,
)

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALL: Message = {
    "id": "call_1", "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}  # fmt: skip
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."}


class Scripted(OwnModel):
    """Gives one answer after the other."""

    def __init__(self, *answers: list[Delta]) -> None:
        super().__init__()
        self.answers = list(answers)

    async def stream(self, messages: Any, options: Any) -> Any:
        self.deltas = tuple(self.answers.pop(0))
        async for delta in super().stream(messages, options):
            yield delta


def says(text: str) -> list[Delta]:
    return [Delta(text, finish_reason="stop")]


def calls(*calls: Message, text: str = "") -> list[Delta]:
    pieces = [{"index": index, **call} for index, call in enumerate(calls)]
    first = [Delta(text)] if text else []
    return [*first, Delta(fields={"tool_calls": pieces}), Delta(finish_reason="tool_calls")]


def test_a_tool_is_called_over_two_requests(store: MemoryStore, stream: bool) -> None:
    """A call is an item, and its output after the previous response is the next turn."""
    model = Scripted(calls(CALL, text="Let me look."), says("Sunny."))
    with client_of(store, model) as client:
        first = body_of(respond(client, "Weather?", S, tools=[TOOL], stream=stream))
        openai.types.responses.Response.model_validate(first)
        said, call = first["output"]
        assert said["content"][0]["text"] == "Let me look."
        assert (call["call_id"], call["name"]) == ("call_1", "weather")
        assert json.loads(call["arguments"]) == {"city": "Rome"}
        assert first["tools"] == [TOOL]
        second = respond(client, [OUTPUT], previous_response_id=first["id"], stream=stream)
        assert text_of(second) == "Sunny."
        assert client.get(f"{PATH}/{first['id']}").json() == first
    asked, options = model.asked[0]
    assert options["tools"] == [
        {"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}
    ]
    assert [message["role"] for message in model.asked[1][0]] == ["user", "assistant", "tool"]
    assert [message["role"] for message in stored(store, "s")] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert asked == [user("Weather?")]


def test_a_whole_talk_with_tools_is_stored_once(store: MemoryStore, stream: bool) -> None:
    """A client that sends all items each turn, calls and outputs too, has each stored once."""
    answers = [calls(CALL, CALL | {"id": "call_2"}), says("Sunny."), says("You are welcome.")]
    items: list[Any] = [user("Weather?")]
    lengths = []
    with client_of(store, Scripted(*answers)) as client:
        for more in ([OUTPUT, OUTPUT | {"call_id": "call_2"}], [user("Thanks.")], []):
            items += body_of(respond(client, items, S, stream=stream))["output"]
            lengths.append(len(stored(store, "s")))
            items += more
    assert lengths == [2, 5, 7]
    assert len(stored(store, "s")[1]["tool_calls"]) == 2


def test_a_call_that_is_repeated_with_its_output_is_stored_once(store: MemoryStore) -> None:
    """After a previous response a client may send its items again, and only what is new is new."""
    with client_of(store, Scripted(calls(CALL), says("Sunny."), says("Sunny."))) as client:
        first = body_of(respond(client, "Weather?", S))
        again = [*first["output"], OUTPUT]
        for kept in (False, True):
            made = respond(client, again, previous_response_id=first["id"], store=kept)
            assert text_of(made) == "Sunny."
    assert len(stored(store, "s")) == 4


def test_a_question_is_repeated_with_its_call_and_its_output(store: MemoryStore) -> None:
    """A client that goes on from the response before the question sends all that came after it."""
    script = Scripted(says("Hello."), calls(CALL), says("Sunny."))
    with client_of(store, script) as client:
        first = body_of(respond(client, "Hello.", S))["id"]
        question = {"role": "user", "content": "Weather?"}
        called = body_of(respond(client, [question], previous_response_id=first))["output"]
        told = [question, *called, OUTPUT]
        made = respond(client, told, previous_response_id=first)
        assert text_of(made) == "Sunny."
        assert made.headers[HEADER] == "s"  # no fork: nothing else came after that response
    roles = [message["role"] for message in stored(store, "s")]
    assert roles == ["user", "assistant", "user", "assistant", "tool", "assistant"]


def test_outputs_that_answer_no_call_are_refused(store: MemoryStore) -> None:
    """A result whose call nobody made is a 400, and nothing is stored."""
    with client_of(store, Scripted(says("a"), says("b"))) as client:
        respond(client, "a", S)
        assert error_of(respond(client, [OUTPUT], S))[:2] == (400, "input")
    assert len(stored(store, "s")) == 2


def test_a_custom_tool_is_called(store: MemoryStore, stream: bool) -> None:
    """Its call is an item of its own type, with a text as its input."""
    call = {"id": "call_1", "type": "custom", "custom": {"name": "grep", "input": "a+"}}
    model = Scripted(calls(call), says("Found."))
    with client_of(store, model) as client:
        first = body_of(respond(client, "?", S, stream=stream))
        (item,) = first["output"]
        assert (item["type"], item["input"]) == ("custom_tool_call", "a+")
        output = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "1"}
        assert text_of(respond(client, [output], S)) == "Found."
        asked = client.get(f"{PATH}/{first['id']}/input_items").json()["data"]
        assert [each["content"][0]["text"] for each in asked] == ["?"]


def test_a_picture_reaches_the_model(store: MemoryStore) -> None:
    """An image is a part of a chat's message, and comes back as the API's item."""
    model = Scripted(says("A cat."))
    part = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    with client_of(store, model) as client:
        made = body_of(respond(client, [user([part])], S))
        (item,) = client.get(f"{PATH}/{made['id']}/input_items").json()["data"]
    (message,) = model.asked[0][0]
    url = {"url": part["image_url"], "detail": "low"}
    assert message["content"] == [{"type": "image_url", "image_url": url}]
    assert item["content"] == [part]
    openai.types.responses.ResponseInputMessageItem.model_validate(item)


def test_a_format_reaches_the_model(store: MemoryStore) -> None:
    """A schema, the effort and the choice are passed on, and told again."""
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    model = Scripted(says("{}"))
    with client_of(store, model) as client:
        made = body_of(
            respond(
                client, "?", S, text={"format": schema}, reasoning={"effort": "low"},
                tools=[TOOL], tool_choice="required", metadata={"a": "b"},
            )
        )  # fmt: skip
        assert client.get(f"{PATH}/{made['id']}").json() == made
    options = model.asked[0][1]
    assert options["response_format"]["json_schema"]["name"] == "n"
    assert (options["reasoning_effort"], options["tool_choice"]) == ("low", "required")
    assert "metadata" not in options
    assert made["text"]["format"] == schema
    assert (made["tool_choice"], made["metadata"]) == ("required", {"a": "b"})
    assert made["reasoning"]["effort"] == "low"


def test_a_refusal_is_a_refusal(store: MemoryStore, stream: bool) -> None:
    """It is a part of its own, and no empty text."""
    model = Scripted([Delta(fields={"refusal": "I"}), Delta(fields={"refusal": " won't."})])
    with client_of(store, model) as client:
        made = body_of(respond(client, "?", S, stream=stream))
        assert client.get(f"{PATH}/{made['id']}").json() == made
    assert made["output"][0]["content"] == [{"type": "refusal", "refusal": "I won't."}]


def test_reasoning_is_an_item(store: MemoryStore, stream: bool) -> None:
    """What the model reasons is told before its answer, and goes back to it where it came from."""
    thoughts = [Delta(fields={"reasoning_content": "hm"}), Delta(fields={"reasoning_content": "!"})]
    model = Scripted([*thoughts, *calls(CALL)], says("Sunny."))
    with client_of(store, model) as client:
        items: list[Any] = [user("Weather?")]
        items += body_of(respond(client, items, S, stream=stream))["output"]
        thought = items[1]
        assert (thought["type"], thought["content"][0]["text"]) == ("reasoning", "hm!")
        respond(client, [*items, OUTPUT], S, stream=stream)
    assert stored(store, "s")[1]["reasoning_content"] == "hm!"
    assert len(stored(store, "s")) == 4


USAGE = {
    "prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 4},
}  # fmt: skip


def test_usage_is_told_with_its_details(store: MemoryStore, stream: bool) -> None:
    """Cached and reasoning tokens are told, and told again."""
    model = Scripted([Delta("a"), Delta(usage=USAGE, finish_reason="stop")])
    with client_of(store, model) as client:
        made = body_of(respond(client, "?", S, stream=stream))
        assert client.get(f"{PATH}/{made['id']}").json() == made
    assert made["usage"]["input_tokens_details"]["cached_tokens"] == 3
    assert made["usage"]["output_tokens_details"]["reasoning_tokens"] == 4


def test_log_probabilities_are_told(store: MemoryStore, stream: bool) -> None:
    """They are asked for by ``include``, and stand at the text; they are not stored."""
    entry = {"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": None}
    model = Scripted([Delta("a", choice={"logprobs": {"content": [entry]}}), *says("")])
    with client_of(store, model) as client:
        include = ["message.output_text.logprobs"]
        made = body_of(respond(client, "?", S, stream=stream, include=include))
        openai.types.responses.Response.model_validate(made)
        got = client.get(f"{PATH}/{made['id']}").json()
    assert model.asked[0][1] == {"logprobs": True}
    (part,) = made["output"][0]["content"]
    assert part["logprobs"] == [entry | {"bytes": [], "top_logprobs": []}]
    assert got["output"][0]["content"] == [part | {"logprobs": []}]


def test_events_have_no_ids_of_their_own(store: MemoryStore) -> None:
    """A stream has names and data, and no line that would make a client reconnect."""
    with client_of(store, Scripted(says("a"))) as client:
        response = respond(client, "?", S, stream=True)
    assert not any(line.startswith("id:") for line in response.text.splitlines())
    assert [event["sequence_number"] for event in events_of(response)] == list(range(9))


# References to items


def reference(item: Any) -> dict[str, str]:
    return {"type": "item_reference", "id": item["id"]}


@pytest.mark.parametrize("fields", [S, {}], ids=["in the conversation", "without one"])
def test_a_reference_is_the_stored_item(store: MemoryStore, fields: dict[str, str]) -> None:
    """Every item of a response can be referred to, in its conversation or without naming one."""
    model = Scripted(calls(CALL, text="Let me look."), says("Sunny."))
    with client_of(store, model) as client:
        output = body_of(respond(client, "Weather?", fields))["output"]
        items = [user("Weather?"), *map(reference, output), OUTPUT]
        assert text_of(respond(client, items, fields)) == "Sunny."
    assert [message["role"] for message in model.asked[1][0]] == ["user", "assistant", "tool"]
    if fields:
        assert len(stored(store, "s")) == 4


def test_a_reference_to_what_the_chat_stored_is_the_item(store: MemoryStore) -> None:
    """Also messages that no response made have ids, which stay in a fork and after a restart."""
    with client_of(store, Scripted(says("a"), says("b"), says("c"))) as client:
        ask(client, user("Who?"), session_id="s")
        listed = client.get("/v1/conversations/s/items?order=asc").json()["data"]
        first = body_of(respond(client, "And?", S))
    with client_of(store, Scripted(says("d"))) as client:
        items = [*map(reference, listed), user("On?")]
        made = respond(client, items, S)
        assert made.status_code == 200
        asked = client.get(f"{PATH}/{first['id']}/input_items").json()["data"]
        again = client.get("/v1/conversations/s/items?order=asc").json()["data"]
    assert again[:2] == listed
    assert asked == [again[2]]


def test_a_reference_to_nothing_is_a_404(store: MemoryStore) -> None:
    """An id that leads nowhere is refused before anything is stored."""
    with client_of(store, Scripted()) as client:
        for item_id in ("msg_1", "msg_" + UNKNOWN.removeprefix("resp_"), "x"):
            refused = respond(client, [user("a"), {"type": "item_reference", "id": item_id}], S)
            assert error_of(refused) == (404, "input", None)
    assert repr(store) == "<MemoryStore (0 sessions)>"


def made_id(number: int) -> str:
    return f"msg_{number:048x}"


class Counting(MemoryStore):
    """A store that counts its reads."""

    reads = 0

    async def load(self, *args: Any, **options: Any) -> Any:
        """Count the call."""
        self.reads += 1
        return await super().load(*args, **options)

    async def find_turn(self, *args: Any, **options: Any) -> Any:
        """Count the call."""
        self.reads += 1
        return await super().find_turn(*args, **options)

    async def find_key(self, *args: Any, **options: Any) -> Any:
        """Count the call."""
        self.reads += 1
        return await super().find_key(*args, **options)


def test_references_are_read_once_for_each_response() -> None:
    """Neither many items that nobody has nor those of an answer that broke off cost more."""
    store = Counting()
    digits = "a" * 48
    anyio.run(partial(store.append, "s", [user(str(number)) for number in range(50)]))
    anyio.run(store.move_key, f"response:resp_{digits}", "s")
    for ids in map(made_id, range(800)), (f"msg_{digits}{number:02x}" for number in range(200)):
        store.reads = 0
        with client_of(store, Scripted()) as client:
            told = [*({"type": "item_reference", "id": each} for each in ids), user("a")]
            assert error_of(respond(client, told))[:2] == (404, "input")
        assert store.reads <= 5


def test_too_many_references_are_refused(store: MemoryStore) -> None:
    """The limit is named, and nothing is read or stored."""
    told = [{"type": "item_reference", "id": made_id(0)}] * (MAX_REFERENCES + 1)
    with client_of(store, Scripted()) as client:
        refused = respond(client, [*told, user("a")], S)
    assert error_of(refused) == (400, "input", "too_many_references")
    assert str(MAX_REFERENCES) in refused.json()["error"]["message"]
    assert repr(store) == "<MemoryStore (0 sessions)>"


def test_anothers_item_is_a_404(store: MemoryStore) -> None:
    """An item's id leads to it for its owner alone."""
    ada, eve = ({"Authorization": f"Bearer {key}"} for key in ("ada", "eve"))
    with TestClient(create_app(store, keys=["ada", "eve"])) as client:
        (item,) = body_of(respond(client, "a", ada))["output"]
        refused = respond(client, [user("b"), reference(item)], eve)
        assert error_of(refused)[0] == 404
        assert respond(client, [user("b"), reference(item)], ada).status_code == 200


# What the API has and the demo has not


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"include": ["message.other"]}, "include"),
    ],
)
def test_what_is_not_supported_is_a_400(store: MemoryStore, body: Any, param: str) -> None:
    """It is refused by its name, and nothing is stored."""
    with client_of(store, Scripted()) as client:
        assert error_of(respond(client, "a", S, **body)) == (400, param, "unsupported_parameter")
    assert repr(store) == "<MemoryStore (0 sessions)>"


def test_parameters_of_a_response_are_read(store: MemoryStore) -> None:
    """Those of the API are taken, and others refused by name."""
    with client_of(store, Scripted(says("a"))) as client:
        made = body_of(respond(client, "a", S))
        path = f"{PATH}/{made['id']}"
        refused = client.get(path, params={"bogus": "1"})
        assert error_of(refused) == (400, "bogus", "unknown_parameter")
        for params in (
            {"stream": "false"},
            {"include[]": "message.output_text.logprobs"},
            {"include_obfuscation": "false", "starting_after": "1"},
        ):
            assert client.get(path, params=params).json() == made
        assert "there is no such response" in client.get(f"{PATH}/no-id").text


def test_details_that_cannot_be_stored_are_refused_before(store: MemoryStore) -> None:
    """Tools that are larger than a message may be are a 400, and the model is not asked."""
    model = Scripted()
    tool = {"type": "function", "name": "f", "description": "x" * 2_000_000}
    with client_of(store, model) as client:
        assert error_of(respond(client, "a", S, tools=[tool]))[0] in (400, 413)
    assert model.asked == []


# Where the history comes from


def test_a_conversations_name_is_free(store: MemoryStore) -> None:
    """A name that is no session id leads to a conversation of its own, each owner's own."""
    names = ["My trip / 2027", "é" * 300, "a b"]
    with TestClient(create_app(store, keys=["ada", "eve"])) as client:
        ids = set()
        for key in ("ada", "eve"):
            client.headers["Authorization"] = f"Bearer {key}"
            for name in names:
                first = respond(client, "My name is Ada.", conversation=name)
                second = respond(client, "Who am I?", conversation={"id": name})
                assert "I remember 1 earlier message" in text_of(second)
                assert body_of(second)["conversation"] == {"id": second.headers[HEADER]}
                assert first.headers[HEADER] == second.headers[HEADER]
                ids.add(first.headers[HEADER])
                got = client.get(f"/v1/conversations/{first.headers[HEADER]}/items")
                assert len(got.json()["data"]) == 4
        assert len(ids) == 6


def test_a_history_in_the_body_comes_first(store: MemoryStore) -> None:
    """As in Hermes Agent's API it is told before the input, and in place of a previous response."""
    history = [user("My name is Ada."), {"role": "assistant", "content": "Hello."}]
    with TestClient(create_app(store, keys=())) as client:
        told: dict[str, Any] = {"conversation_history": history, "previous_response_id": UNKNOWN}
        made = respond(client, "Who am I?", **told)
        assert text_of(made).endswith("the first was: My name is Ada.")
        assert body_of(made)["previous_response_id"] is None
        refused = respond(client, "a", conversation_history="b")
        assert error_of(refused) == (400, "conversation_history", None)
    assert len(stored(store, made.headers[HEADER])) == 4


def test_truncation_leaves_out_the_oldest(store: MemoryStore) -> None:
    """With auto the model is given the newest hundred messages at most, in whole turns."""
    told = [
        each for n in range(80) for each in (user(f"{n}"), {"role": "assistant", "content": "."})
    ]
    with TestClient(create_app(store, keys=())) as client:
        respond(client, [*told, user("last")], S)
        whole = text_of(respond(client, "?", S, store=False))
        cut = respond(client, "?", S, truncation="auto")
        assert body_of(cut)["truncation"] == "auto"
        brought = [
            respond(client, [*told, user("?")], fields, truncation="auto", **more)
            for fields, more in (({}, {}), ({}, {"store": False}), (S, {"store": False}))
        ]
    assert "I remember 81 earlier messages; the first was: 0" in whole
    for each in (cut, *brought):
        remembered = int(text_of(each).split("remember ")[1].split()[0])
        assert 25 <= remembered <= 50


def test_a_repetition_with_other_tools_is_a_409(store: MemoryStore) -> None:
    """A request that would be answered otherwise is another request."""
    with TestClient(create_app(store, keys=())) as client:
        first = body_of(respond(client, "a", S, K, tools=[TOOL]))
        assert body_of(respond(client, "a", S, K, tools=[TOOL], stream=True)) == first
        assert error_of(respond(client, "a", S, K))[0] == 409


def test_a_repetition_has_its_items_in_their_order(store: MemoryStore, stream: bool) -> None:
    """Reasoning, text and calls are told again as they were told first."""
    thought = Delta(fields={"reasoning_content": "hm"})
    with client_of(store, Scripted([thought, *calls(CALL, text="Let me look.")])) as client:
        first = body_of(respond(client, "a", S, K, stream=not stream))
        again = respond(client, "a", S, K, stream=stream)
        assert body_of(again) == first
    kinds = [item["type"] for item in first["output"]]
    assert kinds == ["reasoning", "message", "function_call"]


def test_a_reference_leads_to_its_item_in_a_fork(store: MemoryStore) -> None:
    """What was said before the fork has the ids that it had."""
    with TestClient(create_app(store, keys=())) as client:
        ask(client, user("a"), session_id="s")
        first = body_of(respond(client, "b", S))
        respond(client, "c", S)
        items = client.get("/v1/conversations/s/items?order=asc").json()["data"][:4]
        fork = respond(client, "d", previous_response_id=first["id"]).headers[HEADER]
        assert fork != "s"
        copied = client.get(f"/v1/conversations/{fork}/items?order=asc").json()["data"]
        assert copied[:4] == items
        made = respond(client, [*map(reference, items), user("e")], {HEADER: fork})
        assert made.status_code == 200


# Items and models


def test_input_items_are_paged(store: MemoryStore) -> None:
    """The request's items are listed as the API lists them."""
    items = [user("a"), {"role": "assistant", "content": "b"}, user("c")]
    with TestClient(create_app(store, keys=())) as client:
        made = body_of(respond(client, items, S))
        path = f"{PATH}/{made['id']}/input_items"
        page = client.get(path, params={"limit": 2}).json()
        openai.types.responses.ResponseItemList.model_validate(page)
        assert [item["content"][0]["text"] for item in page["data"]] == ["c", "b"]
        assert page["has_more"]
        rest = client.get(path, params={"limit": 2, "after": page["last_id"]}).json()
        assert [item["content"][0]["text"] for item in rest["data"]] == ["a"]
        assert error_of(client.get(path, params={"limit": 0}))[:2] == (400, "limit")
        assert error_of(client.get(f"{PATH}/{UNKNOWN}/input_items"))[0] == 404


def test_a_model_is_shown_by_its_name(store: MemoryStore) -> None:
    """One model is as it is listed, and another is a 404 in OpenAI's shape."""
    with TestClient(create_app(store, keys=())) as client:
        (listed,) = client.get("/v1/models").json()["data"]
        assert client.get(f"/v1/models/{listed['id']}").json() == listed
        assert error_of(client.get("/v1/models/a/b")) == (404, "model", "model_not_found")
