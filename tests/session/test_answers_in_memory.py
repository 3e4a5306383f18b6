"""Answers over stores that keep none: they outlive their connection, but not their process."""

import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    Answer,
    HermesSession,
    HermesStateStore,
    History,
    InvalidMessage,
    LifecycleStore,
    MemoryStore,
    NotSupported,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    StoreUnavailable,
    TurnConflict,
    session_routes,
)
from hermes_session_mw.session import answer_writer
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.testing.helpers import numbered
from tests.session.test_answers import BROKEN, answered, assistant
from tests.support.answers import USER, Client, Model, serving, until

STATE_DB = Path(__file__).parents[1] / "stores/hermes_state/state.db"


class Plain:
    """A store of three methods, in memory; ``is_down`` fails its appends."""

    def __init__(self) -> None:
        self.kept = MemoryStore()
        self.is_down, self.failures = False, 0
        self.turn_ids: list[str | None] = []

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        return await self.kept.load(session_id, owner, limit)

    async def append(
        self,
        session_id: str,
        messages: Sequence[dict[str, Any]],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        if self.is_down:
            self.failures += 1
            raise StoreUnavailable("down")
        self.turn_ids.append(turn_id)
        return await self.kept.append(session_id, messages, owner, turn_id, expected_length)

    async def aclose(self) -> None:
        await self.kept.aclose()


class Leasing:
    """A store with all methods of a `LifecycleStore`, and none of an `AnswerStore`."""

    def __init__(self) -> None:
        self.kept = MemoryStore()
        self.extensions = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(LifecycleStore, name):
            raise AttributeError(name)
        return getattr(self.kept, name)

    async def extend(self, *args: Any, **options: Any) -> None:
        self.extensions += 1
        await self.kept.extend(*args, **options)


@pytest.fixture(params=["plain", "leasing", "hermes"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """A store that keeps no answers."""
    made: Any = {"plain": Plain, "leasing": Leasing}.get(request.param)
    if made is None:
        (tmp_path / "state.db").write_bytes(STATE_DB.read_bytes())
    kept = HermesStateStore(tmp_path / "state.db") if made is None else made()
    yield kept
    await kept.aclose()


async def messages_of(store: Any) -> list[dict[str, Any]]:
    """Return the history, with the keys that every store keeps alike."""
    history = await store.load("id")
    kept = ("role", "content")
    return [{key: message[key] for key in kept} for message in history.messages]


TURN = [USER, assistant("one two")]


async def test_an_answer_goes_on_without_its_client(store: Any) -> None:
    """It is followed and found in its process, and its turn is stored at the end, once."""
    model = Model()
    begin = answered(model, turn_id="t")
    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        client, shared = Client(app), app._resolver._store
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        client.leave()
        await client.done.wait()
        session = HermesSession(shared, "id")
        answer = await session.running_answer()
        assert answer is not None
        assert await messages_of(store) == []
        with pytest.raises(SessionBusy):
            await HermesSession(shared, "id").answer(Model().pieces(), USER)
        model.say("two")
        model.end()
        assert [event.payload async for event in answer.events(1)] == ["two"]
        assert (await answer.wait(), answer.text) == ("completed", "one two")
        assert await session.running_answer() is None
        for found in (await session.find_answer(answer.id), await session.find_answer(turn_id="t")):
            assert found is not None
            assert [event.payload async for event in found.events()] == ["one ", "two"]
        # Another process knows nothing of it.
        other = HermesSession(StoreClient(store), "id")
        assert await other.find_answer(answer.id) is None
        assert await other.find_answer(turn_id="t") is None
        assert await other.running_answer() is None
    assert await messages_of(store) == TURN
    assert model.asked == 1


async def test_an_answer_is_stopped_by_the_routes(store: Any) -> None:
    """The routes follow and stop it in its process, and say elsewhere that none runs."""
    model = Model()
    routes = session_routes(store, allow_ownerless=True)
    async with (
        serving(answered(model), store, *routes) as app,
        serving(answered(model), store, *routes) as elsewhere,
        anyio.create_task_group() as tasks,
    ):
        client, path = Client(app), "/sessions/id/answer"
        follower, stopping = (
            Client(app, path=path),
            Client(app, path=path + "/stop", method="POST"),
        )
        tasks.start_soon(client.run)
        model.say("one")
        await client.sees("one")
        tasks.start_soon(follower.run)
        await follower.sees("one")
        others = [
            Client(elsewhere, path=path),
            Client(elsewhere, path=path + "/stop", method="POST"),
        ]
        for each in [*others, stopping]:
            await each.run()
        assert [each.status for each in [*others, stopping]] == [204, 204, 202]
        await follower.done.wait()
    assert follower.data[-1] == client.data[-1] == '{"state": "stopped"}'
    assert await messages_of(store) == [USER, assistant("one")]


async def test_a_deleted_conversation_has_no_answer(store: Any) -> None:
    """An answer that has ended is not told once its conversation is deleted."""
    model = Model()
    model.say("one")
    model.end()
    async with serving(answered(model, turn_id="t"), store) as app:
        client = Client(app)
        await client.run()
        session = HermesSession(app._resolver._store, "id")
        name = client.cursors[0].partition(":")[0]
        assert await session.find_answer(name) is not None
        await getattr(store, "kept", store).delete("id")
        assert await session.find_answer(name) is None
        assert await session.find_answer(turn_id="t") is None
        with pytest.raises(SessionDeleted):
            await session.answer(Model().pieces(), USER)


async def test_an_ended_answer_is_forgotten(store: Any) -> None:
    """It is found for ``answer_retention`` after its end."""
    model = Model()
    model.say("one")
    model.end()
    async with serving(answered(model, turn_id="t"), store, answer_retention=0.001) as app:
        client = Client(app)
        await client.run()
        session = HermesSession(app._resolver._store, "id")

        async def is_forgotten() -> bool:
            return await session.find_answer(client.cursors[0].partition(":")[0]) is None

        await until(is_forgotten)
        assert await session.find_answer(turn_id="t") is None


@pytest.mark.parametrize("ending", ["completed", "failed"])
async def test_the_turn_id_is_of_the_complete_turn(store: Any, ending: str) -> None:
    """An answer that breaks off does not use it up; a repeated one is refused."""
    model = Model()
    model.say("one ")
    if ending == "failed":
        model.say(ValueError())
    model.end()
    async with serving(answered(model, turn_id="t"), store) as app:
        await Client(app).run()
        session = HermesSession(app._resolver._store, "id")
        if isinstance(store, Plain):
            assert (store.turn_ids == ["t"]) is (ending == "completed")
            assert None not in store.turn_ids
        elif ending == "failed":
            assert await session.find_turn("t") is None
        else:
            assert await session.find_turn("t") is not None
            with pytest.raises(TurnConflict):
                await session.answer(Model().pieces(), USER, turn_id="t")


async def test_an_answer_replaces_a_turn(store: Any) -> None:
    """Where the store can replace, the old turn stays until the end; else it is refused."""
    await store.append("id", [USER, assistant("old")], turn_id="old")
    model = Model()
    async with serving(answered(model, replace_from=0), store) as app:
        session = HermesSession(app._resolver._store, "id")
        if isinstance(store, Plain):
            with pytest.raises(NotSupported, match="replace_from"):
                await session.answer(model.pieces(), USER, replace_from=0)
            return
        with pytest.raises(SessionConflict):
            await session.answer(model.pieces(), USER, replace_from=3)
        async with anyio.create_task_group() as tasks:
            client = Client(app)
            tasks.start_soon(client.run)
            model.say("one two")
            await client.sees("one two")
            assert await messages_of(store) == [USER, assistant("old")]
            model.end()
    assert await messages_of(store) == TURN


async def test_a_shutdown_stores_what_came(store: Any) -> None:
    """The lifespan's end stores the answer as far as it came."""
    model = Model()
    async with anyio.create_task_group() as tasks, serving(answered(model), store) as app:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
    assert client.data[-1] == '{"state": "incomplete"}'
    *_, last = (await store.load("id")).messages
    assert BROKEN["status"] in (last.get("status"), last.get("finish_reason"))


async def test_a_question_is_checked(store: Any) -> None:
    """What cannot be stored is refused before the model is asked."""
    model = Model()
    session = HermesSession(store, "id")
    with pytest.raises(InvalidMessage):
        await session.answer(model.pieces(), {"role": "user", "content": float("nan")})
    assert model.asked == 0
    assert await session.running_answer() is None


async def test_a_turn_is_stored_when_the_store_is_back() -> None:
    """Storing the turn at the end is tried again, under one id, for a while."""
    model, store = Model(), Plain()
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one two")
        store.is_down = True
        model.end()

        async def has_failed() -> bool:
            return store.failures > 1

        await until(has_failed)
        store.is_down = False
    assert client.data[-1] == '{"state": "completed"}'
    assert await messages_of(store) == TURN


async def test_an_answer_takes_over_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the turn's lease, renews it, and releases it at its end."""
    monkeypatch.setattr(answer_writer, "RENEWAL", 0)
    model, store, begun = Model(), Leasing(), list[Answer]()

    async def begin(session: HermesSession) -> Any:
        async with session.turn():
            begun.append(await session.answer(model.pieces(), USER))
        return begun[0].response()

    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        tasks.start_soon(Client(app).run)
        for number in itertools.count(1):

            async def is_extended(number: int = number) -> bool:
                return store.extensions > number

            model.say("one " if number == 1 else "two")
            await until(is_extended)
            with pytest.raises(SessionBusy):
                await HermesSession(store, "id").turn(wait=0).acquire()
            if number == 2:
                break
        model.end()
        await begun[0].wait()
        async with HermesSession(store, "id").turn(wait=0):
            pass
    assert await messages_of(store) == TURN


async def test_an_answer_whose_lease_was_lost_is_not_stored() -> None:
    """Once another turn has begun, the answer ends as failed."""
    model, store = Model(), Leasing()
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        record = store.kept._sessions["", "id"]
        await store.kept.release("id", record.fence)
        await store.kept.append("id", numbered(0), fence=await store.kept.acquire("id", 60))
        model.end()
    assert client.data[-1] == '{"state": "failed"}'
    assert (await store.load("id")).messages == numbered(0)
