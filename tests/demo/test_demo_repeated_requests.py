"""What a request that is repeated under its Idempotency-Key gets."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import MemoryStore
from hermes_session_mw.openai_api.reply import Delta
from tests.demo.test_demo import CHAT, HEADER, user
from tests.demo.test_demo_model import OwnModel, client_of
from tests.demo.test_demo_responses import PATH
from tests.demo.test_demo_turns import KEY
from tests.stores.hermes_state.agent import COMPRESSED, copy_to


def test_a_repeated_request_gets_the_same_answer() -> None:
    """Its body is the first one's to the last byte, with usage, reason, model, id and time."""
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    model = OwnModel(
        Delta("It i", model="big-1"),
        Delta("s"),
        Delta(fields={"tool_calls": [{"index": 0, **call}]}),
        Delta(finish_reason="length", usage={**usage, "details": {"cached": 1}}),
    )
    client = client_of(MemoryStore(), model)
    key = {HEADER: "s", KEY: "k"}
    first = client.post(CHAT, json={"messages": [user("a")]}, headers=key)
    model.deltas = ()
    again = client.post(CHAT, json={"messages": [user("a")]}, headers=key)
    assert again.content == first.content
    assert first.json()["choices"][0]["finish_reason"] == "length"
    assert first.json()["usage"]["details"] == {"cached": 1}
    stream = {"messages": [user("a")], "stream": True, "stream_options": {"include_usage": True}}
    events = client.post(CHAT, json=stream, headers=key).text.split("\n\n")
    *_, last, told = [json.loads(each[6:]) for each in events if "{" in each]
    assert last["choices"][0]["finish_reason"] == "length"
    assert (told["id"], told["usage"]) == (first.json()["id"], first.json()["usage"])


@pytest.mark.parametrize("path", [CHAT, PATH])
def test_a_stream_is_repeated_as_a_whole(path: str) -> None:
    """However an answer was sent at first, its repetition has the same id, usage and text."""
    field = "messages" if path == CHAT else "input"
    body: dict[str, Any] = {field: [user("a")], "model": "m"}
    headers = {HEADER: "s", KEY: "k"}
    with TestClient(create_app(MemoryStore(), keys=())) as client:
        first = client.post(path, json=body | {"stream": True}, headers=headers)
        again = client.post(path, json=body, headers=headers)
        once_more = client.post(path, json=body, headers=headers)
    assert [each.headers.get("Idempotency-Replayed") for each in (first, again)] == [None, "true"]
    assert again.content == once_more.content
    assert f'"{again.json()["id"]}"' in first.text
    assert again.json()["usage"]["total_tokens"] > 1


@pytest.mark.parametrize("metadata", [None, 1, {"completion": 1}, {"completion": {"id": 1}}])
def test_an_answer_without_an_id_gets_one(metadata: Any) -> None:
    """What an earlier version or another program has stored is answered with an id of its own."""
    store = MemoryStore()
    answer = {"role": "assistant", "content": "b", "metadata": metadata}
    anyio.run(partial(store.append, "s", [user("a"), answer], turn_id="k"))
    with TestClient(create_app(store, keys=())) as client:
        body = {"messages": [user("a")]}
        again = client.post(CHAT, json=body, headers={HEADER: "s", KEY: "k"}).json()
    assert again["id"].startswith("chatcmpl-")
    assert again["choices"][0]["message"]["content"] == "b"


def test_a_store_without_a_place_for_it_repeats_the_text(tmp_path: Path) -> None:
    """In Hermes' own database the answer is stored without its id, and is known by its question."""
    key = {HEADER: COMPRESSED, KEY: "k"}
    with TestClient(create_app(f"hermes:{copy_to(tmp_path)}", keys=())) as client:
        bodies = [
            client.post(CHAT, json={"messages": [user("a")], "model": name}, headers=key).json()
            for name in ("m", "n")
        ]
        other = client.post(CHAT, json={"messages": [user("b")]}, headers=key)
    assert bodies[0]["choices"] == bodies[1]["choices"]
    assert other.status_code == 409
