"""The openai Python SDK against the demo."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionUserMessageParam

from tests.demo.clients.demos import (
    API_KEY,
    HEADER,
    IDEMPOTENCY_KEY,
    Demo,
    a_session_id,
    losing_answers,
)

UNKNOWN = "resp_" + "0" * 48


def says(text: str) -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": text}]


@contextmanager
def client_of(api: str, key: str = "unused", **options: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=api, api_key=key, **{"max_retries": 0, **options}) as client:
        yield client


@pytest.fixture
def client(served: Demo) -> Iterator[openai.OpenAI]:
    """A client of the demo, which gives up at once."""
    with client_of(served.api) as client:
        yield client


def chat(
    client: openai.OpenAI, text: str, session_id: str | None = None, **headers: str
) -> ChatCompletion:
    extra = headers if session_id is None else {HEADER: session_id, **headers}
    return client.chat.completions.create(
        model="hermes-demo", messages=says(text), extra_headers=extra
    )


def text_of(answer: ChatCompletion) -> str:
    return str(answer.choices[0].message.content)


def test_a_chat_goes_on_by_extra_headers(client: openai.OpenAI, session_id: str) -> None:
    """extra_headers name the conversation of one call, and the raw response tells its id."""
    first = chat(client, "My name is Ada.", session_id)
    assert "first message" in text_of(first)
    assert first.usage is not None
    raw = client.chat.completions.with_raw_response.create(
        model="hermes-demo", messages=says("And now?"), extra_headers={HEADER: session_id}
    )
    assert raw.headers[HEADER] == session_id
    assert text_of(raw.parse()).endswith(
        "I remember 1 earlier message; the first was: My name is Ada."
    )


def test_a_client_has_a_conversation_by_default_headers(served: Demo, session_id: str) -> None:
    """default_headers name the conversation of every call, models and all."""
    with client_of(served.api, default_headers={HEADER: session_id}) as client:
        chat(client, "My name is Ada.")
        assert text_of(chat(client, "And now?")).endswith("My name is Ada.")
        models = client.models.with_raw_response.list()
    assert [model.id for model in models.parse()] == ["hermes-demo"]
    assert models.headers[HEADER] == session_id


def test_a_new_clients_id_is_read_and_sent_back(client: openai.OpenAI) -> None:
    """Without the header the response tells a new id, which leads back."""
    raw = client.chat.completions.with_raw_response.create(
        model="hermes-demo", messages=says("My name is Ada.")
    )
    again = chat(client, "Who am I?", raw.headers[HEADER])
    assert text_of(again).endswith("the first was: My name is Ada.")


def test_a_stream_tells_the_id_before_its_first_piece(
    client: openai.OpenAI, session_id: str
) -> None:
    """stream.response has the header, the chunks are the answer, and the last tells the usage."""
    chat(client, "My name is Ada.", session_id)
    with client.chat.completions.create(
        model="hermes-demo",
        messages=says("Still?"),
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={HEADER: session_id},
    ) as stream:
        assert stream.response.headers[HEADER] == session_id
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text.endswith("I remember 1 earlier message; the first was: My name is Ada.")
    assert chunks[-1].usage is not None


def test_the_streaming_helper_gathers_the_answer(client: openai.OpenAI, session_id: str) -> None:
    """chat.completions.stream, which checks every chunk, has the whole answer at its end."""
    with client.chat.completions.stream(
        model="hermes-demo", messages=says("Hi"), extra_headers={HEADER: session_id}
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert str(final.choices[0].message.content).startswith("You said: Hi | ")


# On trio its streams leave a generator of httpx2's open, which is a warning there.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_async_client_does_the_same(served: Demo, session_id: str) -> None:
    """AsyncOpenAI sends the header and reads it back, in JSON, in a stream and on an error."""
    extra = {HEADER: session_id}
    async with openai.AsyncOpenAI(
        base_url=served.api, api_key="unused", default_headers=extra
    ) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="hermes-demo", messages=says("My name is Ada.")
        )
        assert raw.headers[HEADER] == session_id
        stream = await client.chat.completions.create(
            model="hermes-demo", messages=says("Who am I?"), stream=True
        )
        async with stream:
            assert stream.response.headers[HEADER] == session_id
            text = "".join([c.choices[0].delta.content or "" async for c in stream])
        assert text.endswith("the first was: My name is Ada.")
        response = await client.responses.create(model="hermes-demo", input="And here?")
        assert "I remember 2 earlier messages" in response.output_text
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="x", input="Hi", extra_headers={HEADER: "a b"})
    assert len(refused.value.response.headers[HEADER]) == 32


def test_responses_are_created_streamed_retrieved_and_deleted(client: openai.OpenAI) -> None:
    """Responses go on by previous_response_id and by conversation, and the chat goes on as well."""
    raw = client.responses.with_raw_response.create(model="hermes-demo", input="My name is Ada.")
    first, session_id = raw.parse(), raw.headers[HEADER]
    assert "first message" in first.output_text
    assert first.conversation is not None
    assert first.conversation.id == session_id
    assert client.responses.retrieve(first.id) == first
    with client.responses.stream(
        model="hermes-demo", input="Who am I?", previous_response_id=first.id
    ) as stream:
        kinds = [event.type for event in stream]
        second = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert second.output_text.endswith("the first was: My name is Ada.")
    assert second.previous_response_id == first.id
    events = client.responses.create(
        model="hermes-demo",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "Still?"}]}],
        conversation=session_id,
        stream=True,
    )
    assert events.response.headers[HEADER] == session_id
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert "I remember 2 earlier messages" in text
    assert "I remember 3 earlier messages" in text_of(chat(client, "And here?", session_id))
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.retrieve(first.id)
    assert len(gone.value.response.headers[HEADER]) == 32


def test_errors_tell_the_id(client: openai.OpenAI, session_id: str) -> None:
    """Every exception's response has a valid id: the client's own, or a new one for a bad one."""
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, "Hi", "a b")
    assert (refused.value.code, refused.value.param) == ("invalid_session_id", HEADER)
    assert len(refused.value.response.headers[HEADER]) == 32
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="x", messages=[], extra_headers={HEADER: session_id})
    assert (empty.value.param, empty.value.response.headers[HEADER]) == ("messages", session_id)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(
            model="x", input="a", previous_response_id=UNKNOWN, extra_headers={HEADER: session_id}
        )
    assert unknown.value.code == "previous_response_not_found"
    assert unknown.value.response.headers[HEADER] == session_id


def test_a_wrong_api_key_is_an_authentication_error(keyed: Demo, session_id: str) -> None:
    """Without a key that the server knows the SDK raises AuthenticationError, and tries no more."""
    extra = {HEADER: session_id}
    with (
        client_of(keyed.api, "wrong", default_headers=extra, max_retries=2) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        chat(client, "Hi")
    assert refused.value.response.headers[HEADER] == session_id
    with client_of(keyed.api, API_KEY, default_headers=extra) as client:
        assert "first message" in text_of(chat(client, "Hi"))


def test_a_repeated_request_is_answered_once(served: Demo, session_id: str) -> None:
    """With an Idempotency-Key a request may be sent again; another one under it is final."""
    extra = {HEADER: session_id, IDEMPOTENCY_KEY: "1"}
    with client_of(served.api, max_retries=2, default_headers=extra) as client:
        assert text_of(chat(client, "a")) == text_of(chat(client, "a"))
        with pytest.raises(openai.ConflictError) as reused:
            chat(client, "b")
    assert (reused.value.code, reused.value.param) == ("idempotency_key_reused", IDEMPOTENCY_KEY)
    assert reused.value.response.headers[HEADER] == session_id
    # Or the SDK, as it is by default, would have sent it three times.
    assert reused.value.response.headers["x-should-retry"] == "false"
    assert reused.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert [message["content"] for message in served.stored(session_id)][::2] == ["a"]


def test_a_repeated_response_is_the_same_one(client: openai.OpenAI, session_id: str) -> None:
    """With an Idempotency-Key a response that is asked for again has the first one's id."""
    extra = {HEADER: session_id, IDEMPOTENCY_KEY: "1"}
    first, again = (
        client.responses.create(model="hermes-demo", input="a", extra_headers=extra)
        for _ in range(2)
    )
    assert first == again
    with pytest.raises(openai.ConflictError) as reused:
        client.responses.create(model="hermes-demo", input="b", extra_headers=extra)
    assert reused.value.code == "idempotency_key_reused"


def test_a_busy_conversation_is_a_conflict_that_passes(keyed: Demo, session_id: str) -> None:
    """While another turn is going on the SDK raises ConflictError, or waits and is answered."""
    keyed.occupy(session_id, 60)
    with client_of(keyed.api, API_KEY) as client, pytest.raises(openai.ConflictError) as busy:
        chat(client, "Hi", session_id)
    assert (busy.value.code, busy.value.response.headers[HEADER]) == ("session_busy", session_id)
    assert 1 <= int(busy.value.response.headers["retry-after"]) <= 60

    with client_of(keyed.api, API_KEY, max_retries=openai.DEFAULT_MAX_RETRIES) as client:
        for _ in range(20):  # a machine that stands still may let the lease run out before
            other = a_session_id()
            keyed.occupy(other, 1)
            raw = client.chat.completions.with_raw_response.create(
                model="hermes-demo", messages=says("Hi"), extra_headers={HEADER: other}
            )
            if raw.retries_taken:
                break
    assert raw.retries_taken >= 1
    assert "first message" in text_of(raw.parse())


@pytest.mark.parametrize(("headers", "turns"), [({IDEMPOTENCY_KEY: "1"}, 1), ({}, 2)])
def test_a_lost_answer_is_asked_for_again(
    served: Demo, session_id: str, headers: dict[str, str], turns: int
) -> None:
    """The SDK repeats what got no answer: one turn with an Idempotency-Key, and two without."""
    with losing_answers(served.url) as (proxy, url):
        with client_of(f"{url}/v1", max_retries=openai.DEFAULT_MAX_RETRIES) as client:
            proxy.lose = 1
            answer = text_of(chat(client, "Hi", session_id, **headers))
        assert proxy.lost == 1
    assert answer.startswith("You said: Hi | ")
    assert [m["content"] for m in served.stored(session_id)][::2] == ["Hi"] * turns
