"""OpenAI's conversations, on the sessions that the chat and Responses use."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import openai
import pytest
from openai.types import conversations
from starlette.applications import Starlette
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import (
    ConfigurationError,
    HermesSessionMiddleware,
    MemoryStore,
    SQLAlchemyStore,
    StoreUnavailable,
)
from hermes_session_mw.asgi.headers import TURN_HEADER
from hermes_session_mw.openai_api.conversations import (
    conversation_routes,
    conversation_session_id,
)
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from tests.demo.test_demo import HEADER, ask, stored, user
from tests.demo.test_demo_responses import S, body_of, error_of, respond, text_of

PATH = "/v1/conversations"


@pytest.fixture(params=["asyncio", "trio"])
def client(store: MemoryStore, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of the demo."""
    with TestClient(create_app(store, keys=()), backend=request.param) as client:
        yield client


def create(client: TestClient, *items: Any, **fields: Any) -> Any:
    """Create a conversation, and return it as the SDK's type has it."""
    made = client.post(PATH, json={"items": list(items)} | fields)
    assert made.status_code == 200, made.text
    conversation = conversations.Conversation.model_validate(made.json())
    assert made.headers[HEADER] == conversation.id
    return conversation


def add(client: TestClient, conversation_id: str, *items: Any) -> list[Any]:
    """Add items, and return them as they were stored."""
    added = client.post(f"{PATH}/{conversation_id}/items", json={"items": list(items)})
    assert added.status_code == 200, added.text
    return list(added.json()["data"])


def items_of(client: TestClient, conversation_id: str) -> list[Any]:
    """Return the conversation's items, oldest first, which are those of the SDK's types."""
    got = client.get(f"{PATH}/{conversation_id}/items?order=asc&limit=100")
    assert got.status_code == 200, got.text
    if got.json()["data"]:
        conversations.ConversationItemList.model_validate(got.json())
    return list(got.json()["data"])


def texts_of(items: list[Any]) -> list[str]:
    """Return the texts of messages."""
    return [item["content"][0]["text"] for item in items]


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "1"}
REASONING = {
    "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}],
}  # fmt: skip
SAID = {"role": "assistant", "content": "Well."}


def test_a_conversation_is_created_and_found(client: TestClient) -> None:
    """Also without items it is there, with its metadata, and the same each time."""
    made = create(client)
    assert made.metadata == {}
    assert client.get(f"{PATH}/{made.id}").json() == made.model_dump()
    assert items_of(client, made.id) == []
    tagged = create(client, user("a"), metadata={"topic": "x"})
    assert client.get(f"{PATH}/{tagged.id}").json()["metadata"] == {"topic": "x"}
    assert texts_of(items_of(client, tagged.id)) == ["a"]
    bare = client.post(PATH).json()
    assert bare["object"] == "conversation"


def test_metadata_is_replaced(client: TestClient) -> None:
    """An update gives the metadata that it has, also to a conversation that the chat began."""
    ask(client, user("a"), session_id="s")
    for metadata in ({"a": "b"}, {"c": "d"}, {}):
        updated = client.post(f"{PATH}/s", json={"metadata": metadata}).json()
        assert updated["metadata"] == metadata
        assert client.get(f"{PATH}/s").json() == updated
    assert client.post(f"{PATH}/s", json={"metadata": None}).json()["metadata"] == {}
    assert error_of(client.post(f"{PATH}/s", json={}))[:2] == (400, "metadata")
    assert error_of(client.post(f"{PATH}/s", json={"metadata": {"a": 1}}))[:2] == (400, "metadata")


class Racing(MemoryStore):
    """A store in which an application counts whenever the metadata was read, three times."""

    async def find_metadata(self, session_id: str, owner: str = "") -> dict[str, Any] | None:
        found = await super().find_metadata(session_id, owner)
        number = (found or {}).get("state", {}).get("n", 0)
        if number < 3:
            state = {"state": {"n": number + 1}}
            await self.set_metadata(session_id, {**(found or {}), **state}, owner)
        return found


def test_metadata_of_the_application_is_not_the_clients() -> None:
    """What is no text, as an agent framework's state, is neither shown nor replaced."""
    store = Racing()
    with TestClient(create_app(store, keys=())) as client:
        ask(client, user("a"), session_id="s")
        updated = client.post(f"{PATH}/s", json={"metadata": {"a": "b", "state": "mine"}}).json()
        assert updated["metadata"] == {"a": "b"}
        assert client.get(f"{PATH}/s").json() == updated
    assert anyio.run(store.find_metadata, "s") == {"a": "b", "state": {"n": 3}}


def test_what_the_chat_began_is_a_conversation(client: TestClient) -> None:
    """Its messages are items, and its id is the session's."""
    ask(client, user("My name is Ada."), session_id="s")
    got = client.get(f"{PATH}/s").json()
    conversations.Conversation.model_validate(got)
    assert got["created_at"] > 0
    question, answer = items_of(client, "s")
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert client.get(f"{PATH}/s/items/{answer['id']}").json() == answer


def test_a_conversation_goes_on_by_every_route(client: TestClient) -> None:
    """What was added as items is known to Responses and to the chat."""
    made = create(client, user("My name is Ada."), SAID)
    response = respond(client, "Who am I?", conversation=made.id)
    assert text_of(response).endswith("the first was: My name is Ada.")
    said = ask(client, user("And now?"), session_id=made.id)
    assert "I remember 2 earlier messages" in said.text
    items = items_of(client, made.id)
    assert len(items) == 6
    assert items[3] == body_of(response)["output"][0]


def test_items_are_added_and_given_back(client: TestClient, store: MemoryStore) -> None:
    """Each has an id, a type and a status, and is what the list has."""
    made = create(client)
    given = [user("a"), REASONING, SAID, CALL, OUTPUT, {"role": "system", "content": "Be kind."}]
    added = add(client, made.id, *given)
    kinds = ["message", "reasoning", "message", "function_call", "function_call_output", "message"]
    assert [item["type"] for item in added] == kinds
    assert items_of(client, made.id) == added
    assert [message["role"] for message in stored(store, made.id)] == [
        "user", "assistant", "tool", "system",
    ]  # fmt: skip
    assert add(client, made.id) == []


def test_calls_that_are_added_one_by_one_are_one_answer(
    client: TestClient, store: MemoryStore
) -> None:
    """Calls of one answer are one message, as a model needs them, and keep their ids."""
    made = create(client, user("a"))
    added = [add(client, made.id, each) for each in (SAID, CALL, CALL | {"call_id": "d"})]
    assert items_of(client, made.id)[1:] == [item for each in added for item in each]
    _, answer = stored(store, made.id)
    assert [call["id"] for call in answer["tool_calls"]] == ["c", "d"]


def test_items_refer_to_stored_ones(client: TestClient) -> None:
    """A reference is the item once more."""
    made = create(client, user("a"))
    (first,) = items_of(client, made.id)
    (again,) = add(client, made.id, {"type": "item_reference", "id": first["id"]})
    assert again["content"] == first["content"]
    assert again["id"] != first["id"]


def test_the_last_item_is_deleted(client: TestClient, store: MemoryStore) -> None:
    """From the end each item can be taken off, one by one; another one is refused by name."""
    made = create(client, user("a"), REASONING, SAID, CALL, CALL | {"call_id": "d"})
    items = items_of(client, made.id)
    refused = client.delete(f"{PATH}/{made.id}/items/{items[0]['id']}")
    assert error_of(refused) == (400, "item_id", "unsupported_parameter")
    assert error_of(client.delete(f"{PATH}/{made.id}/items/msg_x"))[:2] == (404, "item_id")
    while items:
        deleted = client.delete(f"{PATH}/{made.id}/items/{items.pop()['id']}")
        conversations.Conversation.model_validate(deleted.json())
        assert items_of(client, made.id) == items
    assert stored(store, made.id) == []


def test_a_deleted_conversation_is_a_final_conflict(client: TestClient) -> None:
    """Where the body names it; under its id in the header a new conversation begins."""
    made = client.post(PATH, json={"items": [{"role": "user", "content": "a"}]}).json()["id"]
    client.delete(f"{PATH}/{made}")
    named = client.post("/v1/responses", json={"input": "a", "conversation": made})
    assert (named.status_code, named.json()["error"]["code"]) == (409, "session_deleted")
    assert named.headers["X-Should-Retry"] == "false"
    headed = client.post("/v1/responses", json={"input": "a"}, headers={HEADER: made})
    assert headed.status_code == 200
    assert headed.headers[HEADER] != made


def test_a_conversation_is_deleted(client: TestClient) -> None:
    """It is a 404 afterwards, with its items; so is one that never was."""
    made, empty = create(client, user("a"), metadata={"a": "b"}), create(client)
    for conversation_id in (made.id, empty.id):
        deleted = client.delete(f"{PATH}/{conversation_id}").json()
        conversations.ConversationDeletedResource.model_validate(deleted)
    for conversation_id in (made.id, empty.id, "never", "a b", "é", "%00"):
        path = f"{PATH}/{conversation_id}"
        for gone in (
            client.get(path),
            client.delete(path),
            client.post(path, json={"metadata": {}}),
            client.get(f"{path}/items"),
            client.post(f"{path}/items", json={"items": [user("a")]}),
            client.get(f"{path}/items/msg_1"),
            client.delete(f"{path}/items/msg_1"),
        ):
            assert error_of(gone)[0] == 404


@pytest.mark.parametrize("items", [[], [user("a")]], ids=["empty", "with an item"])
def test_a_session_is_deleted_with_its_metadata(client: TestClient, items: list[Any]) -> None:
    """Deleted as a session, a conversation is gone as well, with or without items."""
    made = create(client, *items, metadata={"a": "b"})
    assert client.delete(f"/v1/sessions/{made.id}").status_code == 204
    assert error_of(client.get(f"{PATH}/{made.id}"))[0] == 404
    assert client.delete(f"/v1/sessions/{made.id}").status_code == 404


@pytest.mark.parametrize("items", [[], [user("a")]], ids=["empty", "with an item"])
def test_metadata_moves_with_its_conversation(
    client: TestClient, store: MemoryStore, items: list[Any]
) -> None:
    """After a rotation it is under the new id alone, and the old one is unknown."""
    made = create(client, *items, metadata={"a": "b"})
    assert anyio.run(store.rotate, made.id, "new")
    assert client.get(f"{PATH}/new").json()["metadata"] == {"a": "b"}
    assert error_of(client.get(f"{PATH}/{made.id}"))[0] == 404


def test_a_living_conversation_keeps_its_metadata(client: TestClient, store: MemoryStore) -> None:
    """A prune goes by the last item, however long ago the metadata was set."""
    made = create(client, metadata={"a": "b"})
    for key, record in list(store._sessions.items()):
        store._sessions[key] = replace(record, updated_at=record.updated_at - 3600)
    add(client, made.id, user("a"))
    assert anyio.run(store.prune, timedelta(seconds=1800)) == 0
    assert client.get(f"{PATH}/{made.id}").json()["metadata"] == {"a": "b"}


STORED_BY_NOBODY: dict[str, tuple[dict[str, Any], str | None, int]] = {
    "metadata with half a character": ({"metadata": {"a": "\ud800"}}, "metadata", 400),
    "metadata that is too large": ({"metadata": {"a": "x" * 400}}, "metadata", 413),
    "an item with half a character": (
        {"metadata": {"a": "b"}, "items": [user("\ud800")]},
        "messages",
        400,
    ),
    "an item that is too large": (
        {"metadata": {"a": "b"}, "items": [user("x" * 400)]},
        "messages",
        413,
    ),
}


@pytest.mark.parametrize(
    ("body", "param", "status"), STORED_BY_NOBODY.values(), ids=STORED_BY_NOBODY.keys()
)
def test_a_conversation_is_created_as_a_whole(
    body: dict[str, Any], param: str | None, status: int
) -> None:
    """Where its items or its metadata cannot be stored, neither are."""
    store = MemoryStore(max_message_bytes=300)
    with TestClient(create_app(store, keys=())) as client:
        sent = json.dumps({"items": [user("a")]} | body)
        refused = client.post(PATH, content=sent)
        assert error_of(refused)[:2] == (status, param)
        assert error_of(client.get(f"{PATH}/{refused.headers[HEADER]}"))[0] == 404
    assert not store._sessions


def test_what_is_no_turn_changes_no_conversation(client: TestClient) -> None:
    """X-Hermes-Turn: none is refused by name, but for reading."""
    made = create(client, user("a"), metadata={"a": "b"})
    (item,) = items_of(client, made.id)
    none = {TURN_HEADER: "none"}
    path = f"{PATH}/{made.id}"
    for refused in (
        client.post(PATH, json={"items": [user("b")]}, headers=none),
        client.post(path, json={"metadata": {}}, headers=none),
        client.post(f"{path}/items", json={"items": [user("b")]}, headers=none),
        client.delete(f"{path}/items/{item['id']}", headers=none),
        client.delete(path, headers=none),
    ):
        assert error_of(refused) == (400, TURN_HEADER, "unsupported_parameter")
    assert client.get(path, headers=none).json() == made.model_dump()
    assert client.get(f"{path}/items", headers=none).json()["data"] == [item]


BAD: dict[str, tuple[Any, str | None]] = {
    "an item of a number": ({"items": [1]}, "items[0]"),
    "too many": ({"items": [user("a")] * 21}, "items"),
    "a hosted tool's item": ({"items": [{"type": "web_search_call", "id": "x"}]}, "items[0].type"),
    "an unknown field": ({"items": [], "name": "a"}, "name"),
    "a list": ([], None),
}


@pytest.mark.parametrize(("body", "param"), BAD.values(), ids=BAD.keys())
def test_a_bad_body_is_a_400(client: TestClient, body: Any, param: str | None) -> None:
    """The error names the field, and nothing is stored."""
    made = create(client, user("a"))
    for path in (PATH, f"{PATH}/{made.id}/items"):
        refused = client.post(path, json=body)
        assert error_of(refused)[:2] == (400, param)
    assert error_of(client.post(PATH, content=b"{"))[0] == 400
    assert error_of(client.post(PATH, content=b"[" * 100_000))[0] == 400


def test_each_owner_has_conversations_of_their_own(store: MemoryStore) -> None:
    """Another owner's conversation is unknown, and metadata is in nobody's list."""
    with TestClient(create_app(store, keys=["ada", "eve"])) as client:
        client.headers["Authorization"] = "Bearer ada"
        made = create(client, user("a"), metadata={"a": "b"})
        assert len(client.get("/v1/sessions").json()["data"]) == 1
        client.headers["Authorization"] = "Bearer eve"
        for path in (f"{PATH}/{made.id}", f"{PATH}/{made.id}/items"):
            assert error_of(client.get(path))[0] == 404
        assert error_of(client.delete(f"{PATH}/{made.id}"))[0] == 404
        assert client.get("/v1/sessions").json()["data"] == []
        del client.headers["Authorization"]
        assert error_of(client.post(PATH, json={}))[0] == 401


def test_a_request_that_names_its_session_keeps_it(client: TestClient) -> None:
    """The header of a response is the request's own session where it has named one."""
    made = create(client, user("a"))
    got = client.get(f"{PATH}/{made.id}", headers=S)
    assert (got.headers[HEADER], got.json()["id"]) == ("s", made.id)


def test_a_store_without_the_operations_is_a_501() -> None:
    """A store of three methods has no conversations, and says so."""

    class Plain:
        def __init__(self) -> None:
            self.load, self.append = MemoryStore().load, MemoryStore().append

        async def aclose(self) -> None:
            """Close nothing."""

    app = HermesSessionMiddleware(Starlette(routes=conversation_routes(Plain())), Plain())
    client = TestClient(app)
    for response in (client.post(PATH), client.get(f"{PATH}/s"), client.get(f"{PATH}/s/items")):
        assert error_of(response)[::2] == (501, "not_supported")


@pytest.mark.parametrize(
    "arguments", [{"store": "sqlite://"}, {"prefix": "c"}, {"prefix": "/c/"}, {"store_timeout": -1}]
)
def test_routes_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    """What is no store, no path and no time is an error at once."""
    with pytest.raises(ConfigurationError):
        conversation_routes(**{"store": MemoryStore()} | arguments)


def test_a_failing_store_is_a_503() -> None:
    """Where nobody knows whether there is such a conversation, it is not said to be unknown."""

    class Infoless(MemoryStore):
        async def info(self, session_id: str, owner: str = "", *, first_words: bool = False) -> Any:
            raise StoreUnavailable("gone")

    client = TestClient(create_app(Infoless(), keys=()))
    assert error_of(client.get(f"{PATH}/s"))[0] == 503


def test_a_conversation_outlives_the_process(tmp_path: Any) -> None:
    """After a restart an item has the id that it had, and the conversation its metadata."""
    url = f"sqlite:///{tmp_path}/demo.db"
    with TestClient(create_app(SQLAlchemyStore(url), keys=())) as client:
        made = create(client, user("a"), SAID, metadata={"a": "b"})
        empty = create(client)
        items = items_of(client, made.id)
    with TestClient(create_app(SQLAlchemyStore(url), keys=())) as client:
        assert items_of(client, made.id) == items
        assert client.get(f"{PATH}/{made.id}").json() == made.model_dump()
        assert client.get(f"{PATH}/{empty.id}").json() == empty.model_dump()
        deleted = client.delete(f"{PATH}/{made.id}/items/{items[-1]['id']}")
        assert deleted.status_code == 200
        assert items_of(client, made.id) == items[:1]


@pytest.mark.parametrize(
    ("name", "is_itself"),
    [
        ("s", True),
        ("conv_1", True),
        ("a b", False),
        ("é", False),
        ("a" * 257, False),
        ("..", False),
    ],
)
def test_a_name_leads_to_a_session(name: str, is_itself: bool) -> None:
    """A name that is a session id is one, and any other leads to one for each owner."""
    session_id = conversation_session_id(name, "ada")
    assert (session_id == name) == is_itself
    assert conversation_session_id(name, "ada") == session_id
    assert (conversation_session_id(name, "eve") == session_id) == is_itself
    for wrong in ("", "\ud800"):
        with pytest.raises(InvalidRequest):
            conversation_session_id(wrong, "ada")


def test_the_sdk_lists_all_pages(client: TestClient) -> None:
    """OpenAI's own client reads a conversation page by page."""
    made = create(client)
    for start in range(0, 45, 20):
        add(client, made.id, *(user(str(n)) for n in range(start, min(start + 20, 45))))
    with openai.OpenAI(
        base_url=f"{client.base_url}/v1",
        api_key="unused",
        http_client=client,
    ) as sdk:
        found = list(sdk.conversations.items.list(made.id, order="asc"))
    assert texts_of([item.model_dump() for item in found]) == [str(n) for n in range(45)]
