"""Claude's Agent SDK over a store of ours."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    InMemorySessionStore,
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
)
from claude_agent_sdk.testing import run_session_store_conformance

from hermes_session_mw import (
    HermesSession,
    MemoryStore,
    MessageTooLarge,
    OwnerRequired,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.adapters.chat_messages import chat_messages, store_item
from hermes_session_mw.adapters.claude_agent import StoredSessionStore
from hermes_session_mw.session.prompts import prompt_of

PAGE = Path(__file__).parents[3] / "docs" / "adapters" / "claude-agent-sdk.md"
PROJECT = "-srv-app"
ID = "5b2e3bd1-97d5-4a3e-8a6a-000000000001"
KEY: Any = {"project_key": PROJECT, "session_id": ID}
SUB: Any = {**KEY, "subpath": "agents/agent-1"}

Store = MemoryStore | SQLAlchemyStore
Entry = Any


def entry(number: int, kind: str, content: Any, **more: Any) -> Entry:
    """Return an entry with a uuid, as Claude writes it."""
    ids = {"uuid": f"00000000-0000-4000-8000-{number:012}", "sessionId": ID}
    times = {"timestamp": f"2026-11-28T10:00:{number % 60:02}.000Z"}
    return {"type": kind, **ids, **times, "message": {"role": kind, "content": content}, **more}


def user(number: int, text: str = "Hi") -> Entry:
    return entry(number, "user", text)


def said(number: int, *blocks: Any, name: str = "msg_1") -> Entry:
    made = entry(number, "assistant", list(blocks))
    return {**made, "message": {**made["message"], "id": name, "usage": {"input_tokens": 3}}}


def text(value: str) -> Any:
    return {"type": "text", "text": value}


def use(number: int) -> Any:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "Read", "input": {"n": number}}


def result(number: int) -> Any:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": [text("5")]}


def chat_call(number: int) -> Any:
    function = {"name": "Read", "arguments": f'{{"n": {number}}}'}
    return {"id": f"toolu_{number}", "type": "function", "function": function}


def chat_result(number: int) -> Any:
    return {"role": "tool", "tool_call_id": f"toolu_{number}", "content": "5"}


IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
TRANSCRIPT: list[Entry] = [
    {"type": "mode", "mode": "normal", "sessionId": ID},
    user(1, "Read two files."),
    said(2, THINKING),
    said(3, text("I read them.")),
    said(4, use(1)),
    said(5, use(2)),
    entry(6, "user", [result(1)], toolUseResult={"stdout": "half: \ud83d", "odd": 2**70}),
    entry(7, "user", [result(2)]),
    said(8, text("It is 5."), name="msg_2"),
    entry(9, "user", "<caveat>", isMeta=True),
    entry(10, "user", [text("And this?"), IMAGE]),
    said(11, text("A dot."), name="msg_3"),
    {"type": "summary", "summary": "Two files", "leafUuid": "x"},
    {"type": "file-history-snapshot", "messageId": "m", "snapshot": {"hermes_escaped": 1}},
]
CHAT = [
    {"role": "user", "content": "Read two files."},
    {
        "role": "assistant",
        "content": "I read them.",
        "tool_calls": [chat_call(1), chat_call(2)],
    },
    chat_result(1),
    chat_result(2),
    {"role": "assistant", "content": "It is 5."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "And this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ],
    },
    {"role": "assistant", "content": "A dot."},
]


@pytest.mark.parametrize("place", ["theirs", "memory", "sqlite"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_conforms(
    anyio_backend: str, place: str, record_property: Callable[[str, object], None]
) -> None:
    """All 14 contracts of the SDK's suite hold, over both loops, as they do for its own store."""
    made: list[Store] = []
    with tempfile.TemporaryDirectory() as folder:

        def make() -> Any:
            url = f"sqlite:///{folder}/{len(made)}.db"
            made.append(SQLAlchemyStore(url) if place == "sqlite" else MemoryStore())
            return InMemorySessionStore() if place == "theirs" else StoredSessionStore(made[-1])

        await run_session_store_conformance(make)
        for store in made:
            await store.aclose()
    contracts = len(made) - 1  # one is asked for its methods alone, each other for one contract
    assert contracts == 14
    if anyio_backend == "asyncio":
        for name, value in {"place": place, "passed": contracts, "failed": 0, "skipped": 0}.items():
            record_property(name, value)


async def test_a_transcript_comes_back_and_is_a_chat(store: Store) -> None:
    """Every entry is as it was, and what is said is a chat that a model accepts."""
    sessions = StoredSessionStore(store)
    await sessions.append(KEY, TRANSCRIPT)
    assert await sessions.load(KEY) == TRANSCRIPT
    history = await store.load(ID, PROJECT)
    assert chat_messages(history.messages) == CHAT
    assert prompt_of(history.messages) == CHAT
    both = entry(20, "user", [result(3), result(4), text("And?")])
    await sessions.append(KEY, [said(19, use(3), use(4), name="msg_4"), both])
    assert (await sessions.load(KEY) or [])[-1] == both
    assert [each["role"] for each in prompt_of((await store.load(ID, PROJECT)).messages)][-4:] == [
        *("assistant", "tool", "tool", "user")
    ]


async def test_an_entry_is_stored_once(store: Store) -> None:
    """What is sent again, whole or in part, is not stored again."""
    first, more = [user(1), said(2, text("a"))], [said(2, text("a")), user(3)]
    sessions = StoredSessionStore(store)
    unnamed = {"type": "tag", "tag": "t"}
    for batch in (first, first, [*more, user(3), unnamed], [unnamed]):
        await sessions.append(KEY, batch)
        await sessions.append(SUB, [user(1)])
    assert await sessions.load(KEY) == [*first, user(3), unnamed, unnamed]
    assert await sessions.load(SUB) == [user(1)]


async def test_a_deleted_transcript_is_written_again(store: Store) -> None:
    """After a deletion nothing remains, and the same entries are stored anew."""
    sessions = StoredSessionStore(store)
    odd: Any = {**KEY, "subpath": "sub/\u00e9 %2F\0"}
    await sessions.append(SUB, [user(1)])
    await sessions.append(odd, [user(1)])
    for _ in range(2):
        await sessions.append(KEY, TRANSCRIPT)
        assert sorted(await sessions.list_subkeys(KEY)) == sorted([SUB["subpath"], odd["subpath"]])
        await sessions.delete(KEY)
        assert await sessions.load(KEY) is None
        assert await sessions.load(odd) is None
        assert await sessions.list_subkeys(KEY) == []
        assert await sessions.list_session_summaries(PROJECT) == []
        await sessions.append(SUB, [user(1)])
        await sessions.append(odd, [user(1)])
    assert (await store.list(PROJECT)).sessions[0].length == 1


async def test_writers_at_once_lose_nothing(store: Store) -> None:
    """Two processes' batches are whole, each entry is there once, and the summary has all."""
    stores = [StoredSessionStore(store) for _ in range(2)]
    batches = [
        [user(3 * number), {"type": "custom-title", "customTitle": f"t{number}"}, user(9000)]
        for number in range(1, 11)
    ]
    async with asyncio.TaskGroup() as tasks:
        for number, batch in enumerate(batches):
            tasks.create_task(stores[number % 2].append(KEY, batch))
    entries = await stores[0].load(KEY) or []
    assert len(entries) == 21
    titles = [each["customTitle"] for each in entries if "customTitle" in each]
    assert sorted(titles) == sorted(batch[1]["customTitle"] for batch in batches)
    (summary,) = await stores[0].list_session_summaries(PROJECT)
    assert summary["data"]["custom_title"] == titles[-1]


async def test_a_clients_metadata_is_no_summary(store: Store) -> None:
    """A text under the summary's name, as a client of OpenAI's API may set it, is in no way."""
    sessions = StoredSessionStore(store, "alice")
    await store.append(ID, [CHAT[0]], "alice", metadata={"claude_agent": "mine"})
    assert await sessions.list_session_summaries("any") == []
    await sessions.append(KEY, [user(1, "Hi")])
    (summary,) = await sessions.list_session_summaries("any")
    assert summary["data"]["first_prompt"] == "Hi"


async def test_a_big_batch_is_stored_in_order(store: Store) -> None:
    """More entries than a turn takes are several turns, which may be sent again."""
    sessions = StoredSessionStore(store)
    entries = [user(number, "x" * 600) for number in range(2500)]
    for _ in range(2):
        await sessions.append(KEY, entries)
    assert await sessions.load(KEY) == entries
    with pytest.raises(MessageTooLarge):
        await sessions.append(KEY, [user(9999, "x" * 2**20)])


async def test_the_sdk_lists_and_reads_sessions(store: Store) -> None:
    """The SDK's own functions find title, order and messages."""
    sessions = StoredSessionStore(store)
    other = "5b2e3bd1-97d5-4a3e-8a6a-000000000002"
    with tempfile.TemporaryDirectory() as folder:
        key: Any = {**KEY, "project_key": project_key_for_directory(folder)}
        await sessions.append(key, TRANSCRIPT)
        await sessions.append({**key, "session_id": other}, [user(1, "Later")])
        listed = await list_sessions_from_store(sessions, directory=folder)
        assert {each.session_id for each in listed} == {ID, other}
        assert {each.first_prompt for each in listed} == {"Read two files.", "Later"}
        read = await get_session_messages_from_store(sessions, ID, directory=folder)
        assert [each.type for each in read][-1] == "assistant"


OTHERS: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": CHAT[5]["content"]},
    {"role": "assistant", "content": "See.", "tool_calls": [chat_call(1), chat_call(2)]},
    chat_result(1),
    chat_result(2),
    store_item("other", {"hidden": 1}),
    store_item("other", {"shown": 1}, {"role": "assistant", "content": "It is 5."}),
]


async def test_a_chat_of_others_is_a_transcript(store: Store) -> None:
    """Messages of endpoints and other frameworks are entries in a chain, the same each time."""
    await store.append(ID, OTHERS, "alice")
    sessions = StoredSessionStore(store, owner="alice")
    entries = await sessions.load(KEY) or []
    assert entries == await sessions.load(KEY)
    assert [each["message"]["content"] for each in entries] == [
        [text("And this?"), IMAGE],
        [text("See."), use(1), use(2)],
        [result(1), result(2)],
        [text("It is 5.")],
    ]
    uuids = [each["uuid"] for each in entries]
    assert [each["parentUuid"] for each in entries] == [None, *uuids[:-1]]
    await sessions.append(KEY, [user(1)])
    await store.append(ID, [{"role": "user", "content": "x"}], "alice")
    again = await sessions.load(KEY) or []
    assert again[:5] == [*entries, user(1)]
    assert again[5]["parentUuid"] == user(1)["uuid"]
    assert [each["session_id"] for each in await sessions.list_sessions(PROJECT)] == [ID]
    assert await StoredSessionStore(store, owner="bob").load(KEY) is None


async def test_a_request_brings_owner_and_lease(store: Store) -> None:
    """In a request its owner counts, and without its lease nothing is written."""
    request = HermesSession(store, ID, owner="alice")
    async with request.turn() as turn:
        sessions = StoredSessionStore(request)
        await sessions.append(KEY, TRANSCRIPT)
        await store.release(ID, turn.fence or 0, "alice")
        await store.acquire(ID, 60, "alice")
        with pytest.raises(TurnLost):
            await sessions.append(KEY, [user(90)])
    await request.load()
    assert request.prompt() == CHAT
    with pytest.raises(OwnerRequired):
        StoredSessionStore(HermesSession(store, ID, owner=None))


def test_the_page_runs() -> None:
    """The program on the docs page runs."""
    code = PAGE.read_text().split("```python transcript.py\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
