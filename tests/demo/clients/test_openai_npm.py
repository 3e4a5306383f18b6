"""The openai npm SDK against the demo."""

from typing import Any

import pytest

from tests.demo.clients.demos import (
    API_KEY,
    HEADER,
    IDEMPOTENCY_KEY,
    Demo,
    a_session_id,
    losing_answers,
)
from tests.demo.clients.npm import Npm

DEFAULT_RETRIES = 2
UNKNOWN = "resp_" + "0" * 48


def code_of(error: Any) -> tuple[str, int, str | None]:
    assert error is not None
    return error["name"], error["status"], error["code"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_goes_on_by_its_header(
    served: Demo, npm: Npm, session_id: str, stream: bool
) -> None:
    """The headers of one call name its conversation, and withResponse() tells the id."""
    first = npm.chat(served.api, "My name is Ada.", session_id, stream=stream)
    assert "first message" in first.text
    second = npm.chat(served.api, "Who am I?", session_id, stream=stream)
    assert second.text.endswith("I remember 1 earlier message; the first was: My name is Ada.")
    assert (first.id, second.id) == (session_id, session_id)


def test_a_client_has_a_conversation_by_default_headers(
    served: Demo, npm: Npm, session_id: str
) -> None:
    """DefaultHeaders name the conversation of every call, models and all."""
    options = {"defaultHeaders": {HEADER: session_id}}
    models = npm.call(served.api, "models.list", **options)
    assert [model["id"] for model in models.value["data"]] == ["hermes-demo"]
    body = {"model": "hermes-demo", "input": "Hi"}
    assert npm.call(served.api, "responses.create", body, **options).id == session_id
    assert models.id == session_id


def test_responses_go_on_from_each_other(served: Demo, npm: Npm) -> None:
    """The Responses API works whole and streamed, and a new conversation's id leads back."""
    body: dict[str, Any] = {"model": "hermes-demo", "input": "My name is Ada."}
    first = npm.call(served.api, "responses.create", body)
    assert first.value["conversation"] == {"id": first.id}
    body = {"model": "hermes-demo", "input": "Who am I?", "previous_response_id": first.value["id"]}
    second = npm.call(served.api, "responses.create", {**body, "stream": True})
    assert second.text.endswith("the first was: My name is Ada.")
    assert second.value[-1]["type"] == "response.completed"
    got = npm.call(served.api, "responses.retrieve", second.value[-1]["response"]["id"])
    assert got.text == second.text
    assert "I remember 2 earlier messages" in npm.chat(served.api, "Hi", str(first.id)).text
    assert second.id == got.id == first.id


def test_a_response_in_the_background_is_followed(served: Demo, npm: Npm) -> None:
    """It is polled, followed from its beginning or a number, and read again by the helper."""
    body = {"model": "hermes-demo", "input": "one two three", "background": True}
    begun = npm.call(served.api, "responses.create", body)
    assert (begun.value["status"], begun.value["background"]) == ("in_progress", True)
    response_id = begun.value["id"]
    polled = begun
    while polled.value["status"] == "in_progress":
        polled = npm.call(served.api, "responses.retrieve", response_id)
    assert (polled.value["status"], polled.requests) == ("completed", 1)
    events = npm.call(served.api, "responses.retrieve", response_id, {"stream": True})
    assert [event["sequence_number"] for event in events.value] == [*range(len(events.value))]
    assert events.text == polled.text
    after = {"stream": True, "starting_after": 4}
    rest = npm.call(served.api, "responses.retrieve", response_id, after)
    assert rest.value == events.value[5:]
    helped = npm.call(
        served.api, "responses.stream", {"response_id": response_id, "starting_after": 4}
    )
    *told, final = helped.value
    assert final["response"]["output"][0]["content"][0]["text"] == polled.text
    assert [event["sequence_number"] for event in told] == [*range(5, len(events.value))]
    cancelled = npm.call(served.api, "responses.cancel", response_id)
    assert cancelled.value["status"] == "completed"
    streamed = npm.call(served.api, "responses.create", {**body, "stream": True})
    assert streamed.text.startswith("You said: one two three")
    foreground = npm.call(served.api, "responses.create", {**body, "background": False})
    refused = npm.call(served.api, "responses.cancel", foreground.value["id"])
    assert code_of(refused.error) == ("BadRequestError", 400, None)


def test_errors_tell_the_id(served: Demo, keyed: Demo, npm: Npm, session_id: str) -> None:
    """Every error's headers have a valid id: the client's own, or a new one for a bad one."""
    bad = npm.chat(served.api, "Hi", "a b")
    assert code_of(bad.error) == ("BadRequestError", 400, "invalid_session_id")
    assert bad.id is not None
    assert len(bad.id) == 32
    body = {"model": "x", "input": "a", "previous_response_id": UNKNOWN}
    unknown = npm.call(served.api, "responses.create", body, {"headers": {HEADER: session_id}})
    assert code_of(unknown.error) == ("NotFoundError", 404, "previous_response_not_found")
    wrong = npm.chat(keyed.api, "Hi", session_id, apiKey="wrong", maxRetries=DEFAULT_RETRIES)
    assert code_of(wrong.error) == ("AuthenticationError", 401, "invalid_api_key")
    assert unknown.id == wrong.id == session_id
    assert wrong.requests == 1


def test_a_key_of_another_request_is_a_final_conflict(
    served: Demo, npm: Npm, session_id: str
) -> None:
    """With an Idempotency-Key a request may be sent again; another one under it is not repeated."""
    options: dict[str, Any] = {"maxRetries": DEFAULT_RETRIES, "headers": {IDEMPOTENCY_KEY: "1"}}
    first = npm.chat(served.api, "a", session_id, **options)
    assert npm.chat(served.api, "a", session_id, **options).text == first.text
    reused = npm.chat(served.api, "b", session_id, **options)
    assert code_of(reused.error) == ("ConflictError", 409, "idempotency_key_reused")
    assert (reused.id, reused.requests) == (session_id, 1)
    assert len(served.stored(session_id)) == 2


def test_a_busy_conversation_is_a_conflict_that_passes(
    keyed: Demo, npm: Npm, session_id: str
) -> None:
    """While another turn is going on the SDK throws ConflictError, or waits and is answered."""
    keyed.occupy(session_id, 60)
    busy = npm.chat(keyed.api, "Hi", session_id, apiKey=API_KEY)
    assert code_of(busy.error) == ("ConflictError", 409, "session_busy")
    assert busy.id == session_id
    for _ in range(20):  # a machine that stands still may let the lease run out before
        other = a_session_id()
        keyed.occupy(other, 1)
        answer = npm.chat(keyed.api, "Hi", other, apiKey=API_KEY, maxRetries=DEFAULT_RETRIES)
        if answer.requests > 1:
            break
    assert answer.requests > 1
    assert "first message" in answer.text


def test_a_lost_answer_is_asked_for_again(served: Demo, npm: Npm, session_id: str) -> None:
    """What got no answer is repeated by the SDK, and with an Idempotency-Key stored once."""
    headers = {IDEMPOTENCY_KEY: "1"}
    with losing_answers(served.url) as (proxy, url):
        proxy.lose = 1
        answer = npm.chat(
            f"{url}/v1", "Hi", session_id, maxRetries=DEFAULT_RETRIES, headers=headers
        )
        assert proxy.lost == 1
    assert (answer.requests, answer.id) == (2, session_id)
    assert [m["content"] for m in served.stored(session_id)] == ["Hi", answer.text]
