"""LlamaIndex's chat store over a store, side by side with its SQLAlchemy store."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

from hermes_session_mw import (
    HermesSession,
    MemoryStore,
    NotSupported,
    SessionDeleted,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.adapters.chat_messages import chat_messages, store_item
from hermes_session_mw.adapters.llama_index import StoredChatStore

AnyStore = MemoryStore | SQLAlchemyStore
ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED
PICTURE = b"iVBORw0KGgo="
PAGE = Path(__file__).parents[3] / "docs" / "adapters" / "llama-index.md"


def theirs(folder: Path) -> SQLAlchemyChatStore:
    """LlamaIndex's own store over a new file."""
    return SQLAlchemyChatStore("messages", f"sqlite+aiosqlite:///{folder}/theirs.db")


@pytest.fixture(params=["theirs", "memory", "sqlite"])
def chat_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncDBChatStore:
    """LlamaIndex's own store, and one over each of ours."""
    if request.param == "theirs":
        return theirs(tmp_path)
    if request.param == "memory":
        return StoredChatStore(MemoryStore())
    return StoredChatStore(SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db"))


def ask(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def answer(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


async def told(
    chat_store: AsyncDBChatStore,
    status: MessageStatus | None = ACTIVE,
    key: str = "c",
    **options: Any,
) -> list[str | None]:
    """Return the texts that a store has."""
    return [each.content for each in await chat_store.get_messages(key, status, **options)]


async def add(
    chat_store: AsyncDBChatStore, texts: str, status: MessageStatus = ACTIVE, key: str = "c"
) -> None:
    """Add a message for each letter."""
    await chat_store.add_messages(key, [ask(text) for text in texts], status)


class TestBesideTheirs:
    """Fifteen checks that both stores pass."""

    async def test_nothing(self, chat_store: AsyncDBChatStore) -> None:
        """Where nothing was added there is nothing, and removing it is no error."""
        assert await told(chat_store) == await told(chat_store, None) == []
        assert await chat_store.count_messages("c") == 0
        assert await chat_store.get_keys() == []
        assert await chat_store.delete_message("c", 1) is None
        assert await chat_store.delete_oldest_messages("c", 1) == []
        assert await chat_store.archive_oldest_messages("c", 1) == []
        await chat_store.delete_messages("c")

    async def test_add(self, chat_store: AsyncDBChatStore) -> None:
        """Messages come back in their order, as they were."""
        await chat_store.add_message("c", ask("a"))
        await chat_store.add_messages("c", [answer("b"), ask("c")])
        assert await chat_store.get_messages("c") == [ask("a"), answer("b"), ask("c")]

    async def test_limit_is_of_the_oldest(self, chat_store: AsyncDBChatStore) -> None:
        """A limit counts the oldest messages."""
        await add(chat_store, "abc")
        assert [await told(chat_store, limit=n) for n in (0, 2, 9)] == [[], [*"ab"], [*"abc"]]

    async def test_offset(self, chat_store: AsyncDBChatStore) -> None:
        """An offset leaves the oldest ones out."""
        await add(chat_store, "abcd")
        assert await told(chat_store, offset=1) == [*"bcd"]
        assert await told(chat_store, limit=2, offset=1) == [*"bc"]
        assert await told(chat_store, limit=2, offset=9) == []

    async def test_count(self, chat_store: AsyncDBChatStore) -> None:
        """Messages are counted by their status."""
        await add(chat_store, "abc")
        await add(chat_store, "d", ARCHIVED)
        counts = [await chat_store.count_messages("c", each) for each in (ACTIVE, ARCHIVED, None)]
        assert counts == [3, 1, 4]

    async def test_add_with_a_status(self, chat_store: AsyncDBChatStore) -> None:
        """A message may be added as an archived one, and keeps its place among all."""
        await add(chat_store, "a")
        await add(chat_store, "b", ARCHIVED)
        await add(chat_store, "c")
        assert await told(chat_store) == [*"ac"]
        assert await told(chat_store, ARCHIVED) == ["b"]
        assert await told(chat_store, None) == [*"abc"]
        assert await told(chat_store, None, limit=2, offset=1) == [*"bc"]

    async def test_archive_oldest(self, chat_store: AsyncDBChatStore) -> None:
        """The oldest active messages are archived, and returned."""
        await add(chat_store, "ab")
        await add(chat_store, "c", ARCHIVED)
        await add(chat_store, "de")
        archived = await chat_store.archive_oldest_messages("c", 3)
        assert [each.content for each in archived] == [*"abd"]
        assert await told(chat_store) == ["e"]
        assert await told(chat_store, ARCHIVED) == [*"abcd"]
        assert await told(chat_store, None) == [*"abcde"]
        assert len(await chat_store.archive_oldest_messages("c", 9)) == 1
        assert await told(chat_store) == []

    async def test_delete_oldest(self, chat_store: AsyncDBChatStore) -> None:
        """The oldest active messages are deleted, and returned, whatever else there is."""
        await add(chat_store, "a", ARCHIVED)
        await add(chat_store, "bcd")
        deleted = await chat_store.delete_oldest_messages("c", 2)
        assert [each.content for each in deleted] == [*"bc"]
        assert await told(chat_store, None) == [*"ad"]
        assert len(await chat_store.delete_oldest_messages("c", 9)) == 1
        assert await told(chat_store, None) == ["a"]

    async def test_archived_and_deleted(self, chat_store: AsyncDBChatStore) -> None:
        """What is deleted is not among what is archived."""
        await add(chat_store, "abcd")
        await chat_store.archive_oldest_messages("c", 1)
        await chat_store.delete_oldest_messages("c", 1)
        await chat_store.archive_oldest_messages("c", 1)
        assert await told(chat_store, ARCHIVED) == [*"ac"]
        assert await told(chat_store) == ["d"]

    async def test_delete_message(self, chat_store: AsyncDBChatStore) -> None:
        """A message is deleted by its number, and returned."""
        await add(chat_store, "abc")
        deleted = await chat_store.delete_message("c", 2)
        assert deleted is not None
        assert deleted.content == "b"
        assert await told(chat_store) == [*"ac"]
        assert await chat_store.delete_message("c", 9) is None
        assert await chat_store.delete_message("other", 1) is None

    async def test_set(self, chat_store: AsyncDBChatStore) -> None:
        """Messages that are set take the place of all others, of every status."""
        await add(chat_store, "ab")
        await chat_store.archive_oldest_messages("c", 1)
        await chat_store.set_messages("c", [ask("c"), ask("d")])
        assert await told(chat_store, None) == [*"cd"]
        await chat_store.archive_oldest_messages("c", 1)
        assert await told(chat_store, ARCHIVED) == ["c"]
        await chat_store.set_messages("c", [ask("e")], ARCHIVED)
        assert await told(chat_store) == []
        assert await told(chat_store, None) == ["e"]
        await chat_store.set_messages("c", [])
        assert await told(chat_store, None) == []

    async def test_delete_by_status(self, chat_store: AsyncDBChatStore) -> None:
        """All messages of a status, or all that there are, are deleted, and the key goes on."""
        await add(chat_store, "abc")
        await chat_store.archive_oldest_messages("c", 1)
        await add(chat_store, "d", ARCHIVED)
        await chat_store.delete_messages("c", ARCHIVED)
        assert await told(chat_store, None) == [*"bc"]
        await chat_store.archive_oldest_messages("c", 1)
        await add(chat_store, "e", ARCHIVED)
        await chat_store.delete_messages("c", ACTIVE)
        assert await told(chat_store, None) == [*"be"]
        await chat_store.delete_messages("c")
        assert await told(chat_store, None) == []
        await add(chat_store, "f")
        assert await told(chat_store, None) == ["f"]

    async def test_keys(self, chat_store: AsyncDBChatStore) -> None:
        """Keys are those that have a message of some status, each with its own messages."""
        for key in "abcd":
            await add(chat_store, key, key=key)
        await chat_store.archive_oldest_messages("b", 1)
        await chat_store.delete_oldest_messages("c", 1)
        await chat_store.delete_messages("d")
        assert sorted(await chat_store.get_keys()) == [*"ab"]
        assert await told(chat_store, key="a") == ["a"]

    async def test_memory(self, chat_store: AsyncDBChatStore) -> None:
        """A memory archives what its limit does not hold, and goes on where it was left."""
        options: dict[str, Any] = {
            "session_id": "c", "chat_store": chat_store, "tokenizer_fn": str.split,
            "token_limit": 8, "token_flush_size": 2, "chat_history_token_ratio": 0.7,
        }  # fmt: skip
        memory = Memory.from_defaults(**options)
        for number in range(4):
            await memory.aput(ask(f"q {number}"))
            await memory.aput(answer(f"a {number}"))
        assert [each.content for each in await memory.aget()] == ["q 3", "a 3"]
        again = Memory.from_defaults(**options)
        assert len(await again.aget_all()) == 8
        await again.aset([ask("new")])
        assert [each.content for each in await memory.aget_all()] == ["new"]
        await again.areset()
        assert await memory.aget_all() == []

    async def test_many_at_once(self, chat_store: AsyncDBChatStore) -> None:
        """Messages that are added at once are all there."""
        await add(chat_store, "x")
        await asyncio.gather(*(add(chat_store, letter) for letter in "abcdefgh"))
        assert sorted(map(str, await told(chat_store))) == [*"abcdefghx"]


async def test_messages_that_cannot_be_set(store: AnyStore) -> None:
    """Messages that are refused leave those that there were."""
    chat_store = StoredChatStore(store)
    await add(chat_store, "a")
    with pytest.raises(ValueError, match="nests deeper"):
        await chat_store.set_messages("c", [ChatMessage(additional_kwargs=_deep(200))])
    assert await told(chat_store) == ["a"]


async def test_what_is_no_number(store: AnyStore) -> None:
    """NaN comes back as such."""
    chat_store = StoredChatStore(store)
    await chat_store.add_message("c", ChatMessage(additional_kwargs={"nan": math.nan}))
    (found,) = await chat_store.get_messages("c")
    assert math.isnan(found.additional_kwargs["nan"])


def _deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


def said(role: str, *blocks: Any) -> ChatMessage:
    return ChatMessage(role=role, blocks=list(blocks))


HOSTILE = {"n": 2**70, "t": (1, b"\xff"), "x": "\ud800", "nan": [math.inf]}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
KINDS = [
    ChatMessage(role="system", content="be kind"),
    ChatMessage(role="developer", content="be brief"),
    ChatMessage(role="user", content=""),
    said("user", TextBlock(text="a"), TextBlock(text="b")),
    said("user", ImageBlock(image=PICTURE), AudioBlock(audio=b"RIFFxxxx")),
    said("user", ImageBlock(url="https://h/a.png", detail="low")),
    said("user", DocumentBlock(data=b"%PDF-1.7", title="a.pdf")),
    said("user", VideoBlock(url="https://h/a.mp4")),
    said("user", CachePoint(cache_control={"type": "ephemeral"})),
    said("user", CitableBlock(title="t", source="s", content="cited")),
    said("assistant", ThinkingBlock(content="hm", additional_information={"signature": "x"})),
    said(
        "assistant",
        CitationBlock(
            cited_content="c", source="s", title="t", additional_location_info={"page": 1}
        ),
    ),
    said(
        "assistant",
        TextBlock(text="see"),
        ToolCallBlock(tool_call_id="1", tool_name="f", tool_kwargs=HOSTILE),
    ),
    ChatMessage(role="assistant", content="old", additional_kwargs={"tool_calls": [CALL]}),
    ChatMessage(role="tool", content="r", additional_kwargs={"tool_call_id": "1", "name": "f"}),
    ChatMessage(role="tool", content="without an id"),
    ChatMessage(role="model", content="hi", additional_kwargs={"name": "ann", "none": None}),
    said("assistant"),
]


async def test_every_kind_comes_back(store: AnyStore) -> None:
    """Messages of every kind come back as they were added."""
    chat_store = StoredChatStore(store)
    await chat_store.add_messages("c", KINDS)
    assert await chat_store.get_messages("c") == KINDS
    await chat_store.add_messages("d", KINDS, ARCHIVED)
    assert await chat_store.get_messages("d", ARCHIVED) == KINDS
    assert chat_messages((await store.load("d")).messages) == []
    object_inside = ChatMessage(content="q", additional_kwargs={"raw": object()})
    with pytest.raises(ValueError, match="serialize"):
        await chat_store.add_messages("c", [object_inside])


async def test_others_read_chat_messages(store: AnyStore) -> None:
    """An endpoint, and any other adapter, reads the conversation as chat messages."""
    calls = [ToolCallBlock(tool_call_id=i, tool_name="f", tool_kwargs={"n": 1}) for i in "12"]
    results = [
        ChatMessage(role="tool", content="r" + i, additional_kwargs={"tool_call_id": i})
        for i in "12"
    ]
    picture = ImageBlock(image=PICTURE, image_mimetype="image/png")
    await StoredChatStore(store).add_messages(
        "c",
        [
            ChatMessage(blocks=[TextBlock(text="see"), picture]),
            ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm")]),
            ChatMessage(role="assistant", blocks=[TextBlock(text="wait"), *calls]),
            *results,
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
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
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


async def test_what_others_stored(store: AnyStore) -> None:
    """A conversation of chat messages, or of another framework, goes on here."""
    audio = {"type": "input_audio", "input_audio": {"data": "YWFhYQ==", "format": "wav"}}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,YWFhYQ=="}}
    bad = [{"image_url": {"url": "none"}}, {"type": "new"}, {"file": {"file_data": "x"}}, "text"]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}}
    image = {"image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    chat: list[dict[str, Any]] = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, audio, file, *bad]},
        {"role": "user", "content": [image, {"image_url": {"url": "https://h/a.png"}}]},
        {"role": "assistant", "content": None, "tool_calls": [call, custom, {"id": 3}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "r"}]},
        store_item("another", {"secret": 1}),
        {"role": "assistant", "content": None, "refusal": "no"},
        store_item("another", {"x": 1}, {"role": "assistant", "content": "kept"}),
        {"role": "assistant", "content": None},
        {"role": "function", "name": "f", "content": "old"},
        store_item("llama_index", {"message": {"role": 1}}),
        {"role": "user", "content": "said", "name": "ann"},
    ]
    await store.append("c", chat)
    chat_store = StoredChatStore(store)
    found = await chat_store.get_messages("c")
    assert [[each.block_type for each in message.blocks] for message in found] == [
        ["text"],
        ["text", "audio", "document"],
        ["image", "image"],
        ["tool_call"] * 2,
        ["text"],
        ["text"],
        ["text"],
        ["text"],
    ]
    assert found[4].additional_kwargs == {"tool_call_id": "1"}
    assert [each.content for each in found[4:]] == ["r", "no", "kept", "said"]
    assert [each.content for each in await chat_store.get_messages("c", limit=6)][4:] == ["r", "no"]
    assert len(await chat_store.archive_oldest_messages("c", 6)) == 6
    assert [each.get("content") for each in (await store.load("c")).messages][::5] == ["kept"]
    assert await told(chat_store) == ["kept", "said"]


async def test_what_others_archive(store: AnyStore) -> None:
    """Messages that another compacts are archived ones, and those that one edits are deleted."""
    chat_store = StoredChatStore(store)
    await add(chat_store, "abcd")
    await store.set_metadata("c", {"mine": 1})
    summary = {"role": "user", "content": "in short"}
    replaced = (await store.load("c")).messages[:2]
    await store.compact("c", replaced, [summary])
    await store.append("c", [{"role": "user", "content": "edited"}], replace_from=2)
    assert await told(chat_store) == ["in short", "c", "edited"]
    assert await told(chat_store, ARCHIVED) == [*"ab"]
    with pytest.raises(NotSupported):
        await chat_store.delete_message("c", 1)
    await chat_store.set_messages("c", [ask("new")])
    assert await told(chat_store, None) == ["new"]
    metadata = await store.find_metadata("c")
    assert metadata is not None
    assert metadata["mine"] == 1


async def test_owners_and_keys(store: AnyStore) -> None:
    """A conversation is its owner's, and its key may be any text."""
    chat_store = StoredChatStore(store, "alice")
    for number in range(60):
        await store.append(f"s{number}", [{"role": "user", "content": "q"}], "alice")
    await add(chat_store, "a", key="a\x00\ud800")
    assert await told(chat_store, key="a\x00\ud800") == ["a"]
    assert len(await chat_store.get_keys()) == 61
    assert "a\x00\ud800" in await chat_store.get_keys()
    assert await StoredChatStore(store, "bob").get_keys() == []
    assert await told(StoredChatStore(store, "bob"), key="s1") == []
    await store.delete("s1", "alice")
    with pytest.raises(SessionDeleted):
        await add(chat_store, "a", key="s1")
    with pytest.raises(ValueError, match="negative"):
        await chat_store.get_messages("c", limit=-1)


async def test_archiving_while_others_add(store: AnyStore) -> None:
    """Whoever archives, deletes and adds at once loses and doubles nothing."""
    chat_store = StoredChatStore(store)
    letters = [chr(number) for number in range(97, 97 + 16)]
    await add(chat_store, "".join(letters[:8]))

    async def archive() -> None:
        await chat_store.archive_oldest_messages("c", 1)

    async def read() -> None:
        everything = await told(chat_store, None)
        assert len(everything) == len(set(everything))

    work = [add(chat_store, letter) for letter in letters[8:]]
    await asyncio.gather(*work, *(archive() for _ in range(4)), *(read() for _ in range(4)))
    assert await told(chat_store, ARCHIVED) == letters[:4]
    assert sorted(map(str, await told(chat_store, None))) == letters


async def test_a_request_writes_under_its_lease(store: AnyStore) -> None:
    """Given a request's session, its conversation is kept, with its owner, key and lease."""
    session = HermesSession(store, "c", owner="alice", idempotency_key="k")
    chat_store = StoredChatStore(session)
    assert await chat_store.get_keys() == []
    async with session.turn():
        await add(chat_store, "ab", key="any")
        turn = await store.find_turn("c", "k", "alice")
        assert turn is not None
        assert len(turn.messages) == 2
        await chat_store.archive_oldest_messages("any", 1)
        fence = session.current_turn.fence if session.current_turn else 0
        await store.release("c", fence, "alice")
        await store.acquire("c", 30, "alice")
        with pytest.raises(TurnLost):
            await chat_store.archive_oldest_messages("any", 1)
        with pytest.raises(TurnLost):
            await chat_store.delete_messages("any")
    assert await chat_store.get_keys() == ["c"]
    assert await told(StoredChatStore(store, "alice"), None) == [*"ab"]
    with pytest.raises(TypeError):
        StoredChatStore(session, "bob")


def test_the_page_runs() -> None:
    """The program on the docs page runs."""
    code = PAGE.read_text().split("```python memory.py\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
