"""The demo's chats go on without their clients, which come back, join, stop and follow them."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from demo_app import turns
from demo_app.app import create_app
from demo_app.failures import ModelRefused, error_body, upstream_failed
from demo_app.model import EchoModel
from hermes_session_mw import (
    ConfigurationError,
    HermesSession,
    MemoryStore,
    SQLAlchemyStore,
    Store,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.reply import Delta
from tests.demo.test_demo import CHAT, user
from tests.support.answers import Client
from tests.support.answers import Model as Producer
from tests.support.asgi import lifespan

KEY = (b"idempotency-key", b"k")
LEAVING = b"x-hermes-on-disconnect"
STREAMED: dict[str, Any] = {"stream": True}
WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}

each_way = pytest.mark.parametrize("streams", [True, False], ids=["streamed", "plain"])


class TestModel(EchoModel):
    """A model whose answers are given by the test, all alike."""

    __test__ = False
    name = "test"

    def __init__(self) -> None:
        super().__init__()
        self.answer = Producer()
        self.asked = anyio.Event()

    def says(self, *pieces: Any) -> None:
        """Give pieces: texts, deltas, or an exception that is raised."""
        self.answer.say(*(Delta(each) if isinstance(each, str) else each for each in pieces))

    async def stream(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        del messages, options
        self.asked.set()
        async for delta in self.answer.pieces():
            yield delta


@asynccontextmanager
async def serving(*stores: Store, **options: Any) -> AsyncIterator[tuple[TestModel, list[Any]]]:
    """Run a demo for each store, as processes do; yield their model, and the applications."""
    model = TestModel()
    async with AsyncExitStack() as stack:
        apps = [create_app(each, keys=(), model=model, **options) for each in stores]
        for app in apps:
            await stack.enter_async_context(lifespan(app))
        yield model, apps


def chat(app: Any, *headers: tuple[bytes, bytes], text: str = "Hi", **body: Any) -> Client:
    """Return a client that chats in the session "id"."""
    asked = json.dumps({"messages": [user(text)], **body}).encode()
    return Client(app, *headers, body=asked, method="POST", path=CHAT)


def header(client: Client, name: bytes) -> bytes | None:
    """Return a header of the response."""
    return dict(client.messages[0]["headers"]).get(name)


def chunks(client: Client) -> list[Any]:
    """Return the chunks so far."""
    return [json.loads(each) for each in client.data if each != "[DONE]"]


async def get(app: Any, path: str, method: str = "GET", query: bytes = b"") -> Client:
    """Return the answer to a request without a body."""
    client = Client(app, method=method, path=path, query_string=query)
    await client.run()
    return client


async def until_asked(model: TestModel) -> None:
    """Wait until the model is asked."""
    with anyio.fail_after(30):
        await model.asked.wait()


async def until_stored(store: Any, count: int = 2) -> list[Message]:
    """Wait until the session has so many messages, and return them."""
    with anyio.fail_after(30):
        while len(messages := (await store.load("id")).messages) < count:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return list(messages)


async def until_logged(store: Any, text: str) -> None:
    """Wait until the running answer has a text in its log."""
    answer = await store.open_answer("id")
    with anyio.fail_after(30):
        while text not in str(await store.read_events(answer.id)):  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Waits until a request has found the answer of an earlier one."""
    is_joined = anyio.Event()
    mark_replayed = HermesSession.mark_replayed

    def mark(session: HermesSession) -> None:
        mark_replayed(session)
        is_joined.set()

    async def wait() -> None:
        with anyio.fail_after(30):
            await is_joined.wait()

    monkeypatch.setattr(HermesSession, "mark_replayed", mark)
    return wait


@pytest.fixture
def pair(tmp_path: Path) -> list[SQLAlchemyStore]:
    """One database, as two processes have it."""
    return [SQLAlchemyStore(f"sqlite:///{tmp_path}/s.db") for _ in range(2)]


@each_way
async def test_an_answer_goes_on_without_its_client(streams: bool) -> None:
    """It is stored whole, the conversation has its title, and a repeated request is answered."""
    store = MemoryStore()
    async with serving(store) as (model, (app,)):
        first = chat(app, KEY, stream=streams)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            await until_asked(model)
            model.says("one ")
            if streams:
                await first.sees("one ")
            first.leave()
            if streams:
                await first.done.wait()
            model.says("two")
            model.answer.end()
            stored = await until_stored(store)
        again = chat(app, KEY)
        await again.run()
    assert [each["content"] for each in stored] == ["Hi", "one two"]
    assert "status" not in stored[1]
    info = await store.info("id")
    assert info is not None
    assert info.title == "Hi"
    answer = json.loads(again.text)
    assert answer["choices"][0]["message"]["content"] == "one two"
    assert header(again, b"idempotency-replayed") == b"true"
    assert model.answer.asked == 1


@each_way
@pytest.mark.parametrize(
    ("option", "wish"), [("stop", None), ("continue", b"stop"), ("stop", b"continue")]
)
async def test_a_client_that_leaves_may_stop_its_answer(
    streams: bool, option: str, wish: bytes | None
) -> None:
    """The operator says what becomes of it, and the client's own word takes precedence."""
    store = MemoryStore()
    async with serving(store, on_disconnect=option) as (model, (app,)):
        client = chat(app, *([] if wish is None else [(LEAVING, wish)]), stream=streams)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            await until_asked(model)
            model.says("one ")
            await until_logged(store, "one ")
            client.leave()
            if wish == b"continue":
                model.says("two")
                model.answer.end()
            stored = await until_stored(store)
    assert stored[0] == user("Hi")
    assert stored[1].get("status") == (None if wish == b"continue" else "incomplete")


def test_what_a_leaving_client_means_is_checked() -> None:
    """An option that is neither of both is refused."""
    option: Any = "pause"
    with pytest.raises(ConfigurationError, match="--on-disconnect"):
        create_app(MemoryStore(), keys=(), on_disconnect=option)


@pytest.mark.parametrize("other", [0, 1], ids=["same process", "another process"])
@pytest.mark.parametrize("first_streams", [True, False], ids=["streamed", "plain"])
@each_way
async def test_a_repeated_request_joins_the_running_answer(
    pair: list[SQLAlchemyStore],
    joined: Callable[[], Awaitable[None]],
    other: int,
    first_streams: bool,
    streams: bool,
) -> None:
    """Under its key it gets the same answer, from its beginning, and the model is asked once."""
    async with serving(*pair) as (model, apps):
        first = chat(apps[0], KEY, **(WITH_USAGE if first_streams else {}))
        second = chat(apps[other], KEY, **(STREAMED if streams else {}))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            await until_asked(model)
            model.says("one ", Delta(choice={"logprobs": {"content": [{"token": "a"}]}}))
            tasks.start_soon(second.run)
            await joined()
            if streams:
                await second.sees("one ")
            call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
            model.says("two", Delta(fields={"tool_calls": [call]}, beside={"citations": ["u"]}))
            model.says(Delta(usage=USAGE, finish_reason="tool_calls"))
            model.answer.end()
        third = chat(apps[0], KEY)
        await third.run()
    assert model.answer.asked == 1
    assert [header(each, b"idempotency-replayed") for each in (first, second, third)] == [
        None, b"true", b"true",
    ]  # fmt: skip
    told = [whole(each) for each in (first, second)]
    assert told[0]["choices"] == told[1]["choices"]
    assert told[0]["choices"][0]["message"]["content"] == "one two"
    assert {each["id"] for each in told} == {json.loads(third.text)["id"]}
    assert told[1].get("usage") == (None if streams else USAGE)
    if first_streams and streams:
        *events, usage = chunks(first)
        assert (events, usage["usage"]) == (chunks(second), USAGE)
        cursors = [each["event_id"].rpartition(":") for each in [*events, usage]]
        assert [int(number) for *_, number in cursors] == [*range(1, len(cursors) + 1)]
        assert len({name for name, *_ in cursors}) == 1


def whole(client: Client) -> Any:
    """Return an answer as one object, of a stream that ends as it should."""
    if header(client, b"content-type") == b"application/json":
        return json.loads(client.text)
    assert client.data[-1] == "[DONE]"
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    made: dict[str, Any] = {"choices": [{"index": 0, "message": message}]}
    for chunk in chunks(client):
        made["id"] = chunk["id"]
        made |= {name: chunk[name] for name in ("usage",) if name in chunk}
        for choice in chunk["choices"]:
            delta = dict(choice["delta"])
            message["content"] += delta.pop("content", "")
            for call in delta.pop("tool_calls", []):
                message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"}]
            made["choices"][0] |= {
                name: value
                for name, value in choice.items()
                if name not in ("index", "delta") and value is not None
            }
    return made


@pytest.mark.parametrize("key", [[KEY], []], ids=["a key", "no key"])
async def test_two_requests_at_once_are_one(
    pair: list[SQLAlchemyStore], key: Sequence[tuple[bytes, bytes]]
) -> None:
    """Whichever begins the answer, the other one waits for it and joins it."""
    async with serving(*pair) as (model, apps):
        clients = [chat(app, *key, stream=True) for app in apps]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.run)
            model.says("one")
            for client in clients:
                await client.sees("one")
            model.answer.end()
    assert model.answer.asked == 1
    assert chunks(clients[0]) == chunks(clients[1])
    assert len(await until_stored(pair[0])) == 2


@pytest.mark.parametrize("other", [0, 1], ids=["same process", "another process"])
async def test_another_request_under_the_key_is_a_409_meanwhile(
    pair: list[SQLAlchemyStore], other: int
) -> None:
    """As it is after the answer's end."""
    async with serving(*pair) as (model, apps):
        first = chat(apps[0], KEY, stream=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            await until_asked(model)
            for body in ({"text": "Ho"}, {"temperature": 0}):
                refused = chat(apps[other], KEY, **body)
                await refused.run()
                assert (refused.status, header(refused, b"x-should-retry")) == (409, b"false")
                assert json.loads(refused.text)["error"]["code"] == "idempotency_key_reused"
                assert header(refused, b"idempotency-replayed") is None
            model.answer.end()


@pytest.mark.parametrize("key", [(), [(b"idempotency-key", b"other")]], ids=["no key", "other"])
async def test_another_request_waits_for_the_running_answer(
    monkeypatch: pytest.MonkeyPatch, key: Sequence[tuple[bytes, bytes]]
) -> None:
    """It is answered once the answer has ended, and else is told when to come back."""
    async with serving(MemoryStore()) as (model, (app,)):
        first, second = chat(app, KEY, stream=True), chat(app, *key, text="Ho")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            await until_asked(model)
            with monkeypatch.context() as patched:
                patched.setattr(turns, "WAIT", 0)
                refused = chat(app, *key, text="Ho")
                await refused.run()
            assert refused.status == 409
            assert json.loads(refused.text)["error"]["code"] == "session_busy"
            assert 1 <= int(header(refused, b"retry-after") or b"") <= 6
            tasks.start_soon(second.run)
            model.answer.end()
    assert (second.status, model.answer.asked) == (200, 2)


async def test_the_question_is_durable_before_the_model_is_asked(
    pair: list[SQLAlchemyStore],
) -> None:
    """Whoever loads the running answer finds it, and the history has it at the end."""
    async with serving(*pair) as (model, apps):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(chat(apps[0], stream=True).run)
            await until_asked(model)
            answer = await pair[1].open_answer("id")
            assert answer is not None
            assert (answer.question, answer.state) == ([user("Hi")], "running")
            assert (await pair[1].load("id")).messages == []
            model.says("one")
            model.answer.end()
        assert len(await until_stored(pair[1])) == 2


@pytest.mark.parametrize("other", [0, 1], ids=["same process", "another process"])
@each_way
async def test_an_answer_is_stopped(pair: list[SQLAlchemyStore], other: int, streams: bool) -> None:
    """The model is let go, what came is stored, and the client is told that it is not whole."""
    async with serving(*pair) as (model, apps):
        client = chat(apps[0], KEY, stream=streams)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            await until_asked(model)
            model.says("one ")
            await until_logged(pair[1], "one ")
            stop = await get(apps[other], "/v1/sessions/id/answer/stop", "POST")
            assert stop.status == 202
            with anyio.fail_after(30):
                await model.answer.ended.wait()
        stored = await until_stored(pair[1])
        stop = await get(apps[other], "/v1/sessions/id/answer/stop", "POST")
        assert stop.status == 204
        model.answer = Producer()
        model.says("all")
        model.answer.end()
        again = chat(apps[other], KEY)
        await again.run()
    assert stored == [user("Hi"), {"role": "assistant", "content": "one ", "status": "incomplete"}]
    told = (chunks(client)[-1] if streams else json.loads(client.text))["error"]
    assert told["code"] == "answer_stopped"
    assert (client.status, "[DONE]" in client.text) == (200 if streams else 409, False)
    assert json.loads(again.text)["choices"][0]["message"]["content"] == "all"


FAILURES = {
    "at once": ([], upstream_failed("gone", 504), 504),
    "later": (["one "], upstream_failed("gone", 504), 504),
    "refused": ([], ModelRefused(error_body("no", "invalid_request_error"), 422), 422),
}


@pytest.mark.parametrize("other", [0, 1], ids=["same process", "another process"])
@pytest.mark.parametrize(("pieces", "failure", "status"), FAILURES.values(), ids=FAILURES)
@each_way
async def test_a_failure_is_told_to_all(
    pair: list[SQLAlchemyStore],
    joined: Callable[[], Awaitable[None]],
    other: int,
    streams: bool,
    pieces: list[str],
    failure: Exception,
    status: int,
) -> None:
    """It is a status code for whom nothing was sent yet, and else an event."""
    async with serving(*pair, head_after=30) as (model, apps):
        first = chat(apps[0], KEY, stream=streams)
        second = chat(apps[other], KEY, stream=streams)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            await until_asked(model)
            model.says(*pieces)
            tasks.start_soon(second.run)
            await joined()
            for client in (first, second) if pieces and streams else ():
                await client.sees(pieces[0])
            model.says(failure)
        stored = (await pair[1].load("id")).messages
    for client in (first, second):
        told = chunks(client)[-1] if streams and pieces else json.loads(client.text)
        assert told["error"]["message"] == str(failure)
        assert client.status == (200 if streams and pieces else status)
    assert len(stored) == (0 if status == 422 else 1 + len(pieces))
