"""The demo's clients that send their whole conversation and no id."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import ConfigurationError, MemoryStore, SQLAlchemyStore
from hermes_session_mw.messages import Message
from hermes_session_mw.session.derived_ids import MOST
from tests.demo.test_demo import CHAT, HEADER, user
from tests.demo.test_demo_responses import PATH

ADA, BOB = ({"Authorization": f"Bearer {name}-key"} for name in ("ada", "bob"))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, sqlite_url: str) -> Any:
    """Where the demo of this test keeps its conversations."""
    return MemoryStore() if request.param == "memory" else SQLAlchemyStore(sqlite_url)


@pytest.fixture(params=["asyncio", "trio"])
def client(store: Any, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of the demo with Ada's key."""
    app = create_app(store, keys=["ada-key", "bob-key"], derive_ids=True)
    with TestClient(app, backend=request.param, headers=ADA) as client:
        yield client


class Chat:
    """A client's conversation, all of which it sends over one of the routes."""

    def __init__(self, client: TestClient, path: str) -> None:
        self._client = client
        self._url, self._field = {"chat": (CHAT, "messages"), "responses": (PATH, "input")}[path]
        self.told: list[Message] = []

    def say(self, text: str, **headers: str) -> Any:
        """Send the conversation and a question, and keep the answer."""
        self.told = [*self.told, user(text)]
        response = self._client.post(self._url, json={self._field: self.told}, headers=headers)
        assert response.status_code == 200, response.text
        body = response.json()
        message = body["choices"][0]["message"] if "choices" in body else body["output"][0]
        self.told.append(message)
        return response


def lengths(client: TestClient) -> list[int]:
    """Return the number of messages of each of Ada's conversations."""
    return sorted(each["length"] for each in client.get("/v1/sessions").json()["data"])


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_four_turns_are_one_session(client: TestClient, path: str) -> None:
    """A client that sends all it knows has one conversation, whose id each response has."""
    chat = Chat(client, path)
    ids = {chat.say(text).headers[HEADER] for text in ("a", "b", "a", "c")}
    assert len(ids) == 1
    assert lengths(client) == [8]


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_two_chats_with_one_beginning_stay_two(client: TestClient, path: str) -> None:
    """They are told apart by what follows, and an edited one is a third."""
    first, second = Chat(client, path), Chat(client, path)
    ids = [chat.say("a").headers[HEADER] for chat in (first, second)]
    for text in "bc":
        assert [chat.say(text + chat_id).headers[HEADER]
                for chat, chat_id in zip((first, second), ids, strict=True)] == ids  # fmt: skip
    assert lengths(client) == [6, 6]
    edited = Chat(client, path)
    edited.told = first.told[:2]
    assert edited.say("d").headers[HEADER] not in ids
    other = Chat(client, path)
    other.told = first.told
    assert other.say("e", **BOB).headers[HEADER] not in ids
    assert lengths(client) == [4, 6, 6]


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_retry_is_answered_again(client: TestClient, path: str) -> None:
    """A repeated request finds its conversation by its key, also after another turn in it."""
    chat, again = Chat(client, path), Chat(client, path)
    first = chat.say("a", **{"Idempotency-Key": "k"})
    chat.say("b")
    replayed = again.say("a", **{"Idempotency-Key": "k"})
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert again.told == chat.told[:2]
    assert replayed.headers[HEADER] == first.headers[HEADER]
    assert lengths(client) == [4]


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_retry_is_answered_again_after_a_rotation(client: TestClient, path: str) -> None:
    """Neither another id nor too many conversations that begin alike part a key from its answer."""
    for _ in range(MOST + 1):
        Chat(client, path).say("a")
    key = {"Idempotency-Key": "k"}
    first = Chat(client, path).say("a", **key)
    assert Chat(client, path).say("a", **key).json() == first.json()
    rotated = client.post("/v1/session/rotate", headers={HEADER: first.headers[HEADER]})
    again = Chat(client, path).say("a", **key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers[HEADER] == rotated.headers[HEADER]
    assert again.json()["id"] == first.json()["id"]
    assert "Idempotency-Replayed" not in Chat(client, path).say("a", **key, **BOB).headers
    assert lengths(client) == [2] * (MOST + 2)


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_retry_passes_an_earlier_conversation_that_is_free(client: TestClient, path: str) -> None:
    """What was deleted of it does not make room for a request that is stored already."""
    other = Chat(client, path).say("a").headers[HEADER]
    key = {"Idempotency-Key": "k"}
    first = Chat(client, path).say("a", **key)
    items = f"/v1/conversations/{other}/items"
    last = client.get(items).json()["data"][0]["id"]
    assert client.delete(f"{items}/{last}").status_code == 200
    again = Chat(client, path).say("a", **key)
    assert (again.headers[HEADER], again.json()) == (first.headers[HEADER], first.json())


@pytest.mark.parametrize("path", ["chat", "responses"])
async def test_first_requests_at_once_are_conversations_of_their_own(path: str) -> None:
    """Nobody is led into another's that begins alike, and each finds its own answer again."""
    app = create_app(MemoryStore(), keys=["ada-key"], derive_ids=True)
    with TestClient(app, headers=ADA) as own:

        def begin(ids: dict[str, str], key: str) -> None:
            ids[key] = Chat(own, path).say("a", **{"Idempotency-Key": key}).headers[HEADER]

        first, again = dict[str, str](), dict[str, str]()
        async with anyio.create_task_group() as tasks:
            for key in "123":
                tasks.start_soon(anyio.to_thread.run_sync, begin, first, key)
        for key in "123":
            begin(again, key)
        assert len(set(first.values())) == 3
        assert first == again
        assert lengths(own) == [2, 2, 2]


def test_a_session_that_is_named_stays(client: TestClient) -> None:
    """The header counts, and so does the response that the body continues."""
    for headers in ({HEADER: "mine"}, {HEADER: "mine"}):
        assert Chat(client, "chat").say("a", **headers).headers[HEADER] == "mine"
    first = Chat(client, "responses").say("a")
    body = {"input": "b", "previous_response_id": first.json()["id"]}
    assert client.post(PATH, json=body).headers[HEADER] == first.headers[HEADER]
    assert lengths(client) == [4, 4]


def test_what_is_not_stored_is_not_derived(client: TestClient) -> None:
    """A request that is no turn, or asks for no store, leaves nothing to be continued."""
    Chat(client, "chat").say("a", **{"X-Hermes-Turn": "none"})
    response = client.post(PATH, json={"input": "a", "store": False})
    assert not response.headers[HEADER].startswith("derived-")
    assert lengths(client) == []


@pytest.mark.parametrize("field", [{"X-Hermes-Turn": "none"}, {"store": False}], ids=str)
def test_what_is_not_stored_is_answered_in_its_conversation(
    client: TestClient, field: dict[str, Any]
) -> None:
    """A client that follows the id in such a response stays in the conversation."""
    chat = Chat(client, "responses" if "store" in field else "chat")
    first = chat.say("a")
    body = {"input": chat.told, "store": False} if "store" in field else {"messages": chat.told}
    told = next(name for name in ("input", "messages") if name in body)
    body[told] = [*chat.told, user("A title?")]
    headers = {} if "store" in field else field
    asked = client.post(PATH if told == "input" else CHAT, json=body, headers=headers)
    assert asked.headers[HEADER] == first.headers[HEADER]
    assert lengths(client) == [2]
    assert Chat(client, "chat").say("b", **{HEADER: asked.headers[HEADER]}).status_code == 200
    assert lengths(client) == [4]


def test_derived_ids_need_keys() -> None:
    """Without owners everybody who begins alike would be led to one conversation."""
    with pytest.raises(ConfigurationError, match="HERMES_API_KEYS"):
        create_app(MemoryStore(), keys=(), derive_ids=True)
