"""An answer goes on without its client, can be followed from anywhere, and is stored once."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.responses import JSONResponse, Response

from hermes_session_mw import (
    Answer,
    CursorConflict,
    HermesSession,
    HermesSessionMiddleware,
    InvalidCursor,
    InvalidMessage,
    MemoryStore,
    SessionBusy,
    SQLAlchemyStore,
    StoreUnavailable,
    TurnConflict,
)
from hermes_session_mw.session import stored_answer
from hermes_session_mw.session.store_client import StoreClient
from tests.support.answers import USER, Client, Model, application, serving, until
from tests.support.asgi import lifespan

Stores = Callable[[], Any]


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, sqlite_url: str) -> Stores:
    """Makes stores of one database; as many processes would."""
    if request.param == "sqlite":
        return lambda: SQLAlchemyStore(sqlite_url)
    only = MemoryStore()
    return lambda: only


def answered(model: Model, **options: Any) -> Any:
    """Return an endpoint that answers by the model."""

    async def begin(session: HermesSession) -> Response:
        answer = await session.answer(model.pieces(), USER, **options)
        return answer.response()

    return begin


@asynccontextmanager
async def elsewhere(stores: Stores) -> AsyncIterator[HermesSession]:
    """The session in another process, which shares the database alone."""
    store = stores()
    try:
        yield HermesSession(StoreClient(store), "id")
    finally:
        await store.aclose()


async def ends(stores: Stores, answer_id: str) -> Answer:
    """Wait for the end of an answer, and return it as the store has it."""
    async with elsewhere(stores) as session:
        answer = await session.find_answer(answer_id)
        assert answer is not None
        with anyio.fail_after(30):
            await answer.wait()
        return answer


async def history(stores: Stores) -> list[Any]:
    async with elsewhere(stores) as session:
        return await session.load()


def assistant(text: str, **more: str) -> dict[str, str]:
    return {"role": "assistant", "content": text, **more}


BROKEN = {"status": "incomplete"}


async def test_an_answer_goes_on_without_its_client(stores: Stores) -> None:
    """The client leaves in the middle; the model is asked once, and the turn is stored once."""
    model = Model()
    async with serving(answered(model), stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        client.leave()
        await client.done.wait()
        model.say("two ", "three")
        model.end()
        answer = await ends(stores, client.cursors[0].partition(":")[0])
        assert (answer.state, answer.text) == ("completed", "one two three")
        assert answer.message == assistant("one two three")
    assert await history(stores) == [USER, assistant("one two three")]
    assert model.asked == 1


async def test_the_question_is_stored_before_the_model_is_asked(stores: Stores) -> None:
    """When ``answer()`` returns, another process finds the answer and its question."""
    model = Model()
    seen: list[Any] = []

    async def begin(session: HermesSession) -> Response:
        answer = await session.answer(model.pieces(), USER, turn_id="t")
        async with elsewhere(stores) as other:
            found = await other.running_answer()
            assert found is not None
            seen.append((found.id == answer.id, found.state, found.turn_id))
        model.end()
        return answer.response()

    async with serving(begin, stores()) as app:
        client = Client(app)
        await client.run()
    assert seen == [(True, "running", "t")]


@pytest.mark.parametrize("place", ["here", "elsewhere"])
async def test_a_follower_joins_from_a_cursor(stores: Stores, place: str) -> None:
    """Whoever joins after an event gets exactly the later ones, in this process or another."""
    model = Model()
    async with serving(answered(model), stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ", "two ")
        await client.sees("two ")
        store = app.store if place == "here" else stores()
        session = HermesSession(StoreClient(store), "id")
        if place == "here":
            session = HermesSession(app._resolver._store, "id")
        answer = await session.running_answer()
        assert answer is not None
        got: list[Any] = []

        async def follow(after: int | str, into: list[Any]) -> None:
            events = answer.events(after)
            into.extend([(event.number, event.cursor, event.payload) async for event in events])

        tasks.start_soon(follow, client.cursors[0], got)
        whole: list[Any] = []
        tasks.start_soon(follow, 0, whole)
        model.say("three")
        model.end()
        with anyio.fail_after(30):
            await client.done.wait()
            assert await answer.wait() == "completed"
            later: list[Any] = []
            await follow(2, later)
        if place == "elsewhere":
            await store.aclose()
    name = client.cursors[0].partition(":")[0]
    events = [(n, f"{name}:{n}", text) for n, text in enumerate(("one ", "two ", "three"), 1)]
    assert (got, whole, later) == (events[1:], events, events[2:])
    assert client.text.endswith('event: end\ndata: {"state": "completed"}\n\n')
    assert client.cursors == [f"{name}:1", f"{name}:2", f"{name}:3"]
    assert client.data[:3] == ['"one "', '"two "', '"three"']


async def test_followers_of_a_process_share_its_reads() -> None:
    """The store is asked no more often for many followers than for one, also at the end."""

    class Counting(MemoryStore):
        reads = 0

        async def read_events(self, *args: Any, **kwargs: Any) -> Any:
            self.reads += 1
            return await super().read_events(*args, **kwargs)

        async def find_answer(self, *args: Any, **kwargs: Any) -> Any:
            self.reads += 1
            return await super().find_answer(*args, **kwargs)

    model, store = Model(), Counting()
    got: list[Any] = []

    async def follow(answer: Answer) -> None:
        got.append(([event.payload async for event in answer.events()], answer.text))

    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        shared = StoreClient(store)
        for _ in range(50):
            answer = await HermesSession(shared, "id").running_answer()
            assert answer is not None
            tasks.start_soon(follow, answer)
        await anyio.wait_all_tasks_blocked()
        model.say("two")
        model.end()
        await client.done.wait()
    assert got == [(["one ", "two"], "one two")] * 50
    assert store.reads < 50


async def test_payloads_come_back_as_they_were(stores: Stores) -> None:
    """With ``assemble`` the log keeps JSON objects, and the message is what it returns of them."""
    model = Model()

    def assemble(payloads: list[Any]) -> dict[str, Any]:
        return assistant("".join(each["delta"] for each in payloads), model="m")

    begin = answered(model, assemble=assemble)
    async with serving(begin, stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        reused = {"delta": "one ", "n": [1.5, None]}
        model.say(reused)
        await client.sees("one ")
        reused["delta"] = "changed"
        model.say({"delta": "two"})
        model.end()
        await client.done.wait()
        answer = await ends(stores, client.cursors[0].partition(":")[0])
        events = [event.payload async for event in answer.events()]
    assert events == [{"delta": "one ", "n": [1.5, None]}, {"delta": "two"}]
    assert await history(stores) == [USER, assistant("one two", model="m")]


@pytest.mark.parametrize("place", ["here", "elsewhere"])
async def test_an_answer_is_stopped(stores: Stores, place: str) -> None:
    """A stop, from this process or another, ends the model's work, and keeps what came."""
    model = Model()
    async with serving(answered(model), stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        store = app._resolver._store if place == "here" else StoreClient(stores())
        answer = await HermesSession(store, "id").running_answer()
        assert answer is not None
        await answer.stop()
        with anyio.fail_after(30):
            assert await answer.wait() == "stopped"
            await model.ended.wait()
            await client.done.wait()
        assert client.data[-1] == '{"state": "stopped"}'
        if place == "elsewhere":
            await store._store.aclose()
    assert await history(stores) == [USER, assistant("one ", **BROKEN)]


@pytest.mark.parametrize(
    ("option", "header", "state"),
    [
        ("continue", None, "completed"),
        ("stop", None, "stopped"),
        ("stop", b"continue", "completed"),
        ("continue", b"stop", "stopped"),
    ],
)
async def test_what_a_disconnect_means(option: str, header: bytes | None, state: str) -> None:
    """A closed connection stops the answer if the endpoint, or before it the client, says so."""
    model, store = Model(), MemoryStore()
    begin = answered(model, on_disconnect=option)
    headers = [] if header is None else [(b"x-hermes-on-disconnect", header)]
    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        client = Client(app, *headers)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        client.leave()
        await client.done.wait()
        if state == "completed":
            model.end()
        assert (await ends(lambda: store, client.cursors[0].partition(":")[0])).state == state


@pytest.mark.parametrize("value", [b"maybe", b"", b"stop, continue"])
async def test_the_header_is_checked(value: bytes) -> None:
    """A client that says neither "continue" nor "stop" is answered 400; an empty value is none."""
    model = Model()
    model.end()
    async with serving(answered(model), MemoryStore()) as app:
        client = Client(app, (b"x-hermes-on-disconnect", value))
        await client.run()
    assert client.status == (400 if value else 200)
    assert ("invalid_on_disconnect" in client.text) is bool(value)


async def test_an_answer_ends_when_its_time_is_over(stores: Stores) -> None:
    """An answer that never ends is ended as incomplete after ``timeout``, and the model with it."""
    model = Model()
    async with serving(answered(model, timeout=0.3), stores()) as app:
        async with anyio.create_task_group() as tasks:
            client = Client(app)
            tasks.start_soon(client.run)
            model.say("one ")
        await model.ended.wait()
    assert client.data[-1] == '{"state": "incomplete"}'
    assert await history(stores) == [USER, assistant("one ", **BROKEN)]


class Gone(Exception):
    """What a model raises here."""


@pytest.mark.parametrize(
    ("junk", "stored"),
    [
        (Gone(), assistant("one ", **BROKEN)),
        (None, assistant("one ", **BROKEN)),
        (7, assistant("one ", **BROKEN)),
        ("\ud800", assistant("one \ufffd", **BROKEN)),
    ],
    ids=repr,
)
async def test_a_producer_that_fails(
    stores: Stores, junk: Any, stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What came is stored as recordings store it, and the state and the log say that it failed."""
    model = Model()
    async with serving(answered(model), stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ", junk)
        await client.done.wait()
    assert client.data == ['"one "', '{"state": "failed"}']
    assert await history(stores) == [USER, stored]
    assert "an answer has failed: " in caplog.text
    assert "one " not in caplog.text


@pytest.mark.parametrize("said", [(), ("one ",)])
async def test_a_refused_question_is_not_stored(stores: Stores, said: tuple[str, ...]) -> None:
    """After an exception of ``discard_on`` nothing of the turn is stored, and its key is free."""
    model, begun = Model(), []

    async def begin(session: HermesSession) -> Response:
        begun.append(await session.answer(model.pieces(), USER, turn_id="t", discard_on=(Gone,)))
        return begun[0].response()

    async with serving(begin, stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        error = Gone()
        model.say(*said, error)
        await client.done.wait()
        assert client.data[-1] == '{"state": "failed"}'
        assert (begun[0].error, begun[0].message) == (error, None)
        session = HermesSession(app._resolver._store, "id")
        assert await session.find_turn("t") is None
        found = await session.find_answer(turn_id="t")
        assert found is not None
        assert (found.id, found.state, found.error) == (begun[0].id, "failed", None)
    assert await history(stores) == []


@pytest.mark.parametrize("ending", ["completed", "killed"])
@pytest.mark.parametrize("payloads", [False, True])
async def test_an_answer_continues_what_was_begun(
    stores: Stores, ending: str, *, payloads: bool
) -> None:
    """The stored answer is what was begun and what came, also if the process is killed."""
    store = stores()
    await store.append("id", [USER, assistant("Once ", reasoning="Hm.", **BROKEN)])
    model, begun = Model(), assistant("Once ", reasoning="Hm.", **BROKEN)
    options: dict[str, Any] = {"replace_from": 0, "begun": begun}
    if payloads:
        options["assemble"] = lambda pieces: {"content": "".join(each["text"] for each in pieces)}
    begin = answered(model, **options)
    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say({"text": "more"} if payloads else "more")
        await client.sees("more")
        if ending == "killed":
            record = None

            async def is_written() -> bool:
                nonlocal record
                record = await store.open_answer("id")
                return record is not None and record.events == 1

            await until(is_written)
            await store.rotate("id", "other")  # which folds the answer
        model.end()
    name = "other" if ending == "killed" else "id"
    more = BROKEN if ending == "killed" else {}
    store = stores()
    stored = await store.load(name)
    await store.aclose()
    assert stored.messages == [USER, assistant("Once more", reasoning="Hm.", **more)]


async def test_an_answer_that_is_too_large() -> None:
    """What fits of it is stored, and the model is not asked for more."""
    model, store = Model(), MemoryStore(max_message_bytes=100)
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ", "x" * 100)
        await client.done.wait()
        assert model.ended.is_set()
    assert client.data == ['"one "', '{"state": "failed"}']
    _, answer = (await store.load("id")).messages
    assert answer["content"].startswith("one xxx")
    assert answer["status"] == "incomplete"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_event_loop_that_ends_stores_what_came(sqlite_url: str, backend: Any) -> None:
    """An answer whose event loop ends without a lifespan's end is stored as incomplete."""
    model: list[Model] = []
    store = SQLAlchemyStore(sqlite_url)

    async def begin() -> None:
        model.append(Model())
        model[0].say("one ")
        answer = await HermesSession(store, "id").answer(model[0].pieces(), USER)
        async with aclosing(answer.events()) as events:
            await anext(events)

    async def load() -> list[Any]:
        found = await store.load("id")
        await store.aclose()
        return found.messages

    anyio.run(begin, backend=backend)
    assert anyio.run(load) == [USER, assistant("one ", **BROKEN)]


def test_a_follower_in_another_event_loop(sqlite_url: str) -> None:
    """One middleware serves several event loops: each follows and stops the others' answers."""
    store = SQLAlchemyStore(sqlite_url)
    ready, done = threading.Event(), threading.Event()
    app = HermesSessionMiddleware(application(one_and_more), store)

    async def answer() -> None:
        async with lifespan(app), anyio.create_task_group() as tasks:
            client = Client(app)
            tasks.start_soon(client.run)
            await client.sees("one ")
            ready.set()
            with anyio.fail_after(30):
                await client.done.wait()
            assert client.data[-1] == '{"state": "stopped"}'
            await anyio.to_thread.run_sync(done.wait)

    async def follow() -> list[Any]:
        found = await HermesSession(app._resolver._store, "id").running_answer()
        assert found is not None
        got = []
        with anyio.fail_after(30):
            async for event in found.events():
                got.append(event.payload)
                if len(got) == 3:
                    await found.stop()
            got.append(await found.wait())
        return got

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(anyio.run, answer)
        assert ready.wait(30)
        got = anyio.run(follow, backend="trio")
        done.set()
        running.result()
    assert got[:3] == ["one ", "more ", "more "]
    assert got[-1] == "stopped"


async def one_and_more(session: HermesSession) -> Response:
    async def pieces() -> AsyncIterator[str]:
        yield "one "
        while True:
            await anyio.sleep(0.01)
            yield "more "

    return (await session.answer(pieces(), USER)).response()


async def test_payloads_that_cannot_be_assembled(stores: Stores) -> None:
    """A function that raises fails the answer, of which the question is stored."""
    model = Model()

    def assemble(_: list[Any]) -> dict[str, Any]:
        raise Gone

    begin = answered(model, assemble=assemble)
    async with serving(begin, stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say({"delta": "one"})
    assert client.data[-1] == '{"state": "failed"}'
    assert await history(stores) == [USER]


@pytest.mark.parametrize("ending", ["completed", "stopped", "failed", "empty"])
async def test_a_replaced_turn_stays_until_the_end(stores: Stores, ending: str) -> None:
    """The old turn stands while the new answer runs, and for good if that failed or is empty."""
    old = [USER, assistant("old")]
    store = stores()
    await store.append("id", old)
    model = Model()
    begin = answered(model, replace_from=0)
    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        if ending != "empty":
            model.say("new")
            await client.sees("new")
        assert await history(stores) == old
        if ending == "stopped":
            answer = await HermesSession(app._resolver._store, "id").running_answer()
            assert answer is not None
            await answer.stop()
        elif ending == "failed":
            model.say(Gone())
        else:
            model.end()
    kept = {"completed": assistant("new"), "stopped": assistant("new", **BROKEN)}
    assert await history(stores) == ([USER, kept[ending]] if ending in kept else old)


async def test_a_shutdown_ends_answers_in_order(stores: Stores) -> None:
    """The lifespan's end stops the models, and stores what came, before the store is closed."""
    model, closed = Model(), []
    store = stores()
    aclose = store.aclose

    async def noted() -> None:
        closed.append(model.ended.is_set())
        await aclose()

    store.aclose = noted
    async with anyio.create_task_group() as tasks:
        async with serving(answered(model), store) as app:
            client = Client(app)
            tasks.start_soon(client.run)
            model.say("one ")
            await client.sees("one ")
        assert closed == [True]
        with anyio.fail_after(30):
            await client.done.wait()
    assert client.data[-1] == '{"state": "incomplete"}'
    assert await history(stores) == [USER, assistant("one ", **BROKEN)]


async def test_without_a_lifespan_an_answer_ends_with_its_client(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody would end it, it ends with the request, as incomplete; one warning says so."""
    store = stores()
    models = [Model(), Model()]
    left = list(models)

    async def begin(session: HermesSession) -> Response:
        return (await session.answer(left.pop(0).pieces(), USER)).response()

    app = HermesSessionMiddleware(application(begin), store)
    for model in models:
        async with anyio.create_task_group() as tasks:
            client = Client(app)
            tasks.start_soon(client.run)
            model.say("one ")
            await client.sees("one ")
            client.leave()
        assert model.ended.is_set()
    assert await history(stores) == [USER, assistant("one ", **BROKEN)] * 2
    warnings = [each for each in caplog.records if "ends with its client" in each.message]
    assert len(warnings) == 1
    await store.aclose()


async def test_one_answer_at_a_time(stores: Stores) -> None:
    """While an answer runs, another one of the session is refused as busy, and asks no model."""
    model, second = Model(), Model()
    models = [model, second]

    async def begin(session: HermesSession) -> Response:
        return (await session.answer(models.pop(0).pieces(), USER)).response()

    async with serving(begin, stores()) as app, anyio.create_task_group() as tasks:
        client, late = Client(app), Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        await late.run()
        assert (late.status, second.asked) == (409, 0)
        assert "session_busy" in late.text
        model.end()


async def test_an_answer_takes_over_the_turn(stores: Stores) -> None:
    """An answer that begins in ``turn()`` holds its lease until it ends, not until the response."""
    model = Model()

    async def begin(session: HermesSession) -> Response:
        async with session.turn():
            answer = await session.answer(model.pieces(), USER)
        return JSONResponse({"id": answer.id})

    async with serving(begin, stores()) as app:
        client = Client(app)
        await client.run()
        async with elsewhere(stores) as other:
            with pytest.raises(SessionBusy):
                await other.turn(wait=0).acquire()
            model.say("one")
            model.end()
            await ends(stores, client.text.split('"')[3])
            async with other.turn(wait=0):
                assert other.history == [USER, assistant("one")]


async def test_an_idempotency_key_names_the_turn(stores: Stores) -> None:
    """The request's key becomes the turn's id, so that a repetition joins or finds it."""
    model = Model()

    async def begin(session: HermesSession) -> Response:
        running = await session.running_answer()
        if running is not None and running.turn_id == session.idempotency_key:
            return running.response()
        return (await session.answer(model.pieces(), USER)).response()

    async with serving(begin, stores()) as app, anyio.create_task_group() as tasks:
        clients = [Client(app, (b"idempotency-key", b"k")) for _ in range(2)]
        for client in clients:
            tasks.start_soon(client.run)
            if client is clients[0]:
                model.say("one")
                await client.sees("one")
        await clients[1].sees("one")
        model.end()
        for client in clients:
            await client.done.wait()
        assert clients[0].text == clients[1].text
        assert model.asked == 1
        session = HermesSession(app._resolver._store, "id", idempotency_key="k")
        assert await session.find_turn() is not None
        with pytest.raises(TurnConflict):
            await session.answer(Model().pieces(), USER)


async def test_a_request_that_is_no_turn_stores_nothing(stores: Stores) -> None:
    """Its client gets the answer, and no other request finds it."""
    model = Model()
    headers = (b"x-hermes-turn", b"none")
    async with serving(answered(model), stores()) as app, anyio.create_task_group() as tasks:
        client = Client(app, headers)
        tasks.start_soon(client.run)
        model.say("one")
        await client.sees("one")
        assert await HermesSession(app._resolver._store, "id").running_answer() is None
        model.end()
        await client.done.wait()
    assert client.data == ['"one"', '{"state": "completed"}']
    assert await history(stores) == []


class Failing(MemoryStore):
    """A store whose answers' operations fail while ``is_down``; ``writes`` counts what failed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down, self.failures = False, 0

    def _check(self) -> None:
        if self.is_down:
            self.failures += 1
            raise StoreUnavailable("down")

    async def write_events(self, *args: Any, **kwargs: Any) -> bool:
        self._check()
        return await super().write_events(*args, **kwargs)

    async def end_answer(self, *args: Any, **kwargs: Any) -> int | None:
        self._check()
        return await super().end_answer(*args, **kwargs)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_store_goes_away_in_the_middle(
    *, comes_back: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The client goes on getting pieces; the end says whether the turn is stored."""
    model, store = Model(), Failing()
    async with (
        serving(answered(model), store, store_timeout=30 if comes_back else 0.5) as app,
        anyio.create_task_group() as tasks,
    ):
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        store.is_down = True
        model.say("two ")
        await client.sees("two ")
        await until(lambda: failed(store))
        store.is_down = not comes_back
        model.say("three")
        model.end()
        with anyio.fail_after(30):
            await client.done.wait()
    state = "completed" if comes_back else "failed"
    assert client.data == ['"one "', '"two "', '"three"', f'{{"state": "{state}"}}']
    whole = [USER, assistant("one two three")]
    assert (await store.load("id")).messages == (whole if comes_back else [])
    assert "not written for now" in caplog.text
    assert ("only as far as it was written" in caplog.text) is not comes_back


async def test_a_store_that_is_slower_than_the_pieces() -> None:
    """A write that takes longer than the time between two writes delays the next, and no more."""

    class Slow(MemoryStore):
        writes = 0

        async def write_events(self, *args: Any, **kwargs: Any) -> bool:
            await anyio.sleep(0.25)
            self.writes += 1
            return await super().write_events(*args, **kwargs)

    model, store = Model(), Slow()

    async def twice() -> bool:
        return store.writes > 1

    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        model.say("two")
        await until(twice)
        model.end()
        await client.done.wait()
    assert client.data[-1] == '{"state": "completed"}'


async def failed(store: Failing) -> bool:
    return store.failures > 0


async def test_an_answer_whose_session_is_deleted_ends(stores: Stores) -> None:
    """Whoever deletes the conversation ends its answer; nothing is stored."""
    model, store = Model(), stores()
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        await store.delete("id")
        model.say("two ")
        with anyio.fail_after(30):
            await model.ended.wait()
            await client.done.wait()
    assert client.data[-1] == '{"state": "failed"}'


@pytest.mark.parametrize(
    ("after", "error"),
    [
        ("", InvalidCursor),
        ("x", InvalidCursor),
        (":1", InvalidCursor),
        ("-1", InvalidCursor),
        ("²", InvalidCursor),
        (-1, InvalidCursor),
        (2, InvalidCursor),
        ("2", InvalidCursor),
        ("9" * 400, InvalidCursor),
        ("other:1", CursorConflict),
    ],
)
@pytest.mark.parametrize("place", ["here", "elsewhere"])
async def test_cursors_that_are_refused(
    after: int | str, error: type[Exception], place: str
) -> None:
    """A cursor that is none, of the future or of another answer is a clear error."""
    model, store = Model(), MemoryStore()
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one")
        model.end()
        await client.done.wait()
        shared = app._resolver._store if place == "here" else StoreClient(store)
        answer = await HermesSession(shared, "id").find_answer(client.cursors[0].partition(":")[0])
        assert answer is not None
        with pytest.raises(error):
            await anext(aiter(answer.events(after)))
        assert await HermesSession(store, "id", owner="other").find_answer(answer.id) is None


async def test_a_client_of_a_killed_process_may_know_more_than_is_stored(stores: Stores) -> None:
    """It is not refused, also if it comes back before the lease has expired: it learns the end."""
    store, name = stores(), "a" * 32
    fence = await store.begin_answer("id", name, [USER], lease=3)
    await store.write_events("id", name, 1, ['"one"'], fence=fence, lease=3)
    answer = await HermesSession(store, "id").find_answer(name)
    assert answer is not None
    with anyio.fail_after(30):
        assert [event async for event in answer.events(after=3)] == []
    assert answer.state == "incomplete"
    await store.aclose()


async def test_a_cursor_is_not_refused_by_a_store_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether there is such an event is not known then, and the store's error says so."""

    class Away(MemoryStore):
        is_away = False

        async def find_answer(self, *args: Any, **kwargs: Any) -> Any:
            return await self._at_home(super().find_answer(*args, **kwargs))

        async def read_events(self, *args: Any, **kwargs: Any) -> Any:
            return await self._at_home(super().read_events(*args, **kwargs))

        async def _at_home(self, found: Awaitable[Any]) -> Any:
            record = await found
            if self.is_away:
                raise StoreUnavailable("away")
            return record

    monkeypatch.setattr(stored_answer, "_CATCHING_UP", 0.1)
    store, name = Away(), "a" * 32
    fence = await store.begin_answer("id", name, [USER], lease=60)
    await store.write_events("id", name, 1, ['"one"'], fence=fence, lease=60)
    answer = await HermesSession(store, "id").find_answer(name)
    assert answer is not None
    with pytest.raises(InvalidCursor):
        await answer.check(3)
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        await answer.check(3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_disconnect": "maybe"}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"assemble": 7}, TypeError),
        ({"on_end": 7}, TypeError),
        ({"pieces": ["one"]}, TypeError),
        ({"question": [{"content": float("nan")}]}, InvalidMessage),
    ],
)
async def test_arguments_are_checked_before_the_model_is_asked(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """What cannot be is refused at once, and leaves the session free and the key unused."""
    model, store = Model(), MemoryStore()
    session = HermesSession(store, "id", idempotency_key="k")
    given: dict[str, Any] = {"pieces": model.pieces(), "question": [USER]} | options
    pieces, question = given.pop("pieces"), given.pop("question")
    with pytest.raises(error):
        await session.answer(pieces, *question, **given)
    assert model.asked == 0
    async with session.turn(wait=0):
        assert await session.append(USER, assistant("one")) == 2
    assert await session.find_turn("k") is not None


async def test_answers_are_forgotten(stores: Stores) -> None:
    """An answer is found for ``answer_retention`` after its end; then another's end removes it."""
    async with serving(one_word, stores(), answer_retention=0.01) as app:
        first = Client(app)
        await first.run()
        name = first.cursors[0].partition(":")[0]
        session = HermesSession(app._resolver._store, "id")

        async def forgotten() -> bool:
            await Client(app).run()
            return await session.find_answer(name) is None

        await until(forgotten)
        assert len(await history(stores)) >= 4


async def one_word(session: HermesSession) -> Response:
    model = Model()
    model.say("one")
    model.end()
    return (await session.answer(model.pieces(), USER)).response()


@pytest.mark.parametrize("ending", ["completed", "stopped", "failed"])
async def test_a_function_is_called_at_the_end(stores: Stores, ending: str) -> None:
    """It is called once, however the answer ended, and finds the turn stored and the lease free."""
    model, store, called = Model(), stores(), []

    async def note(answer: Answer) -> None:
        session = HermesSession(store, "id")
        async with session.turn(wait=0):
            called.append((answer.state, answer.text, len(session.history)))

    async with serving(answered(model, on_end=note), store) as app:
        async with anyio.create_task_group() as tasks:
            client = Client(app)
            tasks.start_soon(client.run)
            model.say("one ")
            await client.sees("one ")
            if ending == "stopped":
                answer = await HermesSession(app._resolver._store, "id").running_answer()
                assert answer is not None
                await answer.stop()
            elif ending == "failed":
                model.say(Gone())
            else:
                model.end()
        assert client.data[-1] == f'{{"state": "{ending}"}}'
    assert called == [(ending, "one ", 2)]


async def test_a_function_that_fails_at_the_end_changes_nothing(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer stays as it ended, and the log has the kind of the failure alone."""

    async def fail(answer: Answer) -> None:
        raise Gone(answer.text)

    model = Model()
    model.say("one ")
    model.end()
    async with serving(answered(model, on_end=fail), stores()) as app:
        client = Client(app)
        await client.run()
    assert client.data == ['"one "', '{"state": "completed"}']
    assert await history(stores) == [USER, assistant("one ")]
    assert "on_end has failed: Gone" in caplog.text
    assert "one " not in caplog.text


@pytest.mark.parametrize("is_owned", [True, False])
async def test_a_function_that_never_returns_is_cancelled(*, is_owned: bool) -> None:
    """The lifespan's end, or the request's without one, waits for it for a while, and goes on."""
    model, store, cancelled = Model(), MemoryStore(), []

    async def wait(_: Answer) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    model.say("one ")
    model.end()
    app = HermesSessionMiddleware(
        application(answered(model, on_end=wait)), store, store_timeout=0.1
    )
    with anyio.fail_after(60):
        if is_owned:
            async with lifespan(app):
                await Client(app).run()
                assert not cancelled
        else:
            await Client(app).run()
        while not cancelled:
            await anyio.lowlevel.checkpoint()
    assert (await store.load("id")).messages == [USER, assistant("one ")]


async def test_an_event_tells_its_json(stores: Stores) -> None:
    """An event has its payload, and the JSON of it, which is sent as it is."""
    model = Model()
    async with serving(answered(model, assemble=whole), stores()) as app:
        async with anyio.create_task_group() as tasks:
            client = Client(app)
            tasks.start_soon(client.run)
            model.say({"delta": "\u20ac\u2028"})
            model.end()
        answer = await ends(stores, client.cursors[0].partition(":")[0])
        (event,) = [each async for each in answer.events()]
    assert event.payload == {"delta": "\u20ac\u2028"}
    assert event.body == '{"delta":"\u20ac\\u2028"}'
    assert client.data[0] == event.body


def whole(payloads: Sequence[Any]) -> dict[str, Any]:
    return assistant("".join(each["delta"] for each in payloads))


class Measuring(MemoryStore):
    """A store that counts what each write gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = self.writes = 0

    async def write_events(
        self, session_id: str, answer_id: str, first: int, events: Any, *args: Any, **kwargs: Any
    ) -> bool:
        self.writes += 1
        self.characters += len("".join(events)) + len(kwargs["growth"] or "")
        return await super().write_events(session_id, answer_id, first, events, *args, **kwargs)


@pytest.mark.parametrize("kind", ["texts", "begun texts", "payloads"])
async def test_what_is_written_grows_as_the_answer_does(kind: str) -> None:
    """However many writes an answer takes, each of its parts is given to the store once."""
    model, store = Model(), Measuring()
    options: dict[str, Any] = {"assemble": whole} if kind == "payloads" else {}
    if kind == "begun texts":
        options["begun"] = assistant("Once ", **BROKEN)
    word = "word " * 200
    async with (
        serving(answered(model, **options), store) as app,
        anyio.create_task_group() as tasks,
    ):
        client = Client(app)
        tasks.start_soon(client.run)
        for number in range(1, 9):
            model.say({"delta": word} if kind == "payloads" else word)

            async def is_written(number: int = number) -> bool:
                answer = await HermesSession(StoreClient(store), "id").running_answer()
                return answer is not None and answer.length == number

            await until(is_written)
        model.end()
    assert store.writes >= 8
    assert store.characters < 2.5 * 8 * len(word)
    begun = "Once " if kind == "begun texts" else ""
    assert (await store.load("id")).messages == [USER, assistant(begun + 8 * word)]
