"""The demo over stores of other kinds, and what it does to a session's id."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import HermesStateStore, MemoryStore, SQLAlchemyStore
from hermes_session_mw.openai_api.reply import Delta
from tests.demo.test_demo_model import OwnModel
from tests.session.test_editing import Plain
from tests.stores.hermes_state.agent import COMPRESSED, copy_to

CHAT = "/v1/chat/completions"
ID = "X-Hermes-Session-Id"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def ask(client: TestClient, *messages: Any, headers: dict[str, str]) -> str:
    """Send a chat request, and return the answer's text."""
    body = {"messages": [user(m) if isinstance(m, str) else m for m in messages]}
    response = client.post(CHAT, json=body, headers=headers)
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


async def test_the_demo_goes_on_with_hermes_own_conversations(tmp_path: Path) -> None:
    """Over a Hermes Agent's state.db the demo answers, edits, repeats; the rest is a 501."""
    path = copy_to(tmp_path)
    client = TestClient(create_app(f"hermes:{path}", compact_at=1))
    store = HermesStateStore(path)
    before = (await store.load(COMPRESSED)).length
    mine = {ID: COMPRESSED}
    answer = ask(client, "From the web", headers=mine | {"Idempotency-Key": "k"})
    assert ask(client, "From the web", headers=mine | {"Idempotency-Key": "k"}) == answer
    history = (await store.load(COMPRESSED)).messages
    assert [m["content"] for m in history[before:]] == ["From the web", answer]
    told = [*history[:before], user("From the web, edited")]
    ask(client, *told, headers=mine | {"X-Hermes-History-Source": "request"})
    assert (await store.load(COMPRESSED)).length == before + 2
    for new in ("web-1", "web-2"):  # Hermes' titles are each one's own
        ask(client, "The same beginning", headers={ID: new})
    titles = [info.title for name in ("web-1", "web-2") if (info := await store.info(name))]
    assert titles == ["The same beginning", None]
    broken = {"role": "assistant", "content": "I w", "status": "incomplete"}
    await store.append(COMPRESSED, [user("Again?"), broken])
    ask(client, "Again?", headers=mine)
    for number in range(4):  # more than is compacted elsewhere
        ask(client, f"message {number}", headers=mine)
    assert (await store.load(COMPRESSED)).length == before + 2 + 2 + 8
    response = client.post("/v1/session/rotate", headers=mine)
    assert response.status_code == 501
    assert response.json()["error"]["code"] == "not_supported"
    await store.aclose()


def test_responses_go_on_in_hermes_own_conversations(tmp_path: Path) -> None:
    """A response is found again with its metadata, continued, forked from, and deleted."""
    with TestClient(create_app(f"hermes:{copy_to(tmp_path)}")) as client:
        client.headers[ID] = COMPRESSED

        def respond(text: str, **options: Any) -> Any:
            response = client.post("/v1/responses", json={"input": text, **options})
            assert response.status_code == 200, response.text
            return response.json()

        first = respond("One?", metadata={"topic": "trip"})
        second = respond("Two?", previous_response_id=first["id"])
        assert first["conversation"] == second["conversation"] == {"id": COMPRESSED}
        branch = respond("Another two?", previous_response_id=first["id"])
        assert branch["conversation"]["id"] != COMPRESSED
        for each in (first, second, branch):
            path = f"/v1/responses/{each['id']}"
            assert client.get(path, headers={ID: each["conversation"]["id"]}).json() == each
        items = client.get(f"/v1/responses/{second['id']}/input_items").json()["data"]
        assert [item["content"][0]["text"] for item in items] == ["Two?"]
        assert client.delete(f"/v1/responses/{first['id']}").status_code == 200
        assert client.get(f"/v1/responses/{first['id']}").status_code == 404
        del client.headers[ID]
        made = client.post("/v1/conversations", json={"metadata": {"topic": "trip"}}).json()
        respond("Three?", conversation=made["id"])
        path = f"/v1/conversations/{made['id']}"
        items = client.get(f"{path}/items?order=asc").json()["data"]
        assert [item["role"] for item in items] == ["user", "assistant"]
        assert client.get(path).json()["metadata"] == {"topic": "trip"}
        assert client.delete(path).json()["deleted"]


def test_a_model_calls_tools_in_hermes_own_conversations(tmp_path: Path) -> None:
    """Over a Hermes Agent's state.db calls, results and reasoning are kept as Hermes keeps them."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    model = OwnModel(Delta(fields={"reasoning_content": "Hm.", "tool_calls": [call]}))
    result = {"role": "tool", "tool_call_id": "c", "content": "3"}
    with TestClient(create_app(f"hermes:{copy_to(tmp_path)}", model=model)) as client:
        client.headers[ID] = COMPRESSED
        body = {"messages": [user("Use a tool.")]}
        answer = client.post(CHAT, json=body).json()["choices"][0]["message"]
        assert answer["tool_calls"] == [call]
        model.deltas = (Delta("It is"), Delta(finish_reason="length"))
        assert ask(client, result, headers={}) == "It is"
        ask(client, "And now?", headers={})
    *_, question, calling, results, said, _ = model.asked[-1][0]
    assert (question["content"], results["content"]) == ("Use a tool.", "3")
    assert (calling["tool_calls"], calling["reasoning_content"]) == ([call], "Hm.")
    assert said == {"role": "assistant", "content": "It is"}  # its finish reason is the store's


def test_api_keys_are_hermes_users(tmp_path: Path) -> None:
    """Over a Hermes Agent's state.db an API key owns what it begins, and no more."""
    client = TestClient(create_app(f"hermes:{copy_to(tmp_path)}", keys=["one"]))
    bearer = {"Authorization": "Bearer one"}
    assert "first message" in ask(client, "Hello", headers=bearer | {ID: "mine"})
    assert "I remember 1" in ask(client, "Again", headers=bearer | {ID: "mine"})
    body = {"messages": [user("x")]}
    assert client.post(CHAT, json=body, headers=bearer | {ID: COMPRESSED}).status_code == 409


async def test_a_plain_store_is_chatted_with() -> None:
    """Over a store of three methods the demo chats; a key, which it cannot look for, is a 501."""
    store = Plain()
    client = TestClient(create_app(store))
    first = ask(client, "one", headers={ID: "mine"})
    assert [m["content"] for m in (await store.load("mine")).messages] == ["one", first]
    headers = {ID: "mine", "Idempotency-Key": "k"}
    response = client.post(CHAT, json={"messages": [user("two")]}, headers=headers)
    assert response.status_code == 501


async def test_a_session_rotates_and_begins_anew() -> None:
    """Rotating keeps the conversation under another id, renewing begins another."""
    store = MemoryStore()
    client = TestClient(create_app(store))
    ask(client, "one", headers={ID: "mine"})
    rotated = client.post("/v1/session/rotate", headers={ID: "mine"})
    new = rotated.headers[ID]
    assert rotated.json() == {"object": "session", "id": new}
    assert (await store.load(new)).length == 2
    assert not (await store.load("mine")).exists
    renewed = client.post("/v1/session/renew", headers={ID: new})
    assert renewed.headers[ID] not in (new, "mine")
    assert (await store.load(new)).length == 2


REQUEST = {"X-Hermes-History-Source": "request"}


def sized(kind: str, folder: Path, most: int) -> Any:
    """Return a store of a kind whose messages may take so many bytes."""
    match kind:
        case "memory":
            return MemoryStore(max_message_bytes=most)
        case "sqlite":
            return SQLAlchemyStore(f"sqlite:///{folder}/s.db", max_message_bytes=most, timeout=60)
        case _:  # which indexes each word
            return HermesStateStore(copy_to(folder), max_message_bytes=most, timeout=60)


async def contents(store: Any, session_id: str) -> list[Any]:
    return [message["content"] for message in (await store.load(session_id)).messages]


every_kind = pytest.mark.parametrize("kind", ["memory", "sqlite", "hermes"])


@every_kind
async def test_what_a_small_store_does_not_take_is_refused_before_the_model_is_asked(
    tmp_path: Path, kind: str, *, stream: bool
) -> None:
    """A store of 64 KiB refuses what is larger, though every default would take it."""
    store, model = sized(kind, tmp_path, 65_536), OwnModel(Delta("Good."))
    with TestClient(create_app(store, keys=(), model=model), headers={ID: "s"}) as client:
        ask(client, "a", headers={})
        body = {"messages": [user("x" * 70_000)], "stream": stream}
        for headers in ({}, REQUEST):
            response = client.post(CHAT, json=body, headers=headers)
            assert response.status_code == 413
            assert "65536" in response.json()["error"]["message"]
        if kind != "hermes":
            response = client.post("/v1/responses", json={"input": "x" * 70_000}, headers=REQUEST)
            assert response.status_code == 413
        assert len(model.asked) == 1
    assert await contents(store, "s") == ["a", "Good."]
    await store.aclose()


@every_kind
async def test_an_edited_turn_stands_where_the_new_answer_does_not_fit(
    tmp_path: Path, kind: str, *, stream: bool
) -> None:
    """An answer that the store does not take is ended; the turn that it was to replace stands."""
    store, model = sized(kind, tmp_path, 65_536), OwnModel(Delta("Good."))
    with TestClient(create_app(store, keys=(), model=model), headers={ID: "s"}) as client:
        ask(client, "a", headers={})
        model.deltas = (Delta("x" * 40_000),) * 3
        body = {"messages": [user("b")], "stream": stream}
        response = client.post(CHAT, json=body, headers=REQUEST)
        assert response.status_code == (200 if stream else 502)
        assert "too long to be stored" in response.text
        assert await contents(store, "s") == ["a", "Good."]
        client.post(CHAT, json=body)
    *_, question, answer = await contents(store, "s")
    assert question == "b"
    assert answer == "x" * len(answer)
    assert 65_000 < len(answer) < 65_536
    await store.aclose()


@every_kind
async def test_a_large_store_takes_large_messages(
    tmp_path: Path, kind: str, *, stream: bool
) -> None:
    """A store of 20 MB takes questions and answers that the default would not."""
    store = sized(kind, tmp_path, 20_000_000)
    large = "x" * 1_200_000
    model = OwnModel(*[Delta(large)] * 2)
    with TestClient(create_app(store, keys=(), model=model), headers={ID: "s"}) as client:
        body = {"messages": [user(large)], "stream": stream}
        assert client.post(CHAT, json=body).status_code == 200
    assert await contents(store, "s") == [large, large * 2]
    await store.aclose()


async def test_what_hermes_cannot_keep_is_refused_before_the_model_is_asked(
    tmp_path: Path,
) -> None:
    """A message with a key that Hermes' table has no column for is a 400, and costs nothing."""
    model = OwnModel(Delta("Good."))
    with TestClient(create_app(f"hermes:{copy_to(tmp_path)}", model=model)) as client:
        body = {"messages": [{**user("Hi"), "name": "ada"}]}
        response = client.post(CHAT, json=body, headers={ID: "s"})
    assert response.status_code == 400
    assert "'name'" in response.json()["error"]["message"]
    assert model.asked == []
