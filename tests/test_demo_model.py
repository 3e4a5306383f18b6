"""The model behind the demo: an object, which answers piece by piece and may fail."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.model import Delta, EchoModel, Model
from hermes_session_mw import MemoryStore
from hermes_session_mw.messages import Message

from .asgi import HEADER as RAW_HEADER
from .asgi import http_scope
from .test_demo import CHAT, HEADER, ask, chunks_of, stored, text_of, user
from .test_demo_responses import S, body_of, respond


class OwnModel(EchoModel):
    """Gives what it was made of, and raises what is among it."""

    name = "own"

    def __init__(self, *deltas: Delta | Exception) -> None:
        super().__init__()
        self.deltas = deltas
        self.asked: list[Any] = []
        self.open = 0

    async def stream(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append((list(messages), dict(options)))
        self.open += 1
        try:
            for delta in self.deltas:
                await checkpoint()
                if isinstance(delta, Exception):
                    raise delta
                yield delta
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        self.deltas = ()


@pytest.fixture
def store() -> MemoryStore:
    """Where the demo of this test keeps its conversations."""
    return MemoryStore()


def client_of(store: MemoryStore, model: Model) -> TestClient:
    return TestClient(create_app(store, keys=(), model=model), raise_server_exceptions=False)


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Whether the answers of this test are streamed."""
    return bool(request.param)


async def test_the_built_in_model_takes_its_time_between_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first word comes at once, and each other one after the pace."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    deltas = [delta async for delta in EchoModel(pace=0.5).stream([user("a b")], {})]
    text = "".join(delta.text for delta in deltas)
    assert text == "You said: a b | This is your first message in this conversation."
    assert slept == [0] + [0.5] * (len(text.split()) - 1)
    assert (deltas[-1].finish_reason, len(deltas)) == ("stop", len(slept) + 1)


def test_a_model_of_ones_own_answers(store: MemoryStore, stream: bool) -> None:
    """What it says is passed on: its text, its name, why it ended, and what it cost."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    model = OwnModel(
        Delta(model="own-2"), Delta("Good"), Delta(" day."),
        Delta(finish_reason="length"), Delta(usage=usage),
    )  # fmt: skip
    told = {"stream_options": {"include_usage": True}} if stream else {}
    with client_of(store, model) as client:
        response = ask(client, user("Hi"), session_id="s", stream=stream, seed=7, **told)
        last, *_ = reversed(chunks_of(response)) if stream else [response.json()]
        assert (text_of(response), last["model"], last["usage"]) == ("Good day.", "own-2", usage)
        ends = [choice["finish_reason"] for chunk in chunks_of(response) for choice in
                chunk["choices"]] if stream else [last["choices"][0]["finish_reason"]]  # fmt: skip
        assert ends[-1] == "length"
        made = respond(client, "And?", S, stream=stream, model="asked")
        assert (body_of(made)["model"], body_of(made)["usage"]["output_tokens"]) == ("own-2", 2)
        assert client.get(f"/v1/responses/{body_of(made)['id']}").json() == body_of(made)
    assert [options for _, options in model.asked] == [{"seed": 7}, {"model": "asked"}]
    assert [len(messages) for messages, _ in model.asked] == [1, 3]
    assert model.deltas == ()  # closed with the app


def test_a_model_that_fails_at_once_is_an_error(store: MemoryStore, stream: bool) -> None:
    """Before its first piece the failure is a status, also of a stream; the question is kept."""
    client = client_of(store, OwnModel(LookupError("inner secret")))
    for response in (
        ask(client, user("Hi"), session_id="s", stream=stream),
        respond(client, "Ho", S, stream=stream),
    ):
        assert (response.status_code, response.headers[HEADER]) == (500, "s")
        assert response.json()["error"]["type"] == "server_error"
    assert stored(store, "s") == [user("Hi"), user("Ho")]


def test_a_model_need_not_tell_its_usage(store: MemoryStore, stream: bool) -> None:
    """Where nobody knows what an answer cost, the usage is null."""
    with client_of(store, OwnModel(Delta("Hi."))) as client:
        assert body_of(respond(client, "a", S, stream=stream))["usage"] is None
        assert ask(client, user("b"), session_id="s").json()["usage"] is None


async def test_a_client_that_leaves_before_the_first_event_leaves_nothing_open() -> None:
    """The model's generator is closed though nobody began to read the stream."""
    store, model = MemoryStore(), OwnModel(Delta("a"), Delta("b"))
    log: list[Any] = []

    async def receive() -> Any:
        body = b'{"stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        log.append(message)
        raise OSError("the client has left")

    scope = http_scope([(RAW_HEADER, b"s")], method="POST", path=CHAT)
    with pytest.raises(ClientDisconnect):
        await create_app(store, keys=(), model=model)(scope, receive, send)
    assert (len(log), len(model.asked), model.open) == (1, 1, 0)
    assert (await store.load("s")).messages == [user("Hi")]
