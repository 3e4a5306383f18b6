"""pydantic-ai's conversations in a store, side by side with those in pydantic-ai's own memory."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryImage,
    FilePart,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hermes_session_mw import HermesSession, MemoryStore, SQLAlchemyStore, TurnLost
from hermes_session_mw.adapters.chat_messages import chat_messages, store_item
from hermes_session_mw.adapters.pydantic_ai import StoredConversations
from hermes_session_mw.messages import Message

AnyStore = MemoryStore | SQLAlchemyStore
PICTURE = BinaryImage(data=b"\x00\xff1", media_type="image/png")
PAGE = Path(__file__).parents[3] / "docs" / "adapters" / "pydantic-ai.md"


@pytest.fixture(params=["theirs", "memory", "sqlite"])
def conversations(request: pytest.FixtureRequest) -> ConversationStore:
    """pydantic-ai's own store, and one over each of ours."""
    if request.param == "theirs":
        return InMemoryConversationStore()
    if request.param == "memory":
        return StoredConversations(MemoryStore())
    folder = request.getfixturevalue("tmp_path")
    store = SQLAlchemyStore(f"sqlite:///{folder}/sessions.db")
    return StoredConversations(store)


def ask(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def answer(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def told(messages: list[ModelMessage]) -> list[str]:
    """Return the texts of the messages' first parts."""
    return [str(getattr(message.parts[0], "content", None)) for message in messages]


async def saved(
    store: ConversationStore, *messages: ModelMessage, name: str = "c", scope: str | None = None
) -> Conversation:
    conversation = Conversation(messages=list(messages), conversation_id=name)
    await store.save(conversation, scope=scope)
    return conversation


async def loaded(
    store: ConversationStore, name: str = "c", limit: int | None = None
) -> Conversation:
    conversation = await store.load(name, limit=limit)
    assert conversation is not None
    return conversation


class TestBesideTheirs:
    """Nine checks that both stores pass."""

    async def test_load(self, conversations: ConversationStore) -> None:
        """What a save stored is loaded, with its usage, revision and entries."""
        first = await saved(conversations, ask("q1"), answer("a1"))
        again = await loaded(conversations)
        assert again == first
        again.messages += [ask("q2"), answer("a2")]
        again.usage.requests = 2
        stored = await conversations.save(again)
        assert await loaded(conversations) == again
        entries = await conversations.load_entries("c")
        assert entries is not None
        assert entries[2:] == stored
        assert [each.parent_id for each in entries] == [None, *(each.id for each in entries[:-1])]
        assert await conversations.read_entry(entries[1].id) == entries[1]

    async def test_none(self, conversations: ConversationStore) -> None:
        """What was not saved is None, and its entries are unknown."""
        assert await conversations.load("c") is None
        assert await conversations.load_entries("c") is None
        assert await conversations.list_conversations() == []
        with pytest.raises(LookupError):
            await conversations.read_entry("unknown")
        await conversations.delete("c")

    async def test_limit(self, conversations: ConversationStore) -> None:
        """A limit counts the newest messages, and a save after it goes on from all of them."""
        texts = [ask("1"), answer("2"), ask("3"), answer("4")]
        await saved(conversations, *texts)
        for limit in range(6):
            few = await loaded(conversations, limit=limit)
            assert told(few.messages) == ["1", "2", "3", "4"][max(4 - limit, 0) :]
        few = await loaded(conversations, limit=1)
        few.messages.append(ask("5"))
        await conversations.save(few)
        assert told((await loaded(conversations)).messages) == ["1", "2", "3", "4", "5"]
        entries = await conversations.load_entries("c", limit=2)
        everything = await conversations.load_entries("c")
        assert everything is not None
        assert entries == everything[-2:]
        with pytest.raises(UserError):
            await conversations.load("c", limit=-1)

    async def test_conflict(self, conversations: ConversationStore) -> None:
        """A conversation that was saved since it was loaded, or is there already, is no place."""
        await saved(conversations, ask("q1"))
        one, other = await loaded(conversations), await loaded(conversations)
        one.messages.append(answer("a1"))
        other.messages.append(answer("another"))
        await conversations.save(one)
        with pytest.raises(ConversationConflict):
            await conversations.save(other)
        with pytest.raises(ConversationConflict):
            await saved(conversations, ask("new"))
        assert told((await loaded(conversations)).messages) == ["q1", "a1"]

    async def test_race(self, conversations: ConversationStore) -> None:
        """Of four that save at once one succeeds, with all of its messages."""
        await saved(conversations, ask("q"))
        loads = [await loaded(conversations) for _ in range(4)]
        for number, each in enumerate(loads):
            each.messages += [ask(f"q{number}"), answer(f"a{number}")]
        done = await asyncio.gather(*map(conversations.save, loads), return_exceptions=True)
        winners = [n for n, outcome in enumerate(done) if not isinstance(outcome, Exception)]
        assert len(winners) == 1
        others = [each for each in done if isinstance(each, BaseException)]
        assert all(isinstance(each, ConversationConflict) for each in others)
        kept = told((await loaded(conversations)).messages)
        assert kept == ["q", f"q{winners[0]}", f"a{winners[0]}"]

    async def test_branch(self, conversations: ConversationStore) -> None:
        """A branch leaves messages that it can go back to, as often as wanted."""
        await saved(conversations, ask("q1"), answer("a1"), ask("q2"), answer("a2"))
        first = await loaded(conversations)
        branched = await conversations.branch("c", at=2, expected_revision=first.revision)
        assert told(branched.messages) == ["q1", "a1"]
        assert await loaded(conversations) == branched
        branched.messages += [ask("q3"), answer("a3")]
        await conversations.save(branched)
        assert told((await loaded(conversations)).messages) == ["q1", "a1", "q3", "a3"]
        (record,) = await conversations.list_conversations()
        (left,) = record.branches
        back = await conversations.branch("c", from_entry=left, expected_revision=record.revision)
        assert told(back.messages) == ["q1", "a1", "q2", "a2"]
        assert await loaded(conversations) == back
        (record,) = await conversations.list_conversations()
        (other,) = record.branches
        forth = await conversations.branch("c", from_entry=other, expected_revision=back.revision)
        assert told(forth.messages) == ["q1", "a1", "q3", "a3"]
        none = await conversations.branch("c", at=0, expected_revision=forth.revision)
        assert none.messages == (await loaded(conversations)).messages == []
        with pytest.raises(ConversationConflict):
            await conversations.branch("c", at=0, expected_revision=forth.revision)

    async def test_rewritten(self, conversations: ConversationStore) -> None:
        """A history that was rewritten branches off the last message that both have."""
        await saved(conversations, ask("q1"), answer("a1"), ask("q2"))
        rewritten = await loaded(conversations)
        rewritten.messages = [rewritten.messages[0], answer("b1")]
        rewritten.new_message_index = None
        await conversations.save(rewritten)
        assert told((await loaded(conversations)).messages) == ["q1", "b1"]
        (record,) = await conversations.list_conversations()
        line = await conversations.read_history(record.branches[0])
        assert told([entry.message for entry in line]) == ["q1", "a1", "q2"]

    async def test_fork_and_delete(self, conversations: ConversationStore) -> None:
        """A fork goes on by itself, and stays as it is when what it was forked from is deleted."""
        await saved(conversations, ask("q1"), answer("a1"), ask("q2"), scope="s")
        fork = await conversations.fork("c", at=2, new_conversation_id="f")
        fork.messages.append(ask("other"))
        await conversations.save(fork)
        entries = await conversations.load_entries("f")
        original = await conversations.load_entries("c")
        assert entries is not None
        assert original is not None
        assert entries[:2] == original[:2]
        (record,) = [each for each in await conversations.list_conversations() if each.forked_from]
        assert (record.forked_from, record.forked_at, record.scope) == ("c", original[1].id, "s")
        with pytest.raises(ConversationConflict):
            await conversations.fork("c", new_conversation_id="f")
        await conversations.delete("c")
        assert await conversations.load("c") is None
        assert told((await loaded(conversations, "f")).messages) == ["q1", "a1", "other"]
        assert await conversations.read_history(entries[-1].id) == entries
        empty = await conversations.fork("f", at=0, new_conversation_id="e")
        assert await loaded(conversations, "e") == empty
        assert len(await conversations.list_conversations()) == 2

    async def test_fork_of_a_left_branch(self, conversations: ConversationStore) -> None:
        """A fork begins at an entry of a branch that was left, and has all before it."""
        first = await saved(conversations, ask("q1"), answer("a1"), ask("q2"))
        await conversations.branch("c", at=1, expected_revision=first.revision)
        (record,) = await conversations.list_conversations()
        await conversations.fork("c", from_entry=record.branches[0], new_conversation_id="f")
        await conversations.delete("c")
        assert told((await loaded(conversations, "f")).messages) == ["q1", "a1", "q2"]

    async def test_delete_and_reuse(self, conversations: ConversationStore) -> None:
        """A deleted conversation's id is free, and what was loaded before cannot be saved there."""
        old = await saved(conversations, ask("q1"), answer("a1"))
        await conversations.delete("c")
        assert await conversations.list_conversations() == []
        with pytest.raises(ConversationConflict):
            await conversations.save(old)
        await saved(conversations, ask("new"))
        with pytest.raises(ConversationConflict):
            await conversations.save(old)
        assert told((await loaded(conversations)).messages) == ["new"]

    async def test_scope(self, conversations: ConversationStore) -> None:
        """A conversation of another scope is unknown, and a list has its scope's, newest first."""
        await saved(conversations, ask("q"), name="c1", scope="a")
        await saved(conversations, ask("q"), name="c2", scope="b")
        await saved(conversations, ask("q"), name="c3", scope="a")
        assert await conversations.load("c1", scope="b") is None
        mine = await conversations.list_conversations(scope="a")
        assert [each.conversation_id for each in mine] == ["c3", "c1"]
        (newest,) = await conversations.list_conversations(limit=1)
        assert newest.conversation_id == "c3"
        await conversations.delete("c1", scope="b")
        assert (await loaded(conversations, "c1")).messages != []
        with pytest.raises(ConversationConflict):
            await saved(conversations, ask("q"), name="c1", scope="b")

    async def test_entries_of_nobody(self, conversations: ConversationStore) -> None:
        """A record whose head is no entry is not stored."""
        await saved(conversations, ask("q"))
        record = await conversations.read_record("c")
        assert record is not None
        changed = replace(record, head_id="unknown", revision="another")
        with pytest.raises(ConversationConflict):
            await conversations.write_record(changed, expected_revision=record.revision)
        assert await conversations.read_record("c") == record

    async def test_pictures_and_more(self, conversations: ConversationStore) -> None:
        """Messages of every kind of part come back equal, and those of values JSON lacks."""
        messages: list[ModelMessage] = [
            ModelRequest(
                parts=[
                    SystemPromptPart("be kind"),
                    UserPromptPart(["look", ImageUrl("https://x.example/y.png"), PICTURE]),
                ],
                instructions="now",
            ),
            ModelResponse(
                parts=[
                    ThinkingPart("hm", signature="s"),
                    TextPart("half \ud800"),
                    ToolCallPart("f", {"n": 2**70, "t": (1, 2)}, "c1"),
                    ToolCallPart("g", '{"x": 1}', "c2"),
                ]
            ),
            ModelRequest(
                parts=[
                    ToolReturnPart("f", {"b": b"\xff\x00", 1: "\x00"}, "c1"),
                    ToolReturnPart("g", "bad", "c2", outcome="retried"),
                ]
            ),
            ModelResponse(parts=[FilePart(PICTURE)], provider_details={"x": b"\xff"}),
        ]
        first = await saved(conversations, *messages)
        assert (await loaded(conversations)).messages == first.messages == messages


async def run(store: ConversationStore, question: str) -> str:
    """Have an agent with a tool answer a question in a stored conversation."""

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return answer(f"{last.content} after {len(messages)}")
        return ModelResponse(parts=[ToolCallPart("add", {"a": 2, "b": 3})])

    agent = Agent(FunctionModel(reply))

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    conversation = await store.load("c") or Conversation(conversation_id="c")
    result = await agent.run(question, conversation=conversation)
    await store.save(result)
    return str(result.output)


async def test_what_is_stored_are_chat_messages(store: AnyStore) -> None:
    """A run is one turn of chat messages, and a model gets what it got from pydantic-ai."""
    conversations = StoredConversations(store, "alice")
    assert await run(conversations, "2 + 3?") == "5 after 3"
    assert await run(conversations, "again?") == "5 after 7"
    session = HermesSession(store, "c", owner="alice")
    await session.load()
    roles = [message["role"] for message in session.prompt()]
    assert roles == ["user", "assistant", "tool", "assistant"] * 2
    calling, result = session.prompt()[1:3]
    call = calling["tool_calls"][0]
    assert call["function"] == {"name": "add", "arguments": '{"a":2,"b":3}'}
    assert result == {"role": "tool", "tool_call_id": call["id"], "content": "5"}
    found = await store.load_range("c", "alice")
    assert len({each.turn_id for each in found.messages}) == 2
    assert await conversations.load("c") is not None
    assert await StoredConversations(store, "bob").load("c") is None


CHAT: list[Message] = [
    {"role": "system", "content": "be kind"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this"},
            {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AP8x"}},
            {"type": "unknown"},
        ],
    },
    store_item("other", {"type": "reasoning"}),
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
    store_item("other", {"x": 1}, {"role": "tool", "tool_call_id": "c1", "content": "a cat"}),
    {"role": "assistant", "content": "It is a cat."},
]


async def test_a_conversation_of_others_goes_on(store: AnyStore) -> None:
    """What an endpoint or another framework stored is read, gone on with, branched and forked."""
    conversations = StoredConversations(store)
    await store.append("c", CHAT)
    conversation = await loaded(conversations)
    system, question, calling, result, last = (each.parts[0] for each in conversation.messages)
    assert isinstance(system, SystemPromptPart)
    assert isinstance(question, UserPromptPart)
    text, url, picture = question.content
    assert (text, url) == ("what is this", ImageUrl("https://x.example/y.png"))
    assert getattr(picture, "data", None) == b"\x00\xff1"
    assert isinstance(calling, ToolCallPart)
    assert (calling.tool_name, calling.args, calling.tool_call_id) == ("look", "{}", "c1")
    assert isinstance(result, ToolReturnPart)
    assert (result.tool_name, result.content, result.tool_call_id) == ("look", "a cat", "c1")
    assert isinstance(last, TextPart)
    assert await run(conversations, "sure?") == "5 after 7"  # requests of one turn are joined
    for limit in range(1, 11):
        few = await loaded(conversations, limit=limit)
        assert len(few.messages) == min(limit, 9)
    entries = await conversations.load_entries("c")
    assert entries is not None
    for entry in entries:
        assert await conversations.read_entry(entry.id) == entry
    forked = await conversations.fork("c", at=3)
    await conversations.save(replace_last(forked, "forked"))
    again = await loaded(conversations, forked.conversation_id)
    assert told(again.messages)[3:] == ["forked"]
    now = await loaded(conversations)
    branched = await conversations.branch("c", at=5, expected_revision=now.revision)
    assert len((await store.load("c")).messages) == len(CHAT)
    await conversations.save(replace_last(branched, "branched"))
    assert chat_messages((await store.load("c")).messages)[-1]["content"] == "branched"


def replace_last(conversation: Conversation, text: str) -> Conversation:
    conversation.messages.append(ask(text))
    return conversation


async def test_others_add_and_edit(store: AnyStore) -> None:
    """A conversation that others changed since it was loaded is a conflict, and goes on from it."""
    conversations = StoredConversations(store)
    await run(conversations, "q1")
    stale = await loaded(conversations)
    turn: list[Message] = [
        {"role": "user", "content": "by curl"},
        {"role": "assistant", "content": "ok"},
    ]
    await store.append("c", turn)
    with pytest.raises(ConversationConflict):
        await conversations.save(replace_last(stale, "late"))
    with pytest.raises(ConversationConflict):
        await saved(conversations, ask("new"))
    assert await run(conversations, "q2") == "5 after 9"
    edited = {"role": "user", "content": "edited"}
    stale = await loaded(conversations)
    await store.append("c", [edited, turn[1]], replace_from=8)
    with pytest.raises(ConversationConflict):
        await conversations.save(replace_last(stale, "late"))
    texts = told((await loaded(conversations)).messages)
    assert texts[4:] == ["by curl", "ok", "q2", "None", "edited", "ok"]
    await store.rewind("c", 0)
    assert (await loaded(conversations)).messages == []


async def test_half_of_a_request_that_was_cut(store: AnyStore) -> None:
    """The messages that remain of an entry whose last one was archived stand by themselves."""
    conversations = StoredConversations(store)
    parts = [SystemPromptPart("be kind"), UserPromptPart("q")]
    await saved(conversations, ModelRequest(parts=parts), answer("a"))
    await store.rewind("c", 1)
    (request,) = (await loaded(conversations)).messages
    (part,) = request.parts
    assert isinstance(part, SystemPromptPart)
    await run(conversations, "q2")
    assert told((await loaded(conversations)).messages)[:2] == ["be kind", "q2"]


async def test_metadata_of_others_stays(store: AnyStore) -> None:
    """What others keep in the session's metadata stays there, and is no conflict."""
    conversations = StoredConversations(store)
    first = await saved(conversations, ask("q"))
    record = await conversations.read_record("c")
    metadata = await store.find_metadata("c")
    assert metadata is not None
    await store.set_metadata("c", {**metadata, "mine": 1})
    await conversations.save(replace_last(first, "q2"))
    changed = await store.find_metadata("c")
    assert record is not None
    assert changed is not None
    assert changed["mine"] == 1
    assert changed["pydantic_ai"]["record"]["revision"] == first.revision != record.revision


async def test_two_at_once_and_an_endpoint(store: AnyStore) -> None:
    """Whoever saves at once with others stores all of a turn or nothing, and nothing is lost."""
    conversations = [StoredConversations(store), StoredConversations(store)]

    async def save(number: int) -> None:
        own = conversations[number % 2]
        while True:
            conversation = await own.load("c") or Conversation(conversation_id="c")
            conversation.messages += [ask(f"q{number}"), answer(f"a{number}")]
            try:
                await own.save(conversation)
            except ConversationConflict:
                continue
            return

    async def chat(number: int) -> None:
        pair = [("user", f"q{number}"), ("assistant", f"a{number}")]
        await store.append("c", [{"role": role, "content": text} for role, text in pair])

    await asyncio.gather(*(save(n) if n % 3 else chat(n) for n in range(9)))
    texts = told((await loaded(conversations[0])).messages)
    assert sorted(texts[::2]) == [f"q{n}" for n in range(9)]
    assert [text[1:] for text in texts[::2]] == [text[1:] for text in texts[1::2]]


async def test_round_trips(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is one read, and a save one append."""
    conversations = StoredConversations(store)
    first = await saved(conversations, ask("q1"), answer("a1"))
    calls: list[str] = []
    for name in ("load_range", "append", "find_message", "set_metadata", "find_metadata"):
        real = getattr(store, name)

        def counting(*args: Any, _name: str = name, _real: Any = real, **options: Any) -> Any:
            calls.append(_name)
            return _real(*args, **options)

        monkeypatch.setattr(store, name, counting)
    await conversations.read_record("c")
    assert calls == ["load_range"]
    calls.clear()
    await conversations.save(replace_last(first, "q2"))
    assert calls == ["load_range", "append"]
    calls.clear()
    await conversations.load("c")
    assert calls == ["load_range", "load_range"]


async def test_a_request_saves_under_its_lease(store: AnyStore) -> None:
    """Given a request's session, its owner's conversations are saved, its own under its lease."""
    session = HermesSession(store, "c", owner="alice")
    conversations = StoredConversations(session)
    async with session.turn():
        await saved(conversations, ask("q1"))
        await saved(conversations, ask("q1"), name="other")
        fence = session.current_turn.fence if session.current_turn else 0
        await store.release("c", fence, "alice")
        await store.acquire("c", 30, "alice")
        with pytest.raises(TurnLost):
            await conversations.save(replace_last(await loaded(conversations), "late"))
    assert told((await loaded(StoredConversations(store, "alice"))).messages) == ["q1"]
    with pytest.raises(TypeError):
        StoredConversations(session, "bob")


async def test_ids_that_databases_refuse(store: AnyStore) -> None:
    """A conversation may have an id that no database could store."""
    conversations = StoredConversations(store)
    await saved(conversations, ask("q"), name="a\x00\ud800")
    assert told((await loaded(conversations, "a\x00\ud800")).messages) == ["q"]
    (record,) = await conversations.list_conversations()
    assert record.conversation_id == "a\x00\ud800"


async def test_no_numbers(store: AnyStore) -> None:
    """A number that is none comes back as such, and a retry without a tool is a user's message."""
    conversations = StoredConversations(store)
    feedback = RetryFeedbackPart("again", retry=RetryInfo("model_retry"))
    calling = ModelResponse(parts=[ToolCallPart("f", {"n": math.nan}, "c1")])
    await saved(conversations, calling, ModelRequest(parts=[feedback]))
    part = (await loaded(conversations)).messages[0].parts[0]
    assert isinstance(part, ToolCallPart)
    assert isinstance(part.args, dict)
    assert math.isnan(part.args["n"])
    assert (await store.load("c")).messages[1]["role"] == "user"


def test_the_page_runs() -> None:
    """The program on the docs page runs."""
    code = PAGE.read_text().split("```python conversation.py\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
