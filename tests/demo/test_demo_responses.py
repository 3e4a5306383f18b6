"""The demo's Responses: OpenAI's shapes, on the sessions that the chat uses."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from demo_app import turns
from demo_app.app import create_app
from demo_app.model import EchoModel
from hermes_session_mw import MemoryStore, StoreUnavailable
from tests.asgi.test_middleware import FailingStore
from tests.demo.test_demo import CHAT, FULL, HEADER, FullStore, ask, stored, user
from tests.demo.test_demo_turns import KEY, NAME, PARTIAL, SOURCE, contents, fill, info
from tests.support import json_values

PATH = "/v1/responses"
UNKNOWN = "resp_" + "0" * 48


@pytest.fixture(params=["asyncio", "trio"])
def client(store: MemoryStore, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of the demo."""
    with TestClient(create_app(store, keys=()), backend=request.param) as client:
        yield client


def respond(client: TestClient, given: Any, *fields: dict[str, str], **body: Any) -> Any:
    """Post an input with all of the header fields, and return the HTTP response."""
    headers = {name: value for each in fields for name, value in each.items()}
    return client.post(PATH, json={"input": given, **body}, headers=headers)


def events_of(response: Any) -> list[Any]:
    """Return the events' data, each of which says the type that its event line says."""
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    found = []
    for event in events:
        kind, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return found


def body_of(response: Any) -> Any:
    """Return the response object, from JSON or from the last event."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"] == "application/json":
        return response.json()
    return events_of(response)[-1]["response"]


def text_of(response: Any) -> str:
    """Return the answer's text."""
    return str(body_of(response)["output"][0]["content"][0]["text"])


def error_of(response: Any) -> tuple[int, str | None, str | None]:
    """Return an error's status, param and code; its shape is OpenAI's, and it is stamped."""
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(response.headers.get_list(HEADER)) == 1
    return response.status_code, error["param"], error["code"]


S = {HEADER: "s"}
K = {KEY: "k"}


def test_a_response_has_openais_shape(client: TestClient) -> None:
    """A response has what the SDK's type requires, and is got again as it was given."""
    posted = respond(client, "My name is Ada.", S)
    body = body_of(posted)
    parsed = openai.types.responses.Response.model_validate(body)
    assert (parsed.object, parsed.status, parsed.error) == ("response", "completed", None)
    assert parsed.output_text.startswith("You said: My name is Ada.")
    assert parsed.usage is not None
    assert parsed.usage.input_tokens == 4
    assert parsed.usage.total_tokens == 4 + parsed.usage.output_tokens
    assert parsed.conversation is not None
    assert (parsed.conversation.id, posted.headers[HEADER]) == ("s", "s")
    got = client.get(f"{PATH}/{body['id']}")
    assert (got.json(), got.headers[HEADER]) == (body, "s")
    got = client.get(f"{PATH}/{body['id']}", headers={HEADER: "t"})
    assert (got.json(), got.headers[HEADER]) == (body, "t")


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_repeats_the_requests_numbers(client: TestClient, stream: bool) -> None:
    """A response and its copy repeat temperature, top_p and max_output_tokens, or have null."""
    sent = {"temperature": 0, "top_p": 0.5, "max_output_tokens": 100}
    body = body_of(respond(client, "a", S, K, stream=stream, **sent))
    openai.types.responses.Response.model_validate(body)
    assert {name: body[name] for name in sent} == sent
    assert client.get(f"{PATH}/{body['id']}").json() == body
    assert body_of(respond(client, "a", S, K, stream=not stream, **sent)) == body
    other = body_of(respond(client, "b", S))
    assert {name: other[name] for name in sent} == dict.fromkeys(sent)


EVENT: TypeAdapter[Any] = TypeAdapter(openai.types.responses.ResponseStreamEvent)
EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def test_a_stream_has_openais_events(client: TestClient) -> None:
    """The events come in OpenAI's order, numbered, and their text is what is stored."""
    response = respond(client, "My name is Ada.", S, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response)
    for event in events:
        EVENT.validate_python(event)
    kinds = [event["type"] for event in events]
    assert list(dict.fromkeys(kinds)) == EVENTS
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 5
    assert "".join(deltas) == text_of(response)
    assert events[0]["response"]["status"] == "in_progress"
    assert {event["item_id"] for event in events if "item_id" in event} == {
        body_of(response)["output"][0]["id"]
    }
    assert client.get(f"{PATH}/{body_of(response)['id']}").json() == body_of(response)


@pytest.mark.parametrize("stream", [False, True])
def test_chat_and_responses_share_a_conversation(
    client: TestClient, store: MemoryStore, stream: bool
) -> None:
    """The header names the same conversation for both, and each knows what the other heard."""
    ask(client, user("My name is Ada."), session_id="s")
    response = respond(client, "Who am I?", S, stream=stream)
    assert text_of(response).endswith(
        "I remember 1 earlier message; the first was: My name is Ada."
    )
    again = ask(client, user("And now?"), session_id="s")
    assert "I remember 2 earlier messages" in again.text
    assert contents(store) == ["My name is Ada.", "-", "Who am I?", "-", "And now?", "-"]


def test_a_chats_own_history_may_follow_a_response(client: TestClient, store: MemoryStore) -> None:
    """An answer of Responses is the same message to a chat that tells its history."""
    said = text_of(respond(client, "a", S))
    told = [user("a"), {"role": "assistant", "content": said}, user("b")]
    client.post(CHAT, json={"messages": told}, headers=S | {SOURCE: "request"})
    assert contents(store) == ["a", "-", "b", "-"]


def test_a_response_goes_on_from_the_previous_one(client: TestClient, store: MemoryStore) -> None:
    """The previous response alone names the conversation, and the response tells its id."""
    first = respond(client, "My name is Ada.")
    second = respond(client, "Who am I?", previous_response_id=body_of(first)["id"])
    assert text_of(second).endswith("the first was: My name is Ada.")
    assert second.headers[HEADER] == first.headers[HEADER]
    assert body_of(second)["previous_response_id"] == body_of(first)["id"]
    session_id = first.headers[HEADER]
    assert body_of(second)["conversation"] == {"id": session_id}
    assert len(stored(store, session_id)) == 4
    third = respond(client, "b", {HEADER: session_id}, previous_response_id=body_of(second)["id"])
    assert third.headers[HEADER] == session_id


def test_an_earlier_response_is_gone_on_from_in_a_fork(
    client: TestClient, store: MemoryStore
) -> None:
    """What followed the previous response stays where it is, and the branch has its own id."""
    first = body_of(respond(client, "a", S))
    second = body_of(respond(client, "b", S))
    branch = respond(client, "c", S, previous_response_id=first["id"])
    session_id = branch.headers[HEADER]
    assert session_id != "s"
    assert contents(store) == ["a", "-", "b", "-"]
    assert contents(store, session_id) == ["a", "-", "c", "-"]
    assert client.get(f"{PATH}/{body_of(branch)['id']}").headers[HEADER] == session_id
    on = respond(client, "d", previous_response_id=body_of(branch)["id"], stream=True)
    assert on.headers[HEADER] == session_id
    back = respond(client, "e", previous_response_id=second["id"])
    assert back.headers[HEADER] == "s"
    assert contents(store) == ["a", "-", "b", "-", "e", "-"]


def test_a_response_that_left_the_history_is_not_gone_on_from(
    client: TestClient, store: MemoryStore
) -> None:
    """A response that was regenerated since can be got, but is no previous one any more."""
    first = body_of(respond(client, "a", S))
    respond(client, "b", S, {SOURCE: "request"})
    assert client.get(f"{PATH}/{first['id']}").json() == first
    refused = respond(client, "c", previous_response_id=first["id"])
    assert error_of(refused) == (404, "previous_response_id", "previous_response_not_found")
    assert contents(store) == ["b", "-"]


@pytest.mark.parametrize("conversation", ["s", {"id": "s"}], ids=["text", "object"])
@pytest.mark.parametrize("fields", [{}, S], ids=["alone", "with the header"])
def test_the_body_may_name_the_conversation(
    client: TestClient, store: MemoryStore, conversation: Any, fields: dict[str, str]
) -> None:
    """The conversation's id is the session's, known or not, and is stamped like the header's."""
    for _ in range(2):
        response = respond(client, "a", fields, conversation=conversation)
        assert response.headers[HEADER] == "s"
        assert body_of(response)["conversation"] == {"id": "s"}
    assert contents(store) == ["a", "-", "a", "-"]


def test_a_header_that_disagrees_is_refused(client: TestClient, store: MemoryStore) -> None:
    """Where header and body name different conversations nothing is answered in either."""
    first = body_of(respond(client, "a", S))
    other = {HEADER: "t"}
    for body, param in [
        ({"conversation": "s"}, "conversation"),
        ({"previous_response_id": first["id"]}, "previous_response_id"),
    ]:
        refused = respond(client, "b", other, **body)
        assert error_of(refused) == (400, param, "session_mismatch")
        assert refused.headers[HEADER] == "t"
    assert contents(store) == ["a", "-"]
    assert stored(store, "t") == []


def test_a_session_key_that_disagrees_is_refused() -> None:
    """A conversation that the client's own name leads to is not another that the body names."""
    with TestClient(create_app(MemoryStore(), keys=["k"], session_keys=True)) as client:
        client.headers["Authorization"] = "Bearer k"
        refused = respond(client, "b", {NAME: "work"}, conversation="s")
        assert error_of(refused) == (400, "conversation", "session_mismatch")
        assert respond(client, "b", {NAME: "work"}).status_code == 200


def test_each_key_has_its_own_responses(store: MemoryStore) -> None:
    """Another owner's response is unknown, by whatever request, and as one that never was."""
    ada, eve = ({"Authorization": f"Bearer {key}"} for key in ("ada", "eve"))
    with TestClient(create_app(store, keys=["ada", "eve"])) as client:
        mine = body_of(respond(client, "a", ada, S))["id"]
        for response_id in (mine, UNKNOWN):
            path = f"{PATH}/{response_id}"
            assert error_of(client.get(path, headers=eve)) == (404, None, None)
            assert error_of(client.delete(path, headers=eve)) == (404, None, None)
            refused = respond(client, "b", eve, previous_response_id=response_id)
            assert error_of(refused)[0] == 404
        assert "first message" in text_of(respond(client, "b", eve, S))
        hers = respond(client, "c", eve, conversation="s", store=False)
        assert text_of(hers).endswith("I remember 1 earlier message; the first was: b")
        assert client.get(f"{PATH}/{mine}", headers=ada).status_code == 200


@pytest.mark.parametrize("response_id", [UNKNOWN, "resp_1", "x" * 300, "a b", "..", "%00"])
def test_an_unknown_response_is_a_404(client: TestClient, response_id: str) -> None:
    """What is no response is not there, whatever its id looks like."""
    assert error_of(client.get(f"{PATH}/{response_id}"))[0] == 404
    assert error_of(client.delete(f"{PATH}/{response_id}"))[0] == 404
    refused = respond(client, "a", previous_response_id=response_id)
    assert error_of(refused) == (404, "previous_response_id", "previous_response_not_found")


def test_a_response_is_forgotten_and_not_the_conversation(
    client: TestClient, store: MemoryStore
) -> None:
    """After DELETE the response is a 404, and what was said is still said."""
    response_id = body_of(respond(client, "a", S))["id"]
    path = f"{PATH}/{response_id}"
    deleted = client.delete(path)
    assert deleted.json() == {"id": response_id, "object": "response", "deleted": True}
    assert error_of(client.get(path))[0] == error_of(client.delete(path))[0] == 404
    assert error_of(respond(client, "b", previous_response_id=response_id))[0] == 404
    assert contents(store) == ["a", "-"]
    assert "I remember 1 earlier message;" in text_of(respond(client, "b", S))


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_is_not_stored_leaves_nothing(
    client: TestClient, store: MemoryStore, stream: bool
) -> None:
    """With "store": false the conversation is read, and neither it nor anything else is written."""
    first = body_of(respond(client, "a", S))
    respond(client, "b", S)
    for fields, body, remembered in [
        (S, {}, 2),
        ({}, {"conversation": "s"}, 2),
        ({}, {"previous_response_id": first["id"]}, 1),
    ]:
        response = respond(client, "c", fields, store=False, stream=stream, **body)
        assert f"I remember {remembered} earlier message" in text_of(response)
        assert (body_of(response)["store"], response.headers[HEADER]) == (False, "s")
        assert error_of(client.get(f"{PATH}/{body_of(response)['id']}"))[0] == 404
    alone = respond(client, "c", store=False, stream=stream)
    assert "first message" in text_of(alone)
    assert contents(store) == ["a", "-", "b", "-"]
    assert repr(store) == "<MemoryStore (1 sessions)>"


def test_instructions_and_system_messages_are_never_stored(
    client: TestClient, store: MemoryStore
) -> None:
    """They belong to the response that they were given for."""
    system = {"role": "developer", "content": "Be brief."}
    response = respond(client, [system, user("a")], S, instructions="Be kind.")
    assert body_of(response)["instructions"] == "Be kind."
    assert body_of(response)["usage"]["input_tokens"] == 5
    assert contents(store) == ["a", "-"]


def test_an_input_may_be_items(client: TestClient, store: MemoryStore) -> None:
    """Messages of an input are stored as the chat has them, a single text as a text."""
    items = [
        user([{"type": "input_text", "text": "My name is Ada."}]),
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi, Ada.", "annotations": []}],
        },
        {"type": "message", **user("Who am I?")},
    ]
    response = respond(client, items, S)
    assert text_of(response).endswith(
        "I remember 1 earlier message; the first was: My name is Ada."
    )
    first, second, third, _ = stored(store, "s")
    assert first == user("My name is Ada.")
    assert second["content"] == "Hi, Ada."
    assert third == user("Who am I?")
    assert info(store).title == "My name is Ada."


def test_an_inputs_history_may_count(client: TestClient, store: MemoryStore) -> None:
    """The history's source means for an input what it means for a chat's messages."""
    said = text_of(respond(client, "a", S))
    respond(client, "b", S)
    answer = {"role": "assistant", "content": said}
    respond(client, [user("a"), answer, user("B")], S, {SOURCE: "request"})
    assert contents(store) == ["a", "-", "B", "-"]
    told = respond(client, [user("a"), answer, user("x")], S, {SOURCE: "request"}, store=False)
    assert "I remember 1 earlier message;" in text_of(told)


BAD: dict[str, Any] = {
    "nothing": {},
    "input null": {"input": None},
    "input a number": {"input": 1},
    "input empty": {"input": []},
    "an item of text": {"input": ["a"]},
    "an item of another kind": {"input": [{"type": "function_call_output", "output": "a"}]},
    "no role": {"input": [{"content": "a"}]},
    "another role": {"input": [{"role": "tool", "content": "a"}]},
    "role a list": {"input": [{"role": [], "content": "a"}]},
    "no content": {"input": [{"role": "user"}]},
    "a part of text": {"input": [user(["a"])]},
    "an image's file": {"input": [user([{"type": "input_image", "file_id": "file_1"}])]},
    "a part without text": {"input": [user([{"type": "input_text"}])]},
    "no user": {"input": [{"role": "assistant", "content": "a"}]},
    "lone surrogate": {"input": "\ud800"},
    "previous a number": {"input": "a", "previous_response_id": 1},
    "conversation a number": {"input": "a", "conversation": 1},
    "conversation without id": {"input": "a", "conversation": {}},
    "conversation no id": {"input": "a", "conversation": "a b"},
    "both": {"input": "a", "conversation": "s", "previous_response_id": UNKNOWN},
    "store a string": {"input": "a", "store": "no"},
    "stream a string": {"input": "a", "stream": "yes"},
    "instructions a list": {"input": "a", "instructions": []},
    "instructions with a lone surrogate": {"input": "a", "instructions": "\ud800"},
    "model a number": {"input": "a", "model": 1},
    "temperature a text": {"input": "a", "temperature": "hot"},
    "top_p a bool": {"input": "a", "top_p": True},
    "max_output_tokens a list": {"input": "a", "max_output_tokens": [1]},
    "model with a lone surrogate": {"input": "a", "model": "\ud800"},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_body_is_a_400_and_stores_nothing(
    client: TestClient, store: MemoryStore, body: Any
) -> None:
    """What cannot be answered is refused in OpenAI's error shape, stamped, and not stored."""
    response = client.post(PATH, content=json.dumps(body), headers=S)
    assert error_of(response)[0] == 400
    assert repr(store) == "<MemoryStore (0 sessions)>"


VALUES = st.one_of(st.text(st.sampled_from("a\0\ud800")), st.booleans(), json_values.values)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"])},
        optional={"type": VALUES, "content": VALUES},
    )
)
NAMES = [
    "temperature",
    "model",
    "instructions",
    "previous_response_id",
    "conversation",
    "store",
    "stream",
    *("tools", "tool_choice", "text", "reasoning", "metadata", "include", "truncation"),
    "conversation_history",
]


# One field at a time: a body that is wrong in all of them is refused for the first.
@pytest.mark.parametrize("name", ["input", *NAMES])
@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_body_is_answered(name: str, data: st.DataObject) -> None:
    """Whatever a field holds, the answer is a 200, a 400 or a 404, and stamped."""
    value = data.draw(st.one_of(VALUES, ITEMS) if name == "input" else VALUES)
    client = TestClient(create_app(MemoryStore(), keys=()))
    response = client.post(PATH, content=json.dumps({"input": "a", name: value}))
    assert response.status_code in (200, 400, 404)
    assert len(response.headers.get_list(HEADER)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_request_is_answered_again(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Under its Idempotency-Key a request gets the same response, and the model is not asked."""
    first = body_of(respond(client, "a", S, K, stream=not stream))
    respond(client, "b", S)
    monkeypatch.setattr(EchoModel, "stream", None)
    again = respond(client, "a", S, K, stream=stream)
    assert body_of(again) == first
    assert again.headers["Idempotency-Replayed"] == "true"
    for text, more in ("x", {}), ("a", {"instructions": "Be brief."}), ("a", {"model": "another"}):
        refused = respond(client, text, S, K, **more)
        assert error_of(refused)[::2] == (409, "idempotency_key_reused")
    assert contents(store) == ["a", "-", "b", "-"]
    client.delete(f"{PATH}/{first['id']}")
    assert body_of(respond(client, "a", S, K)) == first
    assert client.get(f"{PATH}/{first['id']}").status_code == 404


def test_what_is_not_stored_has_an_id_of_its_own(client: TestClient, store: MemoryStore) -> None:
    """With "store": false an Idempotency-Key names nothing, least of all what it named before."""
    kept = body_of(respond(client, "a", S, K))
    ids = {body_of(respond(client, text, S, K, store=False))["id"] for text in "ab"}
    assert len({kept["id"], *ids}) == 3
    assert body_of(client.get(f"{PATH}/{kept['id']}")) == kept
    assert contents(store) == ["a", "-"]


def test_a_repetition_finds_its_fork(client: TestClient, store: MemoryStore) -> None:
    """A request that forked is answered again from its fork, and forks no second time."""
    first = body_of(respond(client, "a", S))
    respond(client, "b", S)
    branch = respond(client, "c", K, previous_response_id=first["id"])
    again = respond(client, "c", K, previous_response_id=first["id"])
    assert body_of(again) == body_of(branch)
    assert again.headers[HEADER] == branch.headers[HEADER]
    assert len(store._sessions) == 2
    other = respond(client, "c", K, previous_response_id=body_of(branch)["id"])
    assert other.headers[HEADER] == branch.headers[HEADER]
    assert body_of(other)["id"] != body_of(branch)["id"]  # the key is the conversation's
    refused = respond(client, "c", S, K)
    assert error_of(refused)[::2] == (409, "idempotency_key_reused")


def rotated(client: TestClient, session_id: str) -> str:
    """Give a session another id, and return it."""
    return client.post("/v1/session/rotate", headers={HEADER: session_id}).headers[HEADER]


def test_a_repetition_is_found_after_a_rotation(client: TestClient, store: MemoryStore) -> None:
    """The key leads to its turn, and so does the response's id; in another session it does not."""
    first = respond(client, "a", S, K)
    moved = rotated(client, "s")
    again = respond(client, "a", {HEADER: moved}, K)
    now = body_of(first) | {"conversation": {"id": moved}}
    assert body_of(again) == now
    assert again.headers["Idempotency-Replayed"] == "true"
    assert body_of(client.get(f"{PATH}/{body_of(first)['id']}")) == now
    other = respond(client, "b", {HEADER: "t"}, K)
    assert body_of(other)["id"] != body_of(first)["id"]
    assert error_of(respond(client, "b", {HEADER: moved}, K))[0] == 409
    assert contents(store, moved) == ["a", "-"]


def test_a_fork_is_found_after_a_rotation(client: TestClient, store: MemoryStore) -> None:
    """A repetition finds its fork by the response that it goes on from."""
    first = body_of(respond(client, "a", S))
    respond(client, "b", S)
    branch = respond(client, "c", K, previous_response_id=first["id"])
    ids = rotated(client, "s"), rotated(client, branch.headers[HEADER])
    again = respond(client, "c", K, previous_response_id=first["id"])
    now = body_of(branch) | {"conversation": {"id": ids[1]}}
    assert body_of(again) == now
    assert body_of(client.get(f"{PATH}/{body_of(branch)['id']}")) == now
    second = respond(client, "d", K, previous_response_id=first["id"])
    assert error_of(second)[::2] == (409, "idempotency_key_reused")
    assert len(store._sessions) == 4  # with the two ids that nothing is found under any more
    assert [contents(store, each) for each in ids] == [["a", "-", "b", "-"], ["a", "-", "c", "-"]]


def test_a_fork_is_found_after_its_response_was_deleted(
    client: TestClient, store: MemoryStore
) -> None:
    """The turn is still there, and forks no second time."""
    first = body_of(respond(client, "a", S))
    respond(client, "b", S)
    branch = body_of(respond(client, "c", K, previous_response_id=first["id"]))
    client.delete(f"{PATH}/{branch['id']}")
    assert body_of(respond(client, "c", K, previous_response_id=first["id"])) == branch
    assert len(store._sessions) == 2


def test_a_repetition_outlives_what_it_went_on_from(client: TestClient, store: MemoryStore) -> None:
    """A response is given again though the previous one has left the history since."""
    first = body_of(respond(client, "a", S))
    second = respond(client, "b", S, K, previous_response_id=first["id"])
    respond(client, "x", S, {SOURCE: "request"})
    again = respond(client, "b", S, K, previous_response_id=first["id"])
    assert body_of(again) == body_of(second)
    assert contents(store) == ["x", "-"]


def test_a_repetition_goes_on_from_what_broke_off_in_a_fork(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork whose answer broke off is used again, and nothing is doubled in it."""
    first = body_of(respond(client, "a", S))
    respond(client, "b", S)
    with monkeypatch.context() as patched:
        patched.setattr(EchoModel, "stream", None)
        with pytest.raises(TypeError):
            respond(client, "c", K, previous_response_id=first["id"])
    (fork,) = (session_id for _, session_id in store._sessions if session_id != "s")
    fill(store, user("c"), PARTIAL, session_id=fork)
    again = respond(client, "c", K, previous_response_id=first["id"])
    assert again.headers[HEADER] == fork
    assert contents(store, fork) == ["a", "-", "c", "-"]


def test_a_retry_of_what_broke_off_forks_nothing(client: TestClient, store: MemoryStore) -> None:
    """What broke off after the previous response gives way to the same question, not to others."""
    first = body_of(respond(client, "a", S))
    fill(store, user("b"), PARTIAL)
    again = respond(client, "b", previous_response_id=first["id"])
    assert again.headers[HEADER] == "s"
    assert contents(store) == ["a", "-", "b", "-"]
    fill(store, user("c"))
    respond(client, "c", S)
    assert contents(store) == ["a", "-", "b", "-", "c", "-"]


def test_keys_of_chat_and_responses_do_not_meet(client: TestClient, store: MemoryStore) -> None:
    """The same key names one request of each."""
    client.post(CHAT, json={"messages": [user("a")]}, headers=S | K)
    respond(client, "b", S, K)
    assert contents(store) == ["a", "-", "b", "-"]


def test_a_turn_of_the_chats_is_no_trap(client: TestClient, store: MemoryStore) -> None:
    """A chat whose Idempotency-Key is a response's id does not break the response."""
    first = body_of(respond(client, "a", S, K))
    client.post(CHAT, json={"messages": [user("b")]}, headers={HEADER: "t", KEY: first["id"]})

    async def bind() -> None:
        await store.move_key(f"\u00a7response:{first['id']}", "t")

    anyio.run(bind)
    got = client.get(f"{PATH}/{first['id']}")
    assert "You said: b" in text_of(got)
    assert body_of(got)["created_at"] == 0


def test_a_key_of_a_clients_is_no_response() -> None:
    """A client's key that looks like a response's names a conversation of its own."""
    with TestClient(create_app(MemoryStore(), keys=["k"], session_keys=True)) as client:
        client.headers["Authorization"] = "Bearer k"
        first = respond(client, "a")
        response_id = body_of(first)["id"]
        named = {NAME: f"response:{response_id}"}
        said = client.post(CHAT, json={"messages": [user("b")]}, headers=named)
        assert said.headers[HEADER] != first.headers[HEADER]
        assert client.get(f"{PATH}/{response_id}").json() == body_of(first)
        assert client.delete(f"{PATH}/{response_id}").status_code == 200
        again = client.post(CHAT, json={"messages": [user("c")]}, headers=named)
        assert again.headers[HEADER] == said.headers[HEADER]
        assert error_of(client.get(f"{PATH}/{response_id}"))[0] == 404


def test_a_response_of_an_earlier_version_is_found(client: TestClient, store: MemoryStore) -> None:
    """Its key is one that a client could have; it is read, and dropped with the response."""
    response_id = body_of(respond(client, "a", S))["id"]
    key, old = f"\u00a7response:{response_id}", f"response:{response_id}"
    assert anyio.run(store.drop_key, key)
    anyio.run(store.move_key, old, "s")
    assert client.get(f"{PATH}/{response_id}").json()["id"] == response_id
    followed = respond(client, "b", previous_response_id=response_id)
    assert followed.headers[HEADER] == "s"
    assert client.delete(f"{PATH}/{response_id}").status_code == 200
    assert anyio.run(store.find_key, old) is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_busy_conversation_is_a_409(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """A response waits for the chat's turn as for another response's."""
    monkeypatch.setattr(turns, "WAIT", 0)
    anyio.run(store.acquire, "s", 30)
    refused = respond(client, "a", S, stream=stream)
    assert error_of(refused)[::2] == (409, "session_busy")
    assert int(refused.headers["retry-after"]) > 1


@pytest.mark.parametrize("is_broken", [True, False])
@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_was_not_stored_is_not_given_as_whole(
    stream: bool, is_broken: bool
) -> None:
    """It is an error if its question cannot be stored, and has failed if its end cannot."""
    store = FullStore(FULL, is_broken=is_broken)
    with TestClient(create_app(store, keys=())) as client:
        response = respond(client, "a", S, stream=stream)
    if is_broken or not stream:
        assert error_of(response)[0] == 503
    else:
        last = events_of(response)[-1]
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["response"]["error"] == {"code": "server_error", "message": "the disk is full"}


def test_a_store_that_fails_is_a_503() -> None:
    """Where nobody knows what a response is, it is not said to be unknown."""

    class Keyless(MemoryStore):
        async def find_key(self, key: str, owner: str = "") -> str | None:
            raise StoreUnavailable("gone")

    client = TestClient(create_app(Keyless(), keys=()))
    assert error_of(client.get(f"{PATH}/{UNKNOWN}"))[0] == 503
    assert error_of(respond(client, "a", previous_response_id=UNKNOWN))[0] == 503


def test_an_unreadable_history_is_not_forked() -> None:
    """Where the history cannot be read nobody knows whether the previous response is its end."""
    store = FailingStore(None)
    with TestClient(create_app(store, keys=())) as client:
        first = body_of(respond(client, "a", S))
        store.failure = StoreUnavailable("gone")
        for kept in (True, False):
            refused = respond(client, "b", previous_response_id=first["id"], store=kept)
            assert error_of(refused)[0] == 503
        assert len(store._sessions) == 1


def test_a_long_conversation_is_summarised(store: MemoryStore) -> None:
    """Responses keep a conversation as short as the chat does."""
    with TestClient(create_app(store, keys=(), compact_at=10)) as client:
        for number in range(6):
            last = body_of(respond(client, f"message {number}", S))
        respond(client, "more", previous_response_id=last["id"])
    assert contents(store)[0].startswith("Summary of 2 earlier messages")


def test_a_key_is_of_one_api(client: TestClient, store: MemoryStore) -> None:
    """The chat and Responses have keys of their own: under one key each stores its turn."""
    for _ in range(2):
        headers = {**S, **K}
        assert client.post(CHAT, json={"messages": [user("a")]}, headers=headers).status_code == 200
        assert respond(client, "b", S, K).status_code == 200
    assert [message["content"] for message in stored(store, "s")[::2]] == ["a", "b"]
