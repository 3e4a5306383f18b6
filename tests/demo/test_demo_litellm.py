"""The demo before LiteLLM's proxy, with the openai SDK before the demo."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.litellm_proxy import ANSWER, KEY, litellm_proxy
from tests.support.server import demo
from tests.support.upstreams import Exchange, Upstream, parrot, upstream

HEADER = "X-Hermes-Session-Id"


def says(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """A server of the tests' own, which LiteLLM asks for its model "behind"."""
    with upstream(parrot) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of LiteLLM's proxy."""
    with litellm_proxy(tmp_path_factory.mktemp("litellm"), behind.url) as url:
        yield url


@contextmanager
def demo_client(folder: Path, proxy: str) -> Iterator[openai.OpenAI]:
    """Serve the demo before the proxy, and yield a client of it."""
    with demo(folder, "--upstream", proxy) as url, client_of(url) as client:
        yield client


@pytest.fixture(scope="module")
def client(proxy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of a demo that has the proxy's key."""
    with ExitStack() as serving:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HERMES_UPSTREAM_KEY", KEY)
            client = serving.enter_context(demo_client(tmp_path_factory.mktemp("demo"), proxy))
        yield client


def test_litellm_answers(client: openai.OpenAI) -> None:
    """Its models are listed, its answers passed on with their usage, whole and streamed."""
    models = [model.id for model in client.models.list()]
    assert models == ["mock", "limited", "too-long", "down", "late", "behind"]
    extra: dict[str, Any] = {"extra_headers": {HEADER: "answers"}}
    answer = client.chat.completions.create(model="mock", messages=says("Hi"), **extra)
    assert (answer.model, answer.choices[0].message.content) == ("mock", ANSWER)
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    chunks = list(
        client.chat.completions.create(
            model="mock", messages=says("Ho"), stream=True,
            stream_options={"include_usage": True}, **extra,
        )
    )  # fmt: skip
    texts = [each.choices[0].delta.content or "" for each in chunks if each.choices]
    assert "".join(texts) == ANSWER
    assert len(texts) > 5
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0
    response = client.responses.create(model="mock", input="And?", **extra)
    assert (response.output_text, response.model) == (ANSWER, "mock")
    assert response.usage is not None
    assert response.usage.total_tokens > 0
    assert client.responses.retrieve(response.id) == response


def test_litellm_gets_a_memory(client: openai.OpenAI, behind: Upstream) -> None:
    """What the server behind it hears of the second request has the first turn in it."""
    extra: dict[str, Any] = {"extra_headers": {HEADER: "memory"}}
    for text, expected in (("one", "one"), ("two", "one / one / two")):
        answer = client.chat.completions.create(
            model="behind", messages=says(text), temperature=0.5, **extra
        )
        assert answer.choices[0].message.content == expected
    assert behind.requests[-1].body["temperature"] == 0.5
    assert [each["role"] for each in behind.requests[-1].body["messages"]] == [
        "user", "assistant", "user",
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [
        ("limited", openai.RateLimitError, "429"),
        ("too-long", openai.BadRequestError, "400"),
        ("unheard-of", openai.BadRequestError, "400"),
        ("down", openai.InternalServerError, "upstream_error"),
        ("late", openai.InternalServerError, "upstream_timeout"),
    ],
)
def test_litellms_errors_are_the_sdks_own(
    client: openai.OpenAI, model: str, kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    """Each is the exception that it would be without the demo between, and stamped."""
    with pytest.raises(kind) as raised:
        client.chat.completions.create(
            model=model, messages=says("Hi"), stream=stream, extra_headers={HEADER: f"no-{model}"}
        )
    assert raised.value.code == code
    assert raised.value.response.headers[HEADER] == f"no-{model}"


def test_an_error_in_litellms_stream_reaches_the_sdk(
    client: openai.OpenAI, behind: Upstream
) -> None:
    """The SDK raises while it reads, and the next request has the partial answer before it."""

    def break_off(exchange: Exchange) -> None:
        exchange.head()
        exchange.delta(content="half")
        exchange.event({"error": {"message": "gone", "type": "t", "param": None, "code": None}})

    behind.behaviours.insert(0, break_off)
    extra: dict[str, Any] = {"extra_headers": {HEADER: "broken"}}
    with client.chat.completions.create(
        model="behind", messages=says("one"), stream=True, **extra
    ) as stream:
        assert stream.response.headers[HEADER] == "broken"
        with pytest.raises(openai.APIError):
            list(stream)
    answer = client.chat.completions.create(model="behind", messages=says("two"), **extra)
    assert answer.choices[0].message.content == "one / half / two"


def test_a_tool_is_called_through_litellm(client: openai.OpenAI, behind: Upstream) -> None:
    """The SDK's loop works: a streamed call, its result alone, and the answer to it."""

    def call(exchange: Exchange) -> None:
        exchange.head()
        function = {"name": "sum", "arguments": ""}
        begun = {"index": 0, "id": "call_1", "type": "function", "function": function}
        exchange.delta(role="assistant", content=None, tool_calls=[begun])
        for text in ('{"a": 1,', ' "b": 2}'):
            exchange.delta(tool_calls=[{"index": 0, "function": {"arguments": text}}])
        exchange.delta(reason="tool_calls")
        exchange.event("[DONE]")

    behind.behaviours.insert(0, call)
    tools: Any = [{"type": "function", "function": {"name": "sum", "parameters": {}}}]
    asked: dict[str, Any] = {"model": "behind", "tools": tools, "extra_headers": {HEADER: "tools"}}
    with client.chat.completions.stream(messages=says("1 + 2?"), **asked) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    (called,) = choice.message.tool_calls or []
    assert (called.id, called.function.arguments) == ("call_1", '{"a": 1, "b": 2}')
    client.chat.completions.create(
        messages=[{"role": "tool", "tool_call_id": called.id, "content": "3"}], **asked
    )
    sent = behind.requests[-1].body
    assert [each["role"] for each in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1, "b": 2}'
    assert sent["tools"] == tools


def test_a_key_that_litellm_does_not_know_is_no_fault_of_the_clients(
    proxy: str, tmp_path: Path
) -> None:
    """Without the proxy's key the client gets a 502, and not a 401 that would be its own."""
    with demo_client(tmp_path, proxy) as client, pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(
            model="mock", messages=says("Hi"), extra_headers={HEADER: "keyless"}
        )
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_error")
    assert raised.value.response.headers[HEADER] == "keyless"
