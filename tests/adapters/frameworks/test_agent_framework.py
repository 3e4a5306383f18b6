"""Agent Framework's history in a store, side by side with its file provider."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    Content,
    FileHistoryProvider,
    FunctionInvocationLayer,
    HistoryProvider,
    Message,
    tool,
)

from hermes_session_mw import (
    HermesSession,
    MemoryStore,
    SessionDeleted,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.adapters.agent_framework import StoredHistoryProvider
from hermes_session_mw.adapters.chat_messages import chat_messages, store_item

pytestmark = pytest.mark.filterwarnings("ignore:.*is experimental")  # their file provider

AnyStore = MemoryStore | SQLAlchemyStore
PICTURE = "data:image/png;base64,iVBORw0KGgo="
PAGE = Path(__file__).parents[3] / "docs" / "adapters" / "agent-framework.md"


class Model(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """Gives the answers it was made with, and notes what it was told."""

    def __init__(self, *answers: str | list[Content]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.told: list[list[Message]] = []

    async def _inner_get_response(
        self, *, messages: Sequence[Message], **kwargs: Any
    ) -> ChatResponse:
        self.told.append(list(messages))
        answer = self.answers.pop(0)
        contents = [answer] if isinstance(answer, str) else answer
        return ChatResponse(messages=[Message("assistant", contents)])


@pytest.fixture(params=["theirs", "memory", "sqlite"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> HistoryProvider:
    """Agent Framework's own provider, and one over each of our stores."""
    if request.param == "theirs":
        return FileHistoryProvider(tmp_path)
    if request.param == "memory":
        return StoredHistoryProvider(MemoryStore())
    return StoredHistoryProvider(SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db"))


def ask(text: str, message_id: str | None = None) -> Message:
    return Message("user", [text], message_id=message_id)


def answer(text: str, message_id: str | None = None) -> Message:
    return Message("assistant", [text], message_id=message_id)


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]


async def run(
    provider: HistoryProvider, *asked: Message | str, model: Model | None = None, **options: Any
) -> list[str]:
    """Run an agent once on the conversation c, and return what is stored then."""
    agent = Agent(model or Model("ok"), context_providers=[provider], **options)
    await agent.run(list(asked), session=agent.create_session(session_id="c"))
    return texts(await provider.get_messages("c"))


class TestBesideTheirs:
    """What both providers do."""

    async def test_a_conversation(self, provider: HistoryProvider) -> None:
        """A run is given what the runs before it stored, of its own session alone."""
        model = Model("a1", "a2")
        await run(provider, "q1", model=model)
        assert await run(provider, "q2", model=model) == ["q1", "a1", "q2", "a2"]
        assert texts(model.told[1]) == ["q1", "a1", "q2"]
        assert await provider.get_messages("other") == []
        await provider.save_messages("c", [])

    async def test_tools_are_called(self, provider: HistoryProvider) -> None:
        """Calls and results come back as the framework had them."""

        @tool(approval_mode="never_require")
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        calls = [
            Content.from_function_call("c1", "add", arguments='{"a": 1, "b": 2}'),
            Content.from_function_call("c2", "add", arguments={"a": 3, "b": 4}),
        ]
        await run(provider, "add", model=Model(calls, "3 and 7"), tools=[add])
        stored = await provider.get_messages("c")
        assert [message.role for message in stored] == ["user", "assistant", "tool", "assistant"]
        assert [each.result for each in stored[2].contents] == ["3", "7"]
        model = Model("ok")
        await run(provider, "again", model=model, tools=[add])
        assert [each.contents for each in model.told[0][:4]] == [each.contents for each in stored]

    async def test_replays(self, provider: HistoryProvider) -> None:
        """Of a transcript that is sent as a whole only what is new is stored."""
        await run(provider, "q1", model=Model("a1"))
        told = [ask("q1"), answer("a1"), ask("q2")]
        assert await run(provider, *told, model=Model("a2")) == ["q1", "a1", "q2", "a2"]
        part = [answer("a2"), ask("q3")]
        assert (await run(provider, *part, model=Model("a3")))[3:] == ["a2", "q3", "a3"]
        before = await provider.get_messages("c")
        await provider.save_messages("c", before)
        await provider.save_messages("c", [Message("system", ["be kind"]), *before, ask("q4")])
        assert texts(await provider.get_messages("c"))[4:] == ["q3", "a3", "q4"]

    async def test_ids_say_what_is_known(self, provider: HistoryProvider) -> None:
        """A message is known by its id, and a question without one may be asked again."""
        await provider.save_messages("c", [ask("q1", "1")])
        await provider.save_messages("c", [ask("q1 as edited", "1"), answer("a1", "2")])
        await provider.save_messages("c", [answer("a1", "3")])
        assert texts(await provider.get_messages("c")) == ["q1", "a1", "a1"]
        await provider.save_messages("d", [ask("q")])
        await provider.save_messages("d", [ask("q"), answer("a")])
        assert texts(await provider.get_messages("d")) == ["q", "q", "a"]

    async def test_a_history_for_each_call_of_the_model(self, provider: HistoryProvider) -> None:
        """Where each call of the model is saved, nothing is stored twice."""

        @tool(approval_mode="never_require")
        def now() -> str:
            """Tell the time."""
            return "noon"

        call = [Content.from_function_call("c1", "now", arguments="{}")]
        options = {"tools": [now], "require_per_service_call_history_persistence": True}
        stored = await run(provider, "when?", model=Model(call, "noon"), **options)
        assert len(stored) == 4
        assert (stored[0], stored[-1]) == ("when?", "noon")

    async def test_what_is_stored_can_be_chosen(self, provider: HistoryProvider) -> None:
        """Questions, and answers, may be left out."""
        provider.store_inputs = False
        await run(provider, "q1", model=Model("a1"))
        provider.store_inputs, provider.store_outputs = True, False
        assert await run(provider, "q2") == ["a1", "q2"]

    async def test_excluded_messages(self, provider: HistoryProvider) -> None:
        """What a compaction excludes is left out only where that is wanted."""
        excluded = Message("user", ["old"], additional_properties={"_excluded": True})
        await provider.save_messages("c", [excluded, answer("a")])
        assert texts(await provider.get_messages("c")) == ["old", "a"]
        provider.skip_excluded = True
        assert texts(await provider.get_messages("c")) == ["a"]


async def test_half_a_surrogate_pair(store: AnyStore) -> None:
    """An answer that is no Unicode text comes back as it was, and others read text."""
    assert await run(_over(store), "q", model=Model("\ud83d")) == ["q", "\ud83d"]
    assert (await store.load("c")).messages[1]["content"] == "\ufffd"


async def test_a_turn_that_is_refused() -> None:
    """Of a turn with a message that is too long, nothing is stored."""
    small = MemoryStore(max_message_bytes=100)
    with pytest.raises(ValueError, match="max_message_bytes"):
        await _over(small).save_messages("c", [ask("q"), answer("a" * 200)])
    assert await _over(small).get_messages("c") == []


def _over(store: AnyStore, owner: str = "") -> StoredHistoryProvider:
    return StoredHistoryProvider(store, owner)


KINDS: list[Callable[[], Message]] = [
    lambda: Message("user", ["plain"]),
    lambda: Message("user", ["one", "two", Content.from_uri(PICTURE)]),
    lambda: Message("user", [Content.from_uri("https://h/a.png", media_type="image/png")]),
    lambda: Message("user", [Content.from_uri("https://h/a.pdf", media_type="application/pdf")]),
    lambda: Message("user", [Content.from_data(b"a", "audio/wav"), Content.from_hosted_file("f")]),
    lambda: Message("user", [Content.from_data(b"a", "application/pdf", name="a.pdf")]),
    lambda: Message("system", ["be kind"], author_name="some one", message_id="m"),
    lambda: Message("assistant", [Content.from_text_reasoning(text="hm", protected_data="x")]),
    lambda: Message("assistant", ["a", Content.from_error(message="no", error_code="1")]),
    lambda: Message(
        "assistant",
        ["see", Content.from_function_call("1", "f", arguments={"n": 2**70, "x": "\ud800"})],
        additional_properties={"tuple": (1, b"2"), 3: "key"},
    ),
    lambda: Message("tool", [Content.from_function_result(i, result=[i]) for i in "123"]),
    lambda: Message(
        "assistant", [Content.from_function_call("h", "f", hosted=True, server_name="s")]
    ),
    lambda: Message(
        "user",
        [
            Content.from_function_approval_response(
                approved=True, id="r", function_call=Content.from_function_call("1", "f")
            )
        ],
    ),
    lambda: Message("critic", ["of another role"]),
    lambda: Message("assistant", []),
]


async def test_every_kind_comes_back(store: AnyStore) -> None:
    """Messages of every kind come back as they were saved, by any reader of this framework."""
    saved = [make() for make in KINDS]
    await _over(store).save_messages("c", saved)
    found = await _over(store).get_messages("c")
    assert dicts(found) == dicts(saved)
    assert found[9].additional_properties == {"tuple": (1, b"2"), 3: "key"}
    await _over(store).save_messages("c", saved)
    assert len(await _over(store).get_messages("c")) == len(saved)


async def test_what_is_no_number_or_no_data(store: AnyStore) -> None:
    """NaN comes back as such, and a client's own object is left out."""
    properties = {"n": math.nan, "own": object(), "all": [1, object()]}
    message = Message("user", ["q"], additional_properties=properties, raw_representation=object())
    await _over(store).save_messages("c", [message])
    (found,) = await _over(store).get_messages("c")
    assert list(found.additional_properties) == ["n", "all"]
    assert math.isnan(found.additional_properties["n"])
    assert found.additional_properties["all"] == [1]


async def test_others_read_chat_messages(store: AnyStore) -> None:
    """An endpoint, and any other adapter, reads the conversation as chat messages."""
    calls = [Content.from_function_call(i, "f", arguments={"n": 1}) for i in "12"]
    results = [Content.from_function_result(i, result="r" + i) for i in "12"]
    hidden = Message("assistant", [Content.from_text_reasoning(text="hm")])
    await _over(store).save_messages(
        "c",
        [
            Message("user", ["see", Content.from_uri(PICTURE)], author_name="ann"),
            hidden,
            Message("assistant", ["wait", *calls], author_name="no name"),
            Message("tool", results),
            answer("done"),
        ],
    )
    stored = (await store.load("c")).messages
    assert stored[-1] == {"role": "assistant", "content": "done"}
    function = {"name": "f", "arguments": '{"n": 1}'}
    assert chat_messages(stored) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
            "name": "ann",
        },
        {
            "role": "assistant",
            "content": "wait",
            "tool_calls": [{"id": i, "type": "function", "function": function} for i in "12"],
        },
        {"role": "tool", "tool_call_id": "1", "content": "r1"},
        {"role": "tool", "tool_call_id": "2", "content": "r2"},
        {"role": "assistant", "content": "done"},
    ]
    await store.rewind("c", 4)
    (_, _, _, cut) = await _over(store).get_messages("c")
    assert [each.result for each in cut.contents] == ["r1"]


async def test_what_others_stored(store: AnyStore) -> None:
    """A conversation of chat messages, or of another framework, goes on here."""
    audio = {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,YQ=="}}
    bad = [{"type": "image_url", "image_url": {"url": "none"}}, {"type": "new"}, "text"]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}}
    chat: list[dict[str, Any]] = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, audio, file, *bad]},
        {"role": "user", "content": [{"image_url": {"url": "https://h/a.png?size=1"}}]},
        {"role": "user", "content": [{"image_url": {"url": "https://h/a"}}, *bad]},
        {"role": "assistant", "content": "", "tool_calls": [call, custom, {"id": 3}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "r"}]},
        store_item("another", {"secret": 1}),
        {"role": "assistant", "content": None, "refusal": "no"},
        store_item("another", {"x": 1}, {"role": "assistant", "content": "kept"}),
        {"role": "assistant", "content": None},
        {"role": "function", "name": "f", "content": "old"},
        store_item("agent_framework", {"message": {"contents": 1}}),
        store_item("agent_framework", "not an object", {"role": "user", "content": "said"}),
    ]
    await store.append("c", chat)
    found = await _over(store).get_messages("c")
    types = [[each.type for each in message.contents] for message in found]
    assert types == [
        ["text"],
        ["text", "data", "data"],
        ["uri"],
        ["uri"],
        ["function_call"] * 2,
        ["function_result"],
        ["text"],
        ["text"],
        ["text"],
    ]
    media = [each.media_type for message in found[1:4] for each in message.contents]
    assert media == [None, "audio/wav", "application/pdf", "image/png", "image/*"]
    assert texts(found[6:]) == ["no", "kept", "said"]
    assert (await run(_over(store), *found, "q"))[-2:] == ["q", "ok"]
    assert (await store.load("c")).length == len(chat) + 2


async def test_owners_and_ids(store: AnyStore) -> None:
    """A conversation is its owner's, its id may be any text, and there has to be one."""
    provider = _over(store, "alice")
    await provider.save_messages("a\x00\ud800", [ask("q")])
    assert texts(await provider.get_messages("a\x00\ud800")) == ["q"]
    assert await _over(store, "bob").get_messages("a\x00\ud800") == []
    with pytest.raises(ValueError, match="session_id is missing"):
        await provider.get_messages(None)
    await store.append("gone", [{"role": "user", "content": "q"}], "alice")
    await store.delete("gone", "alice")
    assert await provider.get_messages("gone") == []
    with pytest.raises(SessionDeleted):
        await provider.save_messages("gone", [ask("q")])


async def test_many_at_once(store: AnyStore) -> None:
    """Turns that are saved at once, also by an endpoint, are each stored once and whole."""

    async def save(number: int) -> None:
        await _over(store).save_messages("c", [ask(f"q{number}"), answer(f"a{number}")])

    async def chat(number: int) -> None:
        pair = [("user", f"q{number}"), ("assistant", f"a{number}")]
        await store.append("c", [{"role": role, "content": text} for role, text in pair])

    await asyncio.gather(*(save(n) if n % 3 else chat(n) for n in range(12)))
    stored = texts(await _over(store).get_messages("c"))
    assert sorted(stored[::2]) == sorted(f"q{n}" for n in range(12))
    assert [text[1:] for text in stored[::2]] == [text[1:] for text in stored[1::2]]


async def test_hidden_messages_do_not_hide_a_replay(store: AnyStore) -> None:
    """Messages of another framework's own between ours are passed over in search of a replay."""
    await _over(store).save_messages("c", [ask("q1"), answer("a1")])
    await store.append("c", [store_item("another", n) for n in range(9)])
    await _over(store).save_messages("c", [ask("q1"), answer("a1"), ask("q2")])
    assert texts(await _over(store).get_messages("c")) == ["q1", "a1", "q2"]


async def test_a_request_saves_under_its_lease(store: AnyStore) -> None:
    """Given a request's session, a run is its turn, with its owner, key and lease."""
    session = HermesSession(store, "c", owner="alice", idempotency_key="k")
    provider = StoredHistoryProvider(session)
    async with session.turn():
        assert await run(provider, "q1") == ["q1", "ok"]
        turn = await store.find_turn("c", "k", "alice")
        assert turn is not None
        assert len(turn.messages) == 2
        fence = session.current_turn.fence if session.current_turn else 0
        await store.release("c", fence, "alice")
        await store.acquire("c", 30, "alice")
        with pytest.raises(TurnLost):
            await run(provider, "late")
    assert texts(await _over(store, "alice").get_messages("c")) == ["q1", "ok"]
    with pytest.raises(TypeError):
        StoredHistoryProvider(session, "bob")


def test_the_page_runs() -> None:
    """The program on the docs page runs."""
    code = PAGE.read_text().split("```python agent.py\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
