"""What real clients tell the demo's two routes, and what of it is stored."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from hermes_session_mw import MemoryStore, StoreUnavailable
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.reply import Delta
from tests.demo.test_demo import CHAT, ask, stored, user
from tests.demo.test_demo_model import OwnModel, client_of
from tests.demo.test_demo_responses import PATH, S, body_of, respond
from tests.demo.test_demo_turns import KEY, SOURCE

CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}
RESULT: Message = {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."}


def assistant(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def contents(store: MemoryStore) -> list[Any]:
    return [message["content"] for message in stored(store, "s")]


@pytest.fixture
def model() -> OwnModel:
    """A model that says the same each time."""
    return OwnModel(Delta("Yes"), Delta(", Ada.", finish_reason="stop"))


@pytest.fixture
def client(store: MemoryStore, model: OwnModel) -> TestClient:
    """A client of the demo with that model."""
    return client_of(store, model)


def test_a_whole_talk_in_a_responses_input_is_stored_once(
    client: TestClient, store: MemoryStore
) -> None:
    """A client that sends all items each turn has 2, 4, 6 and 8 messages, as it has by chat."""
    items: list[Any] = []
    for count in range(1, 5):
        items.append(user([{"type": "input_text", "text": f"Question {count}"}]))
        items += body_of(respond(client, items, S))["output"]
        assert len(stored(store, "s")) == 2 * count


@pytest.mark.parametrize("tail", [1, 2, 3, 5])
def test_any_tail_of_the_talk_adds_its_last_message(
    client: TestClient, store: MemoryStore, tail: int
) -> None:
    """The whole talk, its newest part and the new message alone come to the same."""
    talk: list[Message] = []
    for text in ("a", "b", "a"):
        talk.append(user(text))
        ask(client, *talk[-tail:], session_id="s")
        talk.append(assistant("Yes, Ada."))
    assert contents(store) == ["a", "Yes, Ada.", "b", "Yes, Ada.", "a", "Yes, Ada."]


def test_the_same_answer_twice_is_two_turns(client: TestClient, store: MemoryStore) -> None:
    """Who says yes twice means it twice."""
    for _ in range(2):
        ask(client, user("yes"), session_id="s")
    assert contents(store) == ["yes", "Yes, Ada."] * 2


def test_several_new_messages_are_one_turn(client: TestClient, store: MemoryStore) -> None:
    """Two questions in a row are stored together, in their order."""
    ask(client, user("a"), session_id="s")
    ask(client, user("b"), user("c"), session_id="s")
    assert contents(store) == ["a", "Yes, Ada.", "b", "c", "Yes, Ada."]


@pytest.mark.parametrize("whole", [False, True], ids=["what is new", "the whole talk"])
def test_a_result_and_a_question_after_it_are_both_new(store: MemoryStore, whole: bool) -> None:
    """The result of a tool is stored with the question that the client asks after it."""
    calling = OwnModel(Delta(fields={"tool_calls": [{"index": 0, **CALL}]}))
    with client_of(store, calling) as client:
        ask(client, user("The weather?"), session_id="s")
    earlier = [user("The weather?"), assistant(None, tool_calls=[CALL])] if whole else []
    model = OwnModel(Delta("Sunny too."))
    with client_of(store, model) as client:
        ask(client, *earlier, RESULT, user("And tomorrow?"), session_id="s")
    assert contents(store) == ["The weather?", None, "Sunny.", "And tomorrow?", "Sunny too."]
    assert [message["role"] for message in model.asked[0][0]] == [
        *("user", "assistant", "tool", "user")
    ]


@pytest.mark.parametrize("whole", [False, True], ids=["what is new", "the whole talk"])
def test_an_answer_to_results_that_got_lost_is_asked_for_again(
    store: MemoryStore, whole: bool
) -> None:
    """A client that repeats its results gets an answer; if it asks on, the results are stored."""
    calling = OwnModel(Delta(fields={"tool_calls": [{"index": 0, **CALL}]}))
    with client_of(store, calling) as client:
        ask(client, user("The weather?"), session_id="s")
    earlier = [user("The weather?"), assistant(None, tool_calls=[CALL])] if whole else []
    with client_of(store, OwnModel(Delta("Sunny."))) as client:
        for _ in range(2):
            assert ask(client, *earlier, RESULT, session_id="s").status_code == 200
        assert contents(store) == ["The weather?", None, "Sunny.", "Sunny."]
        for _ in range(2):
            assert ask(client, *earlier, RESULT, user("And?"), session_id="s").status_code == 200
    assert contents(store) == ["The weather?", None, "Sunny.", "Sunny.", *["And?", "Sunny."] * 2]


def test_an_answer_is_gone_on_with(client: TestClient, model: OwnModel, store: MemoryStore) -> None:
    """A trailing answer is what the model begins with, and what is stored has both, once."""
    ask(client, user("Who am I?"), session_id="s")
    response = ask(client, user("Who am I?"), assistant("Yes, Ada."), session_id="s")
    assert response.json()["choices"][0]["message"]["content"] == "Yes, Ada."
    assert model.asked[-1][0] == [user("Who am I?"), assistant("Yes, Ada.")]
    assert contents(store) == ["Who am I?", "Yes, Ada.Yes, Ada."]


def test_an_answer_that_broke_off_is_gone_on_with(store: MemoryStore) -> None:
    """What was left of it is not incomplete any more once the rest has come."""
    with client_of(store, OwnModel(Delta("Yes"), RuntimeError("cut"))) as client:
        ask(client, user("Who am I?"), session_id="s", stream=True)
    assert stored(store, "s")[-1]["status"] == "incomplete"
    with client_of(store, OwnModel(Delta(", Ada."))) as client:
        ask(client, user("Who am I?"), assistant("Yes"), session_id="s")
    assert stored(store, "s") == [user("Who am I?"), assistant("Yes, Ada.")]


def test_a_continuation_that_fails_leaves_the_answer_as_it_was(
    client: TestClient, store: MemoryStore
) -> None:
    """Nothing old goes before the new is safe."""
    ask(client, user("Who am I?"), session_id="s")
    before = stored(store, "s")
    with client_of(store, OwnModel(RuntimeError("cut"))) as failing:
        ask(failing, user("Who am I?"), assistant("Yes, Ada."), session_id="s")
    assert stored(store, "s") == before


def test_an_answers_beginning_can_be_given(
    client: TestClient, model: OwnModel, store: MemoryStore
) -> None:
    """A new question with the beginning of its answer is one turn."""
    ask(client, user("a"), assistant("Well: "), session_id="s")
    assert contents(store) == ["a", "Well: Yes, Ada."]


def test_an_edit_keeps_what_the_client_tells(client: TestClient, store: MemoryStore) -> None:
    """With X-Hermes-History-Source: request an earlier message that differs begins anew there."""
    for text in ("a", "b"):
        ask(client, user(text), session_id="s")
    talk = [user("a"), assistant([{"type": "text", "text": "Yes, Ada.\n"}]), user("c")]
    client.post(CHAT, json={"messages": talk}, headers=S | {SOURCE: "request"})
    assert contents(store) == ["a", "Yes, Ada.", "c", "Yes, Ada."]


def degraded(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store fail to load from now on."""

    async def load(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("not now")

    monkeypatch.setattr(store, "load", load)


@pytest.mark.parametrize("begun", [None, "", "Well: "])
def test_a_question_is_not_lost_where_the_history_cannot_be_read(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, begun: str | None
) -> None:
    """It is stored, also with an empty place for its answer, or the client is told to try again."""
    ask(client, user("a"), session_id="s")
    talk = [user("a"), assistant("Yes, Ada."), user("b")]
    end = [] if begun is None else [assistant(begun)]
    with monkeypatch.context() as patch:
        degraded(store, patch)
        status = ask(client, *talk, *end, session_id="s").status_code
    told = ["a", "Yes, Ada."]
    if begun:
        assert (status, contents(store)) == (503, told)
    else:
        assert (status, contents(store)) == (200, [*told, "b", "Yes, Ada."])


@pytest.mark.parametrize("question", ["a", "b"])
def test_an_old_answer_is_not_continued(
    client: TestClient, store: MemoryStore, question: str
) -> None:
    """A client whose view is old is told to load again, and nothing is replaced or repeated."""
    ask(client, user("a"), session_id="s")
    with client_of(store, OwnModel(Delta("Other."))) as other:
        ask(other, user("b"), session_id="s")
    begun = {"a": "Yes, Ada.", "b": "Made up."}[question]
    response = ask(client, user(question), assistant(begun), session_id="s")
    assert response.status_code == 409
    assert contents(store) == ["a", "Yes, Ada.", "b", "Other."]


def test_calls_at_the_end_are_a_400(client: TestClient, store: MemoryStore) -> None:
    """A request that ends with calls of tools has nothing to answer."""
    response = ask(client, user("a"), assistant(None, tool_calls=[CALL]), session_id="s")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_repeated_continuation_is_answered_as_at_first(
    client: TestClient, store: MemoryStore, path: str
) -> None:
    """Under an Idempotency-Key it is stored once, and the same rest is told; nothing else is."""

    def post(*messages: Message) -> Any:
        url, field = {"chat": (CHAT, "messages"), "responses": (PATH, "input")}[path]
        headers = S | {KEY: "k"}
        return client.post(url, json={field: [*messages]}, headers=headers)

    def said(response: Any) -> str:
        body = response.json()
        if path == "chat":
            return str(body["choices"][0]["message"]["content"])
        return str(body["output"][0]["content"][0]["text"])

    ask(client, user("Who am I?"), session_id="s")
    talk = [user("Who am I?"), assistant("Yes, Ada.")]
    first = post(*talk)
    again = post(*talk)
    assert said(first) == said(again) == "Yes, Ada."
    assert contents(store) == ["Who am I?", "Yes, Ada.Yes, Ada."]
    assert post(user("Something else?")).status_code == 409
    assert post(user("Who am I?"), assistant("No")).status_code == 409
    assert contents(store) == ["Who am I?", "Yes, Ada.Yes, Ada."]
