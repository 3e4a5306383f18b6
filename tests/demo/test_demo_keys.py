"""The demo with API keys: who has none is not served, and each sees its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.keys import parse_keys
from hermes_session_mw import ConfigurationError, MemoryStore
from tests.demo.test_demo import CHAT, HEADER, user
from tests.demo.test_demo_server import run_demo
from tests.support.server import demo

ADA = {"Authorization": "Bearer ada-key"}
BOB = {"Authorization": "bearer  bob-key"}
NAME = "X-Hermes-Session-Key"


@pytest.fixture
def client(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of the demo, which has taken two keys from the environment."""
    monkeypatch.setenv("HERMES_API_KEYS", "ada-key, bob-key,")
    with TestClient(create_app(store)) as client:
        yield client


def say(client: TestClient, text: str, *fields: dict[str, str]) -> Any:
    """Post a message with all of the header fields, and return the response."""
    headers = {name: value for each in fields for name, value in each.items()}
    return client.post(CHAT, json={"messages": [user(text)]}, headers=headers)


WRONG: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "unknown": [("Authorization", "Bearer eve-key")],
    "blank": [("Authorization", "Bearer ")],
    "no scheme": [("Authorization", "ada-key")],
    "another scheme": [("Authorization", "Basic ada-key")],
    "two": [("Authorization", "Bearer ada-key"), ("Authorization", "Bearer ada-key")],
    "all": [("Authorization", "Bearer ada-key, bob-key")],
    "not ASCII": [("Authorization", "Bearer \xe4da-key")],
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("named", [[], [(HEADER, "s")], [(NAME, "n")]], ids=["new", "id", "key"])
def test_without_a_key_nothing_is_served(
    client: TestClient,
    store: MemoryStore,
    given: list[tuple[str, str]],
    named: list[tuple[str, str]],
) -> None:
    """A missing or wrong key is a stamped 401 on every route, with a session's id or without."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in (*given, *named)]
    for method, path in [
        ("POST", CHAT),
        ("POST", "/v1/responses"),
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("GET", "/v1/models"),
        ("GET", "/nothing"),
    ]:
        response = client.request(method, path, headers=fields, json={"messages": [user("a")]})
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert len(response.headers.get_list(HEADER)) == 1
        assert (response.headers[HEADER] == "s") is bool(dict(named).get(HEADER))
    assert repr(store) == "<MemoryStore (0 sessions)>"


@pytest.mark.parametrize("path", ["/healthz", "/health", "/v1/health"])
def test_the_health_needs_no_key(client: TestClient, path: str) -> None:
    """A probe has no key, and is told the health all the same, also where Hermes Agent's asks."""
    for fields in ({}, {HEADER: "s"}, {"Authorization": "Bearer eve-key"}):
        response = client.get(path, headers=fields)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("host", ["x/healthz?", "x/healthz#", "/healthz?"])
def test_a_host_opens_no_door(client: TestClient, host: str) -> None:
    """A Host header that makes the URL look like the health's needs a key like any other."""
    response = client.get("/v1/models", headers={"Host": host})
    assert response.status_code == 401


def test_each_key_sees_its_own_conversations(client: TestClient, store: MemoryStore) -> None:
    """Another key's conversation is unknown under its very id, and no key is stored."""
    say(client, "My name is Ada.", ADA, {HEADER: "s"})
    stranger = say(client, "Who am I?", BOB, {HEADER: "s"})
    assert "This is your first message" in stranger.text
    again = say(client, "Who am I?", ADA, {HEADER: "s"})
    assert "My name is Ada." in again.text
    owners = {owner for owner, _ in store._sessions}
    assert len(owners) == 2
    assert not any("key" in owner for owner in owners)


def test_two_chats_under_one_session_key_stay_two(client: TestClient) -> None:
    """A session key is a memory scope, as in Hermes Agent: it is echoed, and chooses no chat."""
    first, second = (say(client, "Hello.", ADA, {NAME: "user-42"}) for _ in range(2))
    assert first.headers[HEADER] != second.headers[HEADER]
    assert "first message" in second.text
    assert second.headers[NAME] == "user-42"


def test_a_conversation_may_have_a_name_of_the_clients_own() -> None:
    """With session keys a client may name its conversation; each API key's names are its own."""
    app = create_app(MemoryStore(), keys=["ada-key", "bob-key"], session_keys=True)
    with TestClient(app) as client:
        first = say(client, "My name is Ada.", ADA, {NAME: "work"})
        again = say(client, "Who am I?", ADA, {NAME: "work"})
        assert again.headers[HEADER] == first.headers[HEADER]
        assert again.headers[NAME] == "work"
        assert "My name is Ada." in again.text
        assert "first message" in say(client, "Who am I?", BOB, {NAME: "work"}).text


def test_without_keys_everybody_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no keys are set none is asked for, and a session key is refused as by Hermes Agent."""
    monkeypatch.delenv("HERMES_API_KEYS", raising=False)
    with TestClient(create_app(MemoryStore())) as client:
        assert say(client, "a").status_code == 200
        assert say(client, "a", {NAME: "work"}).status_code == 403
    with pytest.raises(ConfigurationError, match=r"session keys .*HERMES_API_KEYS"):
        create_app(MemoryStore(), session_keys=True)


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_keys_that_are_none_do_not_open_the_server(text: str) -> None:
    """A list without a key is a mistake, and not a server for everybody."""
    with pytest.raises(ConfigurationError, match="HERMES_API_KEYS"):
        parse_keys(text)


def test_the_demo_does_not_start_without_a_key_in_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistake in the environment ends the demo with an explanation."""
    monkeypatch.setenv("HERMES_API_KEYS", ",")
    done = run_demo()
    assert done.returncode == 2
    assert "HERMES_API_KEYS is set, but has no key" in done.stderr


def test_no_key_and_no_message_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's log has neither a key nor an id nor what was said."""
    monkeypatch.setenv("HERMES_API_KEYS", "a-secret-key")
    with demo(tmp_path) as url:
        for key in ("a-secret-key", "another-secret"):
            fields = {"Authorization": f"Bearer {key}", HEADER: "a-secret-id"}
            body = {"messages": [user("a secret message")]}
            httpx2.post(f"{url}{CHAT}", json=body, headers=fields)
    log = (tmp_path / "server.log").read_text()
    assert "POST /v1/chat/completions" in log
    assert "secret" not in log
