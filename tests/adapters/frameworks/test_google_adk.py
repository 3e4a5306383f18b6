"""ADK's sessions in a store, held to its rules beside its own service in memory."""

import asyncio
import math
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

from hermes_session_mw import HermesSession, MemoryStore, SQLAlchemyStore, TurnLost
from hermes_session_mw.adapters.chat_messages import chat_messages, store_item
from hermes_session_mw.adapters.google_adk import StoredSessionService
from hermes_session_mw.messages import Message

AnyStore = MemoryStore | SQLAlchemyStore
ALICE: dict[str, Any] = {"app_name": "shop", "user_id": "alice"}
ONE: dict[str, Any] = {**ALICE, "session_id": "s1"}
PAGE = Path(__file__).parents[3] / "docs" / "adapters" / "google-adk.md"


@pytest.fixture(params=["theirs", "memory", "sqlite"])
def service(request: pytest.FixtureRequest) -> BaseSessionService:
    """ADK's own service in memory, and one over each of our stores."""
    if request.param == "theirs":
        return InMemorySessionService()
    if request.param == "memory":
        return StoredSessionService(MemoryStore())
    folder = request.getfixturevalue("tmp_path")
    return StoredSessionService(SQLAlchemyStore(f"sqlite:///{folder}/sessions.db"))


def said(text: str, author: str = "user", **options: Any) -> Event:
    role = "user" if author == "user" else "model"
    content = types.Content(role=role, parts=[types.Part(text=text)])
    return Event(author=author, content=content, **options)


def changing(delta: dict[str, Any], **options: Any) -> Event:
    return Event(author="agent", actions=EventActions(state_delta=delta), **options)


def texts(session: Session | None) -> list[str | None]:
    assert session is not None
    contents = [event.content for event in session.events]
    return [None if each is None or not each.parts else each.parts[0].text for each in contents]


async def got(service: BaseSessionService, **options: Any) -> Session:
    session = await service.get_session(**{**ONE, **options})
    assert session is not None
    return session


class TestTheRules:
    """What ADK's contract wants of every session service."""

    async def test_create(self, service: BaseSessionService) -> None:
        """A session is created once, with a given id without its blanks, or a new one."""
        session = await service.create_session(**ALICE, session_id=" s1 ", state={"a": 1})
        assert (session.id, session.app_name, session.user_id) == ("s1", "shop", "alice")
        assert (session.state, session.events) == ({"a": 1}, [])
        assert await service.get_session(**ONE) == session
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**ONE)
        first, second = [await service.create_session(**ALICE) for _ in range(2)]
        assert len({"s1", "", first.id, second.id}) == 4
        blank = await service.create_session(**ALICE, session_id="  ")
        assert blank.id.strip()

    async def test_isolation(self, service: BaseSessionService) -> None:
        """A session is unknown to other users and other apps, which may have one of the same id."""
        await service.create_session(**ONE, state={"a": 1})
        for place in ({"user_id": "bob"}, {"app_name": "other"}, {"session_id": "s2"}):
            assert await service.get_session(**{**ONE, **place}) is None
            await service.create_session(**{**ONE, **place}, state={"a": 2})
        assert (await got(service)).state == {"a": 1}
        session = await service.get_session(app_name="", user_id="", session_id="s1")
        assert session is None

    async def test_state_has_scopes(self, service: BaseSessionService) -> None:
        """State of an app and of a user is shared, state named temporary is not kept."""
        state = {"app:a": 1, "user:u": 2, "temp:t": 3, "s": 4}
        await service.create_session(**ONE, state=state)
        shared = {"app:a": 1, "user:u": 2}
        assert (await got(service)).state == {**shared, "s": 4}
        assert (await service.create_session(**ALICE)).state == shared
        bob = {**ALICE, "user_id": "bob"}
        assert (await service.create_session(**bob)).state == {"app:a": 1}
        assert (await service.create_session(app_name="x", user_id="alice")).state == {}
        assert await service.get_user_state(**ALICE) == {"u": 2}
        assert await service.get_user_state(**bob) == {}

    async def test_append(self, service: BaseSessionService) -> None:
        """An event is stored with its change of state, and the session given is changed too."""
        session = await service.create_session(**ONE, state={"s": 0, "kept": 1})
        delta = {"s": None, "app:a": 1, "user:u": [1, 2], "temp:t": 3, "new": {"x": 1.5}}
        event = changing(delta, timestamp=1_800_000_000.25)
        assert await service.append_event(session, event) is event
        stored = {"s": None, "kept": 1, "app:a": 1, "user:u": [1, 2], "new": {"x": 1.5}}
        assert session.state == {**stored, "temp:t": 3}
        assert session.events == [event]
        assert session.last_update_time == event.timestamp == 1_800_000_000.25
        assert "temp:t" not in event.actions.state_delta
        again = await got(service)
        assert (again.state, again.events) == (stored, [event])
        assert again.last_update_time == event.timestamp
        await service.append_event(session, said("next", "agent"))
        assert texts(await got(service)) == [None, "next"]

    async def test_partial_events(self, service: BaseSessionService) -> None:
        """A partial event is returned, and neither stored nor added."""
        session = await service.create_session(**ONE)
        event = said("ha", "agent", partial=True)
        assert await service.append_event(session, event) is event
        assert session.events == (await got(service)).events == []

    async def test_unknown_session(self, service: BaseSessionService) -> None:
        """An event of a session that is not there, or was deleted, is refused."""
        with pytest.raises(SessionNotFoundError):
            await service.append_event(Session(id="s1", **ALICE), said("hi"))
        session = await service.create_session(**ONE)
        await service.delete_session(**ONE)
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session, said("hi"))
        assert await service.get_session(**ONE) is None

    async def test_limits(self, service: BaseSessionService) -> None:
        """A limit counts the newest events, and a time is that of the first event."""
        session = await service.create_session(**ONE)
        for number in range(5):
            await service.append_event(session, said(str(number), timestamp=float(number + 1)))
        for most in range(7):
            few = await got(service, config=GetSessionConfig(num_recent_events=most))
            assert texts(few) == ["0", "1", "2", "3", "4"][max(5 - most, 0) :]
            assert few.last_update_time == 5.0
        for since, count in [(0.0, 5), (3.0, 3), (3.5, 2), (9.0, 0)]:
            few = await got(service, config=GetSessionConfig(after_timestamp=since))
            assert len(few.events) == count
        config = GetSessionConfig(num_recent_events=2, after_timestamp=2.0)
        assert texts(await got(service, config=config)) == ["3", "4"]

    async def test_list(self, service: BaseSessionService) -> None:
        """A list has a user's sessions, or all users', with state and without events."""
        bob = {**ALICE, "user_id": "bob"}
        ids = [(ALICE, "z"), (ALICE, "a"), (bob, "b")]
        for number, (place, session_id) in enumerate(ids):
            session = await service.create_session(**place, session_id=session_id)
            event = changing({"n": number, "user:n": number}, timestamp=100.0 - number)
            await service.append_event(session, event)
        await service.create_session(app_name="other", user_id="alice")
        await service.create_session(app_name="sho", user_id="alice")
        mine = (await service.list_sessions(**ALICE)).sessions
        assert [each.id for each in mine] == ["a", "z"]
        assert [each.state for each in mine] == [{"n": 1, "user:n": 1}, {"n": 0, "user:n": 1}]
        everybody = (await service.list_sessions(app_name="shop")).sessions
        assert [(each.user_id, each.id) for each in everybody] == [
            ("bob", "b"),
            ("alice", "a"),
            ("alice", "z"),
        ]
        assert [each.last_update_time for each in everybody] == [98.0, 99.0, 100.0]
        assert not any(each.events for each in everybody)
        assert (await service.list_sessions(app_name="none")).sessions == []
        assert (await service.list_sessions(app_name="shop", user_id="none")).sessions == []

    async def test_delete(self, service: BaseSessionService) -> None:
        """A deleted session's id is free, and the user's state stays."""
        await service.delete_session(**ONE)
        session = await service.create_session(**ONE, state={"s": 1, "user:u": 1})
        await service.append_event(session, said("hi"))
        await service.delete_session(**ONE)
        assert (await service.list_sessions(**ALICE)).sessions == []
        fresh = await service.create_session(**ONE)
        assert (fresh.state, fresh.events) == ({"user:u": 1}, [])

    async def test_events_come_back_equal(self, service: BaseSessionService) -> None:
        """Every kind of part comes back as it was, and values that JSON lacks."""
        session = await service.create_session(**ONE)
        parts = [
            types.Part(text="hm", thought=True, thought_signature=b"\xff\x00"),
            types.Part(text="half \ud800\x00"),
            types.Part(inline_data=types.Blob(data=b"\xff\x01", mime_type="image/png")),
            types.Part(
                function_call=types.FunctionCall(id="c", name="f", args={"n": 2**70, "x": None})
            ),
            types.Part(
                function_response=types.FunctionResponse(
                    id="c", name="f", response={"t": (1, 2), "b": b"\xff"}
                )
            ),
            types.Part(executable_code=types.ExecutableCode(code="1", language="PYTHON")),
        ]
        event = Event(
            author="agent",
            invocation_id="i",
            content=types.Content(role="model", parts=parts),
            actions=EventActions(state_delta={"half": "\ud800", "b": b"\xff", "\ud800": 1}),
            long_running_tool_ids={"c", "d"},
            branch="a.b",
            custom_metadata={"x": [1, 2.5]},
        )
        await service.append_event(session, event)
        again = await got(service)
        assert again.events == [event] == session.events
        assert again.state == session.state == {"half": "\ud800", "b": b"\xff", "\ud800": 1}

    async def test_events_of_a_model(self, service: BaseSessionService) -> None:
        """An answer comes back with its reason and its usage, and shares nothing with another."""
        session = await service.create_session(**ONE)
        usage = types.GenerateContentResponseUsageMetadata(total_token_count=3)
        for text in ("a", "b"):
            event = said(text, "agent", finish_reason=types.FinishReason.STOP)
            event.usage_metadata = usage
            await service.append_event(session, event)
        again = await got(service)
        assert again.events == session.events
        assert again.events[0].model_dump_json() == session.events[0].model_dump_json()
        first, second = again.model_copy(deep=True).events
        first.actions.state_delta["x"] = 1
        first.content.parts[0].text = "changed"
        first.node_info.path = "p"
        assert second == session.events[1]
        assert (await got(service)).events == session.events

    async def test_an_event_that_is_delivered_again(self, service: BaseSessionService) -> None:
        """An event that is stored is not stored again; another one with its id is."""
        session = await service.create_session(**ONE)
        event = said("hi", id="e")
        await service.append_event(session, event)
        await service.append_event(session, event.model_copy(deep=True))
        assert session.events == (await got(service)).events == [event]
        await service.append_event(session, said("other", id="e"))
        assert texts(await got(service)) == texts(session) == ["hi", "other"]

    async def test_times_of_the_caller(self, service: BaseSessionService) -> None:
        """Events stay in the order in which they were appended, whatever their times are."""
        session = await service.create_session(**ONE)
        await service.append_event(session, said("first", timestamp=200.0))
        await service.append_event(session, said("second", timestamp=100.0))
        again = await got(service)
        assert texts(again) == ["first", "second"]
        assert again.last_update_time == session.last_update_time == 100.0

    async def test_what_is_returned_is_the_callers(self, service: BaseSessionService) -> None:
        """To change what was returned does not change what is stored."""
        session = await service.create_session(**ONE, state={"list": [1]})
        await service.append_event(session, said("hi"))
        mine = await got(service)
        mine.state["list"].append(2)
        mine.events.clear()
        assert (await got(service)).state == {"list": [1]}
        assert texts(await got(service)) == ["hi"]


async def test_of_two_that_read_the_same_one_is_stale(store: AnyStore) -> None:
    """The second of two events of the same history is refused, even by a clock that is ahead."""
    services = [StoredSessionService(store), StoredSessionService(store)]
    await services[0].create_session(**ONE, state={"count": 0})
    first, second = [await got(each) for each in services]
    await services[0].append_event(first, changing({"count": 1}, timestamp=1.0))
    with pytest.raises(StaleSessionError):
        await services[1].append_event(second, changing({"count": 1}, timestamp=9e9))
    by_hand = Session(id="s1", **ALICE, last_update_time=0.5)
    with pytest.raises(StaleSessionError):
        await services[1].append_event(by_hand, said("late"))
    again = await got(services[1])
    assert (again.state, len(again.events)) == ({"count": 1}, 1)
    await services[0].delete_session(**ONE)
    await services[0].create_session(**ONE)
    with pytest.raises(StaleSessionError):
        await services[0].append_event(first, said("of the deleted one"))


async def test_no_session_is_where_shared_state_is(store: AnyStore) -> None:
    """Whatever a session is named, its state is its own, and to delete it leaves shared state."""
    service = StoredSessionService(store, "shop")
    for user in ("", "alice"):
        state = {"app:open": True, "user:plan": "free"}
        await service.create_session(app_name="shop", user_id=user, session_id="s", state=state)
        for name in ("google_adk\napp:shop", "google_adk\nuser:shop"):
            odd = {"app_name": "shop", "user_id": user, "session_id": name}
            assert await service.get_session(**odd) is None
            await service.create_session(**odd, state={"n": 1})
            await service.delete_session(**odd)
        again = await service.get_session(app_name="shop", user_id=user, session_id="s")
        assert again is not None
        assert again.state == state


async def test_two_count_at_once(store: AnyStore) -> None:
    """Sessions that repeat what was stale lose no count, also where state is shared."""
    services = [StoredSessionService(store), StoredSessionService(store)]
    await services[0].create_session(**ONE, state={"count": 0})

    async def count(number: int) -> None:
        service = services[number % 2]
        own = await service.create_session(**ALICE)
        await service.append_event(own, changing({f"app:{number}": 1, f"user:{number}": 1}))
        while True:
            session = await got(service)
            event = changing({"count": session.state["count"] + 1})
            try:
                await service.append_event(session, event)
            except StaleSessionError:
                continue
            return

    await asyncio.gather(*map(count, range(6)))
    session = await got(services[0])
    assert session.state["count"] == len(session.events) == 6
    assert len(session.state) == 1 + 6 + 6


async def test_an_event_whose_storing_was_not_learned_of(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event is appended again after its reply was lost, and is there once."""
    service = StoredSessionService(store)
    session = await service.create_session(**ONE)
    real = store.append

    async def losing(*args: Any, **options: Any) -> int:
        await real(*args, **options)
        raise ConnectionError

    monkeypatch.setattr(store, "append", losing)
    event = changing({"n": 1})
    with pytest.raises(ConnectionError):
        await service.append_event(session, event)
    monkeypatch.undo()
    other = StoredSessionService(store)
    await other.append_event(session, event)
    await other.append_event(session, said("next"))
    assert session.events == (await got(service)).events
    assert len(session.events) == 2


class Model(BaseLlm):
    """A model that calls a function first, and then says how many contents it was given."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        contents = llm_request.contents
        last = contents[-1].parts[-1]
        part = types.Part(function_call=types.FunctionCall(name="add", args={"a": 2, "b": 3}))
        if last.function_response is not None:
            roles = "".join(content.role[0] for content in contents)
            part = types.Part(text=f"{last.function_response.response} {roles}")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


async def run(service: BaseSessionService, question: str, app_name: str = "shop") -> str:
    agent = LlmAgent(name="agent", model=Model(model="mock"), tools=[add], output_key="last")
    runner = Runner(app_name=app_name, agent=agent, session_service=service)
    content = types.Content(role="user", parts=[types.Part(text=question)])
    events = [
        event
        async for event in runner.run_async(user_id="alice", session_id="s1", new_message=content)
    ]
    return str(events[-1].content.parts[0].text)


async def test_what_is_stored_are_chat_messages(store: AnyStore) -> None:
    """An agent's run is stored as chat messages, which an endpoint gives to a model."""
    service = StoredSessionService(store)
    await service.create_session(**ONE)
    assert await run(service, "2 + 3?") == "{'sum': 5} umu"
    assert await run(service, "again?") == "{'sum': 5} umumumu"
    session = HermesSession(store, "shop:s1", owner="alice")
    await session.load()
    prompt = session.prompt()
    assert [each["role"] for each in prompt] == ["user", "assistant", "tool", "assistant"] * 2
    call = prompt[1]["tool_calls"][0]
    assert call["function"] == {"name": "add", "arguments": '{"a": 2, "b": 3}'}
    assert prompt[2] == {"role": "tool", "tool_call_id": call["id"], "content": '{"sum": 5}'}
    assert (await got(service)).state == {"last": "{'sum': 5} umumumu"}


CHAT: list[Message] = [
    {"role": "system", "content": "be kind"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this"},
            {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AP8x"}},
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
    """What an endpoint or another framework stored is an agent's own, and it goes on with it."""
    await store.append("s1", CHAT, "alice")
    service = StoredSessionService(store, "shop", agent_name="agent")
    session = await got(service)
    question, calling, result, last = session.events
    assert [part.text for part in question.content.parts] == ["what is this", None, None]
    assert question.content.parts[1].file_data.file_uri == "https://x.example/y.png"
    assert question.content.parts[2].inline_data.data == b"\x00\xff1"
    assert calling.get_function_calls()[0].name == "look"
    assert result.get_function_responses()[0].response == {"result": "a cat"}
    assert result.get_function_responses()[0].name == "look"
    assert (last.author, last.content.parts[0].text) == ("agent", "It is a cat.")
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**ONE)
    assert await run(service, "sure?") == "{'sum': 5} umumumu"
    for most in range(1, 10):
        few = await got(service, config=GetSessionConfig(num_recent_events=most))
        assert len(few.events) == min(most, 8)
    stale = await got(service)
    await store.append("s1", [{"role": "user", "content": "by curl"}], "alice")
    with pytest.raises(StaleSessionError):
        await service.append_event(stale, said("late"))
    session = await got(service)
    assert texts(session)[-1] == "by curl"
    assert session.last_update_time > stale.last_update_time
    assert session.state == stale.state != {}
    (listed,) = (await service.list_sessions(app_name="shop")).sessions
    assert (listed.id, listed.user_id) == ("s1", "alice")
    with pytest.raises(ValueError, match="another app"):
        await service.get_session(app_name="other", user_id="alice", session_id="s1")
    others = StoredSessionService(store, "shop")
    assert await run(others, "and now?") == "{'sum': 5} umumumumuumu"
    assert chat_messages((await store.load("s1", "alice")).messages)[-1]["role"] == "assistant"


async def test_a_request_appends_under_its_lease(store: AnyStore) -> None:
    """Given a request's session there are its user's sessions alone, its own under its lease."""
    await StoredSessionService(store).create_session(app_name="shop", user_id="bob")
    request = HermesSession(store, "s1", owner="alice")
    service = StoredSessionService(request, "shop")
    with pytest.raises(ValueError, match="own user"):
        await service.get_session(app_name="shop", user_id="bob", session_id="s1")
    async with request.turn():
        session = await service.create_session(**ONE)
        await service.append_event(session, said("hi"))
        fence = request.current_turn.fence if request.current_turn else 0
        await store.release("s1", fence, "alice")
        await store.acquire("s1", 30, "alice")
        with pytest.raises(TurnLost):
            await service.append_event(session, said("late"))
    everybody = (await service.list_sessions(app_name="shop")).sessions
    assert [each.user_id for each in everybody] == ["alice"]
    assert texts(await got(service)) == ["hi"]


async def test_one_append_for_an_event(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of a session that was read is one append, with what it changes of its state."""
    service = StoredSessionService(store)
    await service.create_session(**ONE)
    session = await got(service)
    calls: list[str] = []
    for name in ("load_range", "append", "find_metadata", "set_metadata", "find_turn"):
        real = getattr(store, name)

        def counting(*args: Any, _name: str = name, _real: Any = real, **options: Any) -> Any:
            calls.append(_name)
            return _real(*args, **options)

        monkeypatch.setattr(store, name, counting)
    await service.append_event(session, changing({"n": 1}))
    await service.append_event(session, said("hi"))
    assert calls == ["append", "append"]


async def test_values_that_json_lacks(store: AnyStore) -> None:
    """State keeps numbers that are none, and a session may have an id that no database stores."""
    service = StoredSessionService(store)
    place: dict[str, Any] = {"app_name": "a:b\ud800", "user_id": "u\x00", "session_id": "s\ud800"}
    session = await service.create_session(**place)
    await service.append_event(session, changing({"n": math.nan, "app:n": math.inf}))
    again = await got(service, **place)
    assert math.isnan(again.state["n"])
    assert again.state["app:n"] == math.inf
    (listed,) = (await service.list_sessions(app_name="a:b\ud800")).sessions
    assert (listed.id, listed.user_id) == ("s\ud800", "u\x00")
    await service.append_event(session, changing({"f": add}))
    assert "add" in (await got(service, **place)).state["f"]


def test_the_page_runs() -> None:
    """The program on the docs page runs."""
    code = PAGE.read_text().split("```python agent.py\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
