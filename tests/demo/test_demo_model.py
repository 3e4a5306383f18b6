"""The model behind the demo: an object, which answers piece by piece and may fail."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import anyio
import openai
import pytest
from anyio.lowlevel import checkpoint
from openai.lib.streaming.chat import ChatCompletionStreamState
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.failures import ModelRefused, error_body
from demo_app.model import EchoModel, Model
from hermes_session_mw import MemoryStore, StoreUnavailable, TurnLost
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.reply import Delta
from tests.asgi.test_middleware import FailingStore
from tests.demo.test_demo import CHAT, HEADER, ask, chunks_of, stored, text_of, user
from tests.demo.test_demo_responses import S, body_of, respond
from tests.demo.test_demo_turns import KEY, SOURCE
from tests.support.asgi import HEADER as RAW_HEADER
from tests.support.asgi import http_scope, lifespan


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


def client_of(store: MemoryStore, model: Model) -> TestClient:
    return TestClient(create_app(store, keys=(), model=model), raise_server_exceptions=False)


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
        assert body_of(made)["status"] == "incomplete"
        assert body_of(made)["incomplete_details"] == {"reason": "max_output_tokens"}
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


def test_an_answer_whose_turn_was_lost_is_an_error(stream: bool) -> None:
    """Where another has taken the turn, the answer is not given as whole."""

    class Losing(MemoryStore):
        async def end_answer(self, *_: Any, **__: Any) -> int | None:
            raise TurnLost

    response = ask(client_of(Losing(), OwnModel(Delta("a"))), user("Hi"), stream=stream)
    told = chunks_of(response)[-1] if stream else response.json()
    assert "another" in told["error"]["message"]
    assert (response.status_code, "[DONE]" in response.text) == (200 if stream else 409, False)


CALL = {"id": "call_1", "type": "function", "function": {"name": "sum", "arguments": '{"a":1}'}}
CALLS = [CALL, CALL | {"id": "call_2"}]
PIECES = [
    Delta(fields={"tool_calls": [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "sum"}}]}),
    Delta(fields={"tool_calls": [
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "sum"}}]}),
    Delta(fields={"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}},
                                 {"index": 1, "function": {"arguments": '{"a":1}'}}]}),
    Delta(fields={"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    Delta(finish_reason="tool_calls"),
]  # fmt: skip
RESULTS = [{"role": "tool", "tool_call_id": each["id"], "content": "3"} for each in CALLS]
CALLING = {"role": "assistant", "content": None, "tool_calls": CALLS}


def calls_in(response: Any) -> Any:
    """Return the calls of a response, put together as a client does, and why it ended."""
    if response.headers["content-type"] == "application/json":
        choice = response.json()["choices"][0]
        assert choice["message"]["content"] is None
        return choice["message"]["tool_calls"], choice["finish_reason"]
    chunks = [openai.types.chat.ChatCompletionChunk.model_validate(c) for c in chunks_of(response)]
    state: Any = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    choice = state.get_final_completion().choices[0]
    calls = [
        {"id": c.id, "type": c.type,
         "function": {"name": c.function.name, "arguments": c.function.arguments}}
        for c in choice.message.tool_calls
    ]  # fmt: skip
    return calls, choice.finish_reason


@pytest.mark.parametrize("source", [{}, {SOURCE: "request"}], ids=["session", "request"])
def test_a_tool_is_called_and_its_result_answered(
    store: MemoryStore, stream: bool, source: dict[str, str]
) -> None:
    """Calls are passed on and stored whole, and the results at a body's end are the next turn."""
    model = OwnModel(*PIECES)
    with client_of(store, model) as client:
        client.headers.update({HEADER: "s", KEY: "1"})
        for each in (stream, not stream):  # the second one is told again
            response = ask(client, user("1 + 1?"), stream=each, tools=[{"type": "function"}])
            assert calls_in(response) == (CALLS, "tool_calls")
        assert stored(store, "s") == [user("1 + 1?"), CALLING]
        model.deltas = (Delta("It is 3."), Delta(finish_reason="stop"))
        client.headers.update({KEY: "2", **source})
        for each in (stream, not stream):
            response = ask(client, user("1 + 1?"), CALLING, *RESULTS, stream=each)
            assert text_of(response) == "It is 3."
        assert [messages for messages, _ in model.asked] == [
            [user("1 + 1?")], [user("1 + 1?"), CALLING, *RESULTS],
        ]  # fmt: skip
    assert len(stored(store, "s")) == 5


def test_results_alone_go_on_in_the_session(store: MemoryStore) -> None:
    """A client that keeps no history sends the results, once more if it got no whole answer."""
    model = OwnModel(*PIECES)
    with client_of(store, model) as client:
        ask(client, user("1 + 1?"), session_id="s")
        model.deltas = (Delta("It"), LookupError("gone"))
        assert ask(client, *RESULTS, session_id="s").status_code == 500
        model.deltas = (Delta("It is 3."),)
        for _ in range(2):
            assert text_of(ask(client, *RESULTS, session_id="s")) == "It is 3."
    assert [message["role"] for message in stored(store, "s")] == [
        "user", "assistant", "tool", "tool", "assistant",
    ]  # fmt: skip


STRAY: dict[str, list[Any]] = {
    "no calls": [user("Hi"), *RESULTS],
    "nothing before": RESULTS,
    "not all": [user("Hi"), CALLING, RESULTS[0]],
    "one twice": [user("Hi"), CALLING, RESULTS[0], RESULTS[0]],
    "calls that are none": [user("Hi"), CALLING | {"tool_calls": 1}, *RESULTS],
    "no id": [user("Hi"), CALLING, {"role": "tool", "content": "3"}],
}


@pytest.mark.parametrize("messages", STRAY.values(), ids=STRAY)
def test_results_that_nobody_asked_for_are_a_400(store: MemoryStore, messages: list[Any]) -> None:
    """Nothing is answered or stored, whether they are told or the session is gone on in."""
    with client_of(store, OwnModel(Delta("No."))) as client:
        for session_id in (None, "s"):
            response = ask(client, *messages, session_id=session_id)
            assert response.status_code == 400
            assert response.json()["error"]["param"].startswith("messages")
            assert stored(store, response.headers[HEADER]) == []


def test_results_wait_for_a_history_that_can_be_read() -> None:
    """Where the calls cannot be read, nobody knows whether the results belong to them."""
    client = TestClient(create_app(FailingStore(StoreUnavailable("gone")), keys=()))
    assert ask(client, *RESULTS, session_id="s").status_code == 503


def test_the_built_in_model_takes_a_result_for_a_message(store: MemoryStore) -> None:
    """Where the user has said nothing, it answers what was said last."""
    with client_of(store, EchoModel()) as client:
        response = ask(client, CALLING, *RESULTS)
    assert text_of(response).startswith("You said: 3 |")


def test_more_than_one_answer_is_refused(store: MemoryStore) -> None:
    """A conversation goes on from one answer, so that "n" is 1."""
    with client_of(store, EchoModel()) as client:
        assert ask(client, user("Hi"), n=1).status_code == 200
        assert ask(client, user("Hi"), n=2).json()["error"]["param"] == "n"


@pytest.mark.parametrize(
    "refusal",
    [ModelRefused(error_body("no", "invalid_request_error"), 400), InvalidRequest("too deep")],
    ids=["by the model", "by the demo"],
)
def test_a_request_that_is_refused_changes_nothing(
    store: MemoryStore, stream: bool, refusal: Exception
) -> None:
    """An edit, or a retry of what broke off, leaves the history as it was where it is refused."""
    model = OwnModel(Delta("a"))
    with client_of(store, model) as client:
        ask(client, user("Hi"), session_id="s")
        client.headers[HEADER] = "s"
        model.deltas = (Delta("half"), LookupError("gone"))
        ask(client, user("Ho"), session_id="s")
        before = stored(store, "s")
        assert len(before) == 4
        model.deltas = (refusal,)
        body, edit = {"messages": [user("x")], "stream": stream}, {SOURCE: "request"}
        for response in (
            ask(client, user("Ho"), session_id="s", stream=stream),
            client.post(CHAT, json=body, headers=edit),
            respond(client, "Ho", S, stream=stream),
            respond(client, "x", S, edit, stream=stream),
        ):
            assert response.status_code == 400
            assert stored(store, "s") == before


def test_half_a_character_at_an_answers_end_is_replaced(store: MemoryStore, stream: bool) -> None:
    """It costs neither the question nor the rest, and halves in two pieces are one character."""
    pieces = (Delta("Well \ud83d"), Delta("\ude00\ud83d"))
    with client_of(store, OwnModel(*pieces)) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        assert text_of(answer) == "Well \U0001f600\ufffd"
    assert stored(store, "s")[1] == {"role": "assistant", "content": text_of(answer)}


def test_a_call_that_is_no_json_is_stored_as_far_as_it_is(store: MemoryStore, stream: bool) -> None:
    """A model of an application's own that gives what no store takes costs its own answer."""
    function = {"name": "f", "arguments": float("inf")}
    piece = Delta("Well.", {"tool_calls": [{"index": 0, "id": "c", "function": function}]})
    with client_of(store, OwnModel(piece)) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        told = (chunks_of(answer)[-1] if stream else answer.json())["error"]
    assert told["message"] == "the answer cannot be stored"
    part = {"role": "assistant", "content": "Well.", "status": "incomplete"}
    assert stored(store, "s") == [user("Hi"), part]


def test_a_model_that_cannot_be_heard_out_is_let_go(store: MemoryStore, stream: bool) -> None:
    """Where the turn cannot begin, the model is not asked, or its answer is closed."""

    class Stuck(MemoryStore):
        async def append(  # type: ignore[override]  # one that cannot replace
            self,
            session_id: str,
            messages: Any,
            owner: str = "",
            turn_id: str | None = None,
            expected_length: int | None = None,
            *,
            fence: int | None = None,
        ) -> int:
            rest = owner, turn_id, expected_length
            return await super().append(session_id, messages, *rest, fence=fence)

    model = OwnModel(Delta("a"), Delta("b"))
    with client_of(Stuck(), model) as client:
        ask(client, user("Hi"), session_id="s")
        edited = {HEADER: "s", SOURCE: "request"}
        body = {"messages": [user("x")], "stream": stream}
        assert client.post(CHAT, json=body, headers=edited).status_code == 501
    assert (len(model.asked), model.open) == (1, 0)


@pytest.mark.parametrize("wish", [b"stop", b"continue"])
async def test_a_client_that_leaves_before_the_first_event_leaves_nothing_open(
    wish: bytes,
) -> None:
    """The answer goes on without it, or else the model's generator is closed."""
    store, model = MemoryStore(), OwnModel(Delta("a"), *[Delta("b")] * 1000)
    sent: list[Any] = []

    async def receive() -> Any:
        body = b'{"stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)
        raise OSError("the client has left")

    headers = [(RAW_HEADER, b"s"), (b"x-hermes-on-disconnect", wish)]
    app = create_app(store, keys=(), model=model)
    async with lifespan(app):
        with pytest.raises(ClientDisconnect):
            await app(http_scope(headers, method="POST", path=CHAT), receive, send)
        with anyio.fail_after(60):
            while model.open or not (await store.load("s")).messages:
                await checkpoint()
    assert (len(sent), len(model.asked)) == (1, 1)
    question, answer = (await store.load("s")).messages
    assert question == user("Hi")
    assert answer.get("status") == ("incomplete" if wish == b"stop" else None)
    assert answer["content"][:1] == "a"
