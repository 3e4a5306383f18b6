"""Responses go on in the background: they are polled, followed, cancelled, and end as they do."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import httpx2
import openai
import pytest
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response as SDKResponse
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.failures import ModelRefused, error_body, upstream_failed
from demo_app.model import EchoModel
from hermes_session_mw import MemoryStore
from tests.demo.test_demo import stored, user
from tests.demo.test_demo_responses import (
    EVENT,
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
from tests.support.asgi import HEADER as RAW_HEADER
from tests.support.asgi import http_scope, lifespan


class Paced(EchoModel):
    """Says a word whenever the test allows one; or fails.

    Attributes:
        asked: how often it was asked.
        ended: how many answers have ended, in whatever way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.ended = 0
        self.restart()

    def restart(self) -> None:
        """Allow no words from now on."""
        self._allowed = threading.Semaphore(0)
        self._failure: Exception | None = None
        self._is_free = False

    def allow(self, words: int) -> None:
        """Allow this many words more."""
        if words:
            self._allowed.release(words)

    def finish(self) -> None:
        """Allow all words from now on."""
        self._is_free = True

    def fail(self, failure: Exception) -> None:
        """Fail at the next word."""
        self._failure = failure
        self._is_free = True

    async def stream(self, messages: Any, options: Any) -> Any:
        self.asked += 1
        try:
            async with aclosing(super().stream(messages, options)) as deltas:
                async for delta in deltas:
                    await self._may_go_on()
                    yield delta
        finally:
            self.ended += 1

    async def _may_go_on(self) -> None:
        while not (self._is_free or self._allowed.acquire(blocking=False)):  # noqa: ASYNC110
            await anyio.sleep(0.002)  # the test is another thread
        if self._failure is not None:
            raise self._failure


@pytest.fixture
def model() -> Paced:
    return Paced()


@pytest.fixture(params=["asyncio", "trio"])
def client(
    store: MemoryStore, model: Paced, request: pytest.FixtureRequest
) -> Iterator[TestClient]:
    """A client of the demo, whose lifespan runs."""
    app = create_app(store, keys=(), model=model, head_after=0.0)
    with TestClient(app, backend=request.param) as client:
        yield client


def begin(client: TestClient, text: str, *headers: dict[str, str], **body: Any) -> Any:
    """Begin a response in the background."""
    response = body_of(respond(client, text, *headers, background=True, **body))
    assert response["background"] is True
    return response


def got(client: TestClient, response_id: str) -> Any:
    """Return a response as it is by now, which the SDK's type accepts."""
    response = body_of(client.get(f"{PATH}/{response_id}"))
    SDKResponse.model_validate(response)
    return response


def said(response: Any) -> str:
    return SDKResponse.model_validate(response).output_text


def when(client: TestClient, response_id: str, text: str) -> Any:
    """Wait until a response has this text, and return it."""
    while said(response := got(client, response_id)) != text:
        assert response["status"] == "in_progress"
    return response


def ended(client: TestClient, response_id: str) -> Any:
    """Poll a response as the SDKs' users do, and return it as it ended."""
    while (response := got(client, response_id))["status"] in ("queued", "in_progress"):
        pass
    return response


def followed(client: TestClient, response_id: str, after: int | None = None) -> list[Any]:
    """Return the events of a response, from its first one or after a number."""
    params = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    events = events_of(client.get(f"{PATH}/{response_id}", params=params))
    for event in events:
        EVENT.validate_python(event)
    return events


WHOLE = "You said: a b c | This is your first message in this conversation."


def test_a_response_is_polled(client: TestClient, model: Paced, store: MemoryStore) -> None:
    """It is in progress at once, has what has come so far, and ends as any other."""
    begun = begin(client, "a b c", S, instructions="Be brief.", metadata={"a": "b"})
    assert (begun["status"], begun["output"]) == ("in_progress", [])
    assert (begun["instructions"], begun["conversation"]) == ("Be brief.", {"id": "s"})
    model.allow(2)
    so_far = when(client, begun["id"], "You said:")
    assert so_far["instructions"] is None
    assert {name: so_far[name] for name in ("id", "created_at", "metadata", "store")} == {
        name: begun[name] for name in ("id", "created_at", "metadata", "store")
    }
    assert stored(store, "s") == []
    model.finish()
    response = ended(client, begun["id"])
    assert (response["status"], said(response)) == ("completed", WHOLE)
    assert response["usage"]["total_tokens"] > 0
    assert response["background"] is True
    assert [message["role"] for message in stored(store, "s")] == ["user", "assistant"]
    assert model.asked == 1


def test_a_response_is_followed(client: TestClient, model: Paced) -> None:
    """From its first event, from any later one, while it runs and after its end."""
    begun = begin(client, "a b c", S)
    model.allow(3)
    when(client, begun["id"], "You said: a")
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(followed(client, begun["id"], 4)))
    thread.start()
    model.finish()
    thread.join(30)
    ended(client, begun["id"])
    events = followed(client, begun["id"])
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert seen == events[5:]
    for number in range(len(events)):
        assert followed(client, begun["id"], number) == events[number + 1 :]
    assert events[-1]["response"] == got(client, begun["id"])


def test_a_background_response_streams(client: TestClient, model: Paced) -> None:
    """Its first client gets the same events as those who come later."""
    model.finish()
    first = events_of(respond(client, "a b c", S, background=True, stream=True))
    response_id = first[0]["response"]["id"]
    assert first[0]["response"]["background"] is True
    assert followed(client, response_id) == first
    assert got(client, response_id) == first[-1]["response"]


def test_a_response_is_cancelled(client: TestClient, model: Paced, store: MemoryStore) -> None:
    """It keeps what has come; cancelling again returns the same, and its stream says so."""
    begun = begin(client, "a b c", S)
    model.allow(2)
    when(client, begun["id"], "You said:")
    path = f"{PATH}/{begun['id']}"
    cancelled = body_of(client.post(f"{path}/cancel"))
    assert (cancelled["status"], said(cancelled)) == ("cancelled", "You said:")
    assert cancelled["output"][0]["status"] == "incomplete"
    assert model.ended == 1
    assert body_of(client.post(f"{path}/cancel")) == got(client, begun["id"]) == cancelled
    events = followed(client, begun["id"])
    assert (events[-1]["type"], events[-1]["response"]) == ("response.incomplete", cancelled)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert followed(client, begun["id"], len(events) - 1) == []
    question, answer = stored(store, "s")
    assert question == user("a b c")
    assert (answer["content"], answer["status"]) == ("You said:", "incomplete")
    model.finish()
    again = respond(client, "b", S)  # the conversation is free
    assert text_of(again).startswith("You said: b")


def test_what_cannot_be_cancelled_is_told(client: TestClient, model: Paced) -> None:
    """One that is completed is returned as it is; one that is not in the background is a 400."""
    model.finish()
    begun = begin(client, "a", S)
    response = ended(client, begun["id"])
    assert body_of(client.post(f"{PATH}/{begun['id']}/cancel")) == response
    foreground = body_of(respond(client, "b", S))
    refused = client.post(f"{PATH}/{foreground['id']}/cancel")
    assert error_of(refused)[:2] == (400, "response_id")
    assert error_of(client.post(f"{PATH}/{UNKNOWN}/cancel"))[0] == 404


LIMITED = error_body("Slow down.", "rate_limit_error")
FAILURES = {
    "failed": (upstream_failed("the upstream failed"), "server_error", "the upstream failed"),
    "refused": (
        ModelRefused(error_body("No.", "invalid_request_error"), 400),
        "server_error",
        "No.",
    ),
    "limited": (ModelRefused(LIMITED, 429), "rate_limit_exceeded", "Slow down."),
    "unexpected": (ZeroDivisionError("a secret"), "server_error", "The server failed to answer."),
}


@pytest.mark.parametrize("words", [0, 2])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_a_response_that_failed_is_found(
    client: TestClient, model: Paced, failure: Any, words: int
) -> None:
    """With its error and what has come of it, by polling and by following it."""
    exception, code, message = failure
    begun = begin(client, "a b c", S)
    model.allow(words)
    when(client, begun["id"], "You said:" if words else "")
    model.fail(exception)
    response = ended(client, begun["id"])
    assert (response["status"], response["error"]) == ("failed", {"code": code, "message": message})
    assert said(response) == ("You said:" if words else "")
    *_, error, last = followed(client, begun["id"])
    assert (error["type"], error["code"], error["message"]) == ("error", code, message)
    assert (last["type"], last["response"]) == ("response.failed", response)


def test_a_failure_is_a_status_code_without_background(client: TestClient, model: Paced) -> None:
    """The client that waits for the whole response gets it, and the response is told as failed."""
    model.fail(upstream_failed("the upstream failed"))
    refused = respond(client, "a", S, K)
    assert refused.status_code == 502
    model.restart()
    model.finish()
    assert text_of(respond(client, "a", S, K)).startswith("You said: a")


def test_another_owner_finds_nothing(store: MemoryStore, model: Paced) -> None:
    """A response is unknown to others, running or not, and they change nothing of it."""
    with TestClient(create_app(store, keys=["ada", "eve"], model=model)) as client:
        client.headers["Authorization"] = "Bearer ada"
        begun = begin(client, "a")
        path = f"{PATH}/{begun['id']}"
        for _ in ("running", "completed"):
            client.headers["Authorization"] = "Bearer eve"
            for method, more in [
                ("GET", ""), ("GET", "?stream=true"), ("GET", "?stream=true&starting_after=0"),
                ("POST", "/cancel"), ("GET", "/input_items"), ("DELETE", ""),
            ]:  # fmt: skip
                assert error_of(client.request(method, f"{path}{more}"))[0] == 404
            refused = respond(client, "b", previous_response_id=begun["id"])
            assert error_of(refused)[0] == 404
            client.headers["Authorization"] = "Bearer ada"
            model.finish()
            assert ended(client, begun["id"])["status"] == "completed"


def test_a_response_says_its_methods(client: TestClient) -> None:
    """Another method than those of a response is a 405 that names them all."""
    refused = client.put("/v1/responses/resp_1")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


def test_a_running_response_is_deleted(
    client: TestClient, model: Paced, store: MemoryStore
) -> None:
    """It is stopped, and not found any more; what has come of it stays in the conversation."""
    begun = begin(client, "a b c", S)
    model.allow(2)
    when(client, begun["id"], "You said:")
    path = f"{PATH}/{begun['id']}"
    assert client.delete(path).json()["deleted"] is True
    assert model.ended == 1
    for method, more in ("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("DELETE", ""):
        assert error_of(client.request(method, f"{path}{more}"))[0] == 404
    assert [message["content"] for message in stored(store, "s")] == ["a b c", "You said:"]


@pytest.mark.parametrize("background", [True, False])
def test_a_repeated_request_joins_its_answer(
    client: TestClient, model: Paced, background: bool
) -> None:
    """Under its Idempotency-Key it gets the same response, and another one is a 409."""
    replies: list[Any] = []

    def ask(stream: bool) -> None:
        replies.append(respond(client, "a b c", S, K, stream=stream, background=background))

    threads = [threading.Thread(target=ask, args=(stream,)) for stream in (True, False, True)]
    for thread in threads:
        thread.start()
    while not model.asked:
        pass
    refused = respond(client, "x", S, K)
    assert error_of(refused)[::2] == (409, "idempotency_key_reused")
    if background:
        joined = begin(client, "a b c", S, K)
        assert joined["status"] == "in_progress"
    model.finish()
    for thread in threads:
        thread.join(60)
    bodies = [body_of(each) for each in replies]
    assert len(bodies) == 3
    whole = ended(client, bodies[0]["id"])
    assert model.asked == 1
    for body in bodies:
        assert body["id"] == whole["id"]
        assert body == whole or (background and body["status"] == "in_progress")
    replayed = [each.headers.get("Idempotency-Replayed") for each in replies]
    assert sorted(map(str, replayed)) == ["None", "true", "true"]


def test_a_request_without_a_key_joins_its_answer(client: TestClient, model: Paced) -> None:
    """The same request again, as after a cut, gets the same response; another one waits."""
    begun = begin(client, "a b c", S)
    again = respond(client, "a b c", S, background=True)
    assert (body_of(again)["id"], again.headers["Idempotency-Replayed"]) == (begun["id"], "true")
    model.finish()
    other = respond(client, "a b", S, background=True)
    assert body_of(other)["id"] != begun["id"]
    assert "Idempotency-Replayed" not in other.headers
    assert ended(client, begun["id"])["status"] == "completed"
    ended(client, body_of(other)["id"])
    assert model.asked == 2


def test_requests_at_once_without_a_key_are_one(
    client: TestClient, model: Paced, store: MemoryStore
) -> None:
    """Requests that are sent twice at once ask the model once, and get the same response."""
    anyio.run(store.append, "s", [{"role": "user", "content": "Hi."}])
    replies: list[Any] = []

    def ask() -> None:
        replies.append(begin(client, "a b c", S))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    model.finish()
    (one,) = {reply["id"] for reply in replies}
    assert ended(client, one)["status"] == "completed"
    assert (len(replies), model.asked) == (3, 1)


def forget(store: MemoryStore) -> None:
    """Remove the logs of all answers that have ended."""
    while anyio.run(store.sweep_answers, 0.0):
        pass


def test_a_response_outlives_its_log(client: TestClient, model: Paced, store: MemoryStore) -> None:
    """It is followed from the beginning; where it cannot go on from a number, it says so."""
    model.finish()
    begun = begin(client, "a b c", S)
    response = ended(client, begun["id"])
    forget(store)
    assert got(client, begun["id"]) == response
    events = followed(client, begun["id"])
    assert (events[0]["type"], events[-1]["response"]) == ("response.created", response)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    params = {"stream": "true", "starting_after": "3"}
    refused = client.get(f"{PATH}/{begun['id']}", params=params)
    assert error_of(refused) == (400, "starting_after", "events_expired")
    assert body_of(client.post(f"{PATH}/{begun['id']}/cancel")) == response


def test_what_broke_off_is_forgotten_with_its_log(
    client: TestClient, model: Paced, store: MemoryStore
) -> None:
    """Only a completed response is kept; its question and what has come are in the history."""
    begun = begin(client, "a b c", S)
    body_of(client.post(f"{PATH}/{begun['id']}/cancel"))
    forget(store)
    assert error_of(client.get(f"{PATH}/{begun['id']}"))[0] == 404
    assert stored(store, "s")[0] == user("a b c")


@pytest.mark.parametrize(
    ("params", "refused"),
    [
        ({"stream": "yes"}, ("stream", None)),
        ({"stream": ""}, ("stream", None)),
        ({"stream": ["true", "true"]}, ("stream", None)),
        ({"stream": "true", "starting_after": "-1"}, ("starting_after", None)),
        ({"stream": "true", "starting_after": "x"}, ("starting_after", None)),
        ({"starting_after": "1.5"}, ("starting_after", None)),
        ({"stream": "true", "starting_after": ["1", "2"]}, ("starting_after", None)),
        ({"stream": "true", "starting_after": "99"}, ("starting_after", "invalid_cursor")),
        ({"stream": "true", "after": "1"}, ("after", "unknown_parameter")),
    ],
)
@pytest.mark.parametrize("state", ["running", "completed"])
def test_bad_parameters_are_refused_by_name(
    client: TestClient, model: Paced, params: Any, refused: Any, state: str
) -> None:
    """They are a 400, whatever the response's state."""
    begun = begin(client, "a", S)
    if state == "completed":
        model.finish()
        ended(client, begun["id"])
    assert error_of(client.get(f"{PATH}/{begun['id']}", params=params)) == (400, *refused)


def test_a_head_has_no_events(client: TestClient, model: Paced) -> None:
    """HEAD says what GET would send, and does not wait for the answer."""
    begun = begin(client, "a", S)
    head = client.head(f"{PATH}/{begun['id']}", params={"stream": "true"})
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert "application/json" in client.head(f"{PATH}/{begun['id']}").headers["content-type"]
    model.finish()


def test_what_is_made_in_the_background_is_stored(client: TestClient, model: Paced) -> None:
    """Where nothing is stored it could not be found again: a 400."""
    for headers, body in (S, {"store": False}), ({**S, "X-Hermes-Turn": "none"}, {}):
        refused = respond(client, "a", headers, background=True, **body)
        assert error_of(refused)[:2] == (400, "background")
    assert model.asked == 0


def test_a_response_goes_on_from_one_that_runs(client: TestClient, model: Paced) -> None:
    """It waits for its end."""
    begun = begin(client, "a", S)
    replies: list[Any] = []

    def follow_up() -> None:
        replies.append(respond(client, "b", previous_response_id=begun["id"]))

    thread = threading.Thread(target=follow_up)
    thread.start()
    model.finish()
    thread.join(30)
    assert "I remember 1 earlier message; the first was: a" in text_of(replies[0])
    assert body_of(replies[0])["conversation"] == {"id": "s"}


def test_the_input_of_a_running_response_is_listed(client: TestClient, model: Paced) -> None:
    """Its items have the ids that they have afterwards."""
    model.finish()
    respond(client, "a", S)
    model.restart()
    begun = begin(client, "a", S)
    path = f"{PATH}/{begun['id']}/input_items"
    running = client.get(path).json()
    assert [item["content"][0]["text"] for item in running["data"]] == ["a"]
    body_of(client.post(f"{PATH}/{begun['id']}/cancel"))
    assert client.get(path).json() == running
    model.finish()
    again = begin(client, "b", S)
    running = client.get(f"{PATH}/{again['id']}/input_items").json()
    ended(client, again["id"])
    assert client.get(f"{PATH}/{again['id']}/input_items").json() == running


def test_an_answer_in_another_dialect_is_no_response(
    client: TestClient, model: Paced, store: MemoryStore
) -> None:
    """A chat whose Idempotency-Key is a response's id is not told as that response."""
    headers = {**S, "Idempotency-Key": UNKNOWN}

    def chat() -> None:
        client.post("/v1/chat/completions", json={"messages": [user("a")]}, headers=headers)

    thread = threading.Thread(target=chat)
    thread.start()
    model.allow(1)
    while not model.asked:
        pass
    anyio.run(store.move_key, f"\u00a7response:{UNKNOWN}", "s")
    for params in {}, {"stream": "true"}:
        assert error_of(client.get(f"{PATH}/{UNKNOWN}", params=params))[0] == 404
    model.finish()
    thread.join(30)


@asynccontextmanager
async def leaving(app: Any, *headers: tuple[bytes, bytes], **body: Any) -> AsyncIterator[str]:
    """Have a client get a response's first text, yield its id, and let it leave meanwhile."""
    text, has_text, leaves = "", anyio.Event(), anyio.Event()
    sent = [json.dumps({"input": "a b c", "stream": True, **body}).encode()]

    async def receive() -> Any:
        if sent:
            return {"type": "http.request", "body": sent.pop(), "more_body": False}
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal text
        text += message.get("body", b"").decode()
        if "_text.delta" in text:
            has_text.set()

    scope = http_scope([(RAW_HEADER, b"s"), *headers], method="POST", path=PATH)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, scope, receive, send)
        await has_text.wait()
        leaves.set()
        yield json.loads(text.split("\n")[1].removeprefix("data: "))["response"]["id"]


STOP, GO_ON = (b"x-hermes-on-disconnect", b"stop"), (b"x-hermes-on-disconnect", b"continue")


@pytest.mark.parametrize(
    ("default", "headers", "background", "stops"),
    [
        ("continue", [], False, False),
        ("stop", [], False, True),
        ("continue", [STOP], False, True),
        ("stop", [GO_ON], False, False),
        ("stop", [STOP], True, False),
    ],
)
async def test_who_leaves_a_response(
    model: Paced, default: Any, headers: Any, background: bool, stops: bool
) -> None:
    """It stops if the client says so, or else the operator; in the background it goes on."""
    store = MemoryStore()
    app = create_app(store, keys=(), model=model, on_disconnect=default)
    model.allow(2)
    async with lifespan(app), asgi_client(app) as client:
        async with leaving(app, *headers, background=background) as response_id:
            pass
        with anyio.fail_after(30):
            while stops and not model.ended:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            model.finish()
            response = {"status": "in_progress"}
            while response["status"] == "in_progress":
                response = (await client.get(f"{PATH}/{response_id}")).json()
    question, answer = (await store.load("s")).messages
    assert question == user("a b c")
    if stops:
        assert (response["status"], answer["status"]) == ("cancelled", "incomplete")
        assert answer["content"] == "You said:"
    else:
        assert (response["status"], answer["content"]) == ("completed", WHOLE)
    assert model.asked == 1


def asgi_client(app: Any) -> httpx2.AsyncClient:
    """Return a client of the application, without a server."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://demo")


def test_openais_helper_reads_a_replay(client: TestClient, model: Paced) -> None:
    """The SDK's own assembly of the events comes to the response."""
    model.finish()
    begun = begin(client, "a b c", S)
    response = ended(client, begun["id"])
    state = ResponseStreamState(text_format=openai.omit, input_tools=openai.omit)
    for event in followed(client, begun["id"]):
        state.handle_event(EVENT.validate_python(event))
    assert state._completed_response is not None
    assert state._completed_response.output_text == said(response)
