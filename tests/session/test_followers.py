"""Followers of another process's answer: what they cost together, and what wakes them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from sqlalchemy import URL

from hermes_session_mw import MemoryStore, SQLAlchemyStore
from hermes_session_mw.session import answer_flush, answer_writer, stored_answer
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.testing.answer_writers import begun
from tests.session.test_answers import answered
from tests.support.answers import Client, Follower, Model, found, serving, until

NEVER = 3600.0
"""Seconds that no test takes."""


class Watched(MemoryStore):
    """A store that wakes its followers, and counts what it is asked.

    Attributes:
        reads: how often events, or an answer, were read.
        is_silent: whether it wakes nobody, though it says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.is_silent = False
        self._wakers: list[Callable[[], None]] = []

    @contextmanager
    def watch_answer(self, _id: str, _owner: str, wake: Callable[[], None]) -> Iterator[Any]:
        self._wakers.append(wake)
        yield self
        self._wakers.remove(wake)

    async def renew(self) -> bool:
        return True

    async def read_events(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        return await super().read_events(*args, **kwargs)

    async def find_answer(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        return await super().find_answer(*args, **kwargs)

    async def write_events(self, *args: Any, **kwargs: Any) -> Any:
        return self._waking(await super().write_events(*args, **kwargs))

    async def end_answer(self, *args: Any, **kwargs: Any) -> Any:
        return self._waking(await super().end_answer(*args, **kwargs))

    def _waking(self, result: Any) -> Any:
        for wake in () if self.is_silent else tuple(self._wakers):
            wake()
        return result


async def have(followers: list[Follower], *payloads: str) -> None:
    """Wait until all have these payloads."""

    async def is_so() -> bool:
        return all(each.got == list(payloads) for each in followers)

    await until(is_so)


@pytest.mark.parametrize("count", [2, 200])
async def test_what_followers_of_a_process_read(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Each write is read once, and so is the end, for 200 followers as for two."""
    monkeypatch.setattr(stored_answer, "_FIRST_PAUSE", NEVER)
    monkeypatch.setattr(stored_answer, "_LONGEST_PAUSE", NEVER)
    store = Watched()
    writer, client = await begun(store), StoreClient(store)
    await writer.write(1, "a")
    async with anyio.create_task_group() as tasks:
        answers = [await found(store, writer.session_id, client) for _ in range(count)]
        followers = [Follower(answer) for answer in answers]
        tasks.start_soon(followers[0].run)
        await have(followers[:1], "a")
        for each in followers[1:]:
            tasks.start_soon(each.run)
        await have(followers, "a")
        assert store.reads == 1
        await writer.write(2, "b")
        await have(followers, "a", "b")
        await writer.write(3, "c")
        await have(followers, "a", "b", "c")
        assert store.reads == 3
        await writer.end(4, "d")
    assert [(each.got, each.state) for each in followers] == [
        (["a", "b", "c", "d"], "completed")
    ] * count
    assert store.reads == 5  # the last events, and how it ended


@pytest.mark.parametrize("count", [2, 200])
async def test_what_was_before_is_read_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """However many join from before a follower, what they lack is read once for all."""
    monkeypatch.setattr(stored_answer, "_FIRST_PAUSE", NEVER)
    monkeypatch.setattr(stored_answer, "_LONGEST_PAUSE", NEVER)
    monkeypatch.setattr(stored_answer, "MAX_EVENTS", 2)
    store = Watched()
    writer, client = await begun(store), StoreClient(store)
    await writer.write(1, "a", "b", "c", "d", "e")
    async with anyio.create_task_group() as tasks:
        answers = [await found(store, writer.session_id, client) for _ in range(count + 1)]
        first = Follower(answers[0], after=4)
        tasks.start_soon(first.run)
        await have([first], "e")
        assert store.reads == 1
        others = [Follower(answer, after=1) for answer in answers[1:]]
        for each in others:
            tasks.start_soon(each.run)
        await have(others, "b", "c", "d", "e")
        assert store.reads == 3
        await writer.end(6)
    assert {each.state for each in (first, *others)} == {"completed"}


async def test_cursors_that_are_ahead_share_the_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that know more than is stored wait for it together, and are woken."""
    monkeypatch.setattr(stored_answer, "_FIRST_PAUSE", NEVER)
    monkeypatch.setattr(stored_answer, "_LONGEST_PAUSE", NEVER)
    store = Watched()
    writer, client = await begun(store), StoreClient(store)
    async with anyio.create_task_group() as tasks:
        answers = [await found(store, writer.session_id, client) for _ in range(50)]
        followers = [Follower(answer, after=2) for answer in answers]
        for each in followers:
            tasks.start_soon(each.run)

        async def has_read() -> bool:
            return store.reads > 0

        await until(has_read)
        await anyio.wait_all_tasks_blocked()
        assert store.reads == 1
        await writer.write(1, "a", "b", "c")
        await have(followers, "c")
        assert store.reads <= 4
        await writer.end(4)


async def check_followed(store: Watched) -> None:
    """Check that a follower gets an answer's event and its end."""
    writer = await begun(store)
    async with anyio.create_task_group() as tasks:
        follower = Follower(await found(store, writer.session_id))
        tasks.start_soon(follower.run)
        await writer.write(1, "a")
        await have([follower], "a")
        await writer.end(2)
    assert follower.state == "completed"


async def test_a_lost_wake_up_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where wake-ups are expected and fail to come, polling finds the events and the end."""
    monkeypatch.setattr(stored_answer, "_LONGEST_PAUSE", 0.05)
    store = Watched()
    store.is_silent = True
    await check_followed(store)


async def test_a_store_that_cannot_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to ask for wake-ups does not reach followers, who are served by polling."""
    monkeypatch.setattr(stored_answer, "_LONGEST_PAUSE", NEVER)

    class Failing(Watched):
        async def renew(self) -> bool:
            raise OSError

    store = Failing()
    store.is_silent = True
    await check_followed(store)


async def test_a_store_whose_watch_fails() -> None:
    """Followers, and a stop, do without the watches of a store that has none to give."""

    class Failing(Watched):
        def watch_answer(self, *_: Any) -> Any:
            raise OSError

        watch_stop = watch_answer

    store, model = Failing(), Model()
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        follower = Follower(await found(store, "id"))
        tasks.start_soon(follower.run)
        await have([follower], "one ")
        await (await found(store, "id")).stop()
        await client.done.wait()
    assert follower.state == "stopped"


DRIVERS = [
    ("postgresql+psycopg", "asyncio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
]


@pytest.fixture
def url(postgres_url: URL, driver: str) -> URL:
    """The database, by the driver."""
    return postgres_url.set(drivername=driver)


@pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
async def test_notifications_wake_followers(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a notification has come, events of another process need no polling."""
    here, there = SQLAlchemyStore(url), SQLAlchemyStore(url)
    writer = await begun(here, lease=300)
    written = 0

    async def write() -> None:
        nonlocal written
        written += 1
        await writer.write(written, str(written))

    async with anyio.create_task_group() as tasks:
        follower = Follower(await found(there, writer.session_id))
        tasks.start_soon(follower.run)
        with there.watch_answer(writer.id, "", lambda: None) as watch:
            await until(watch.renew)
        # From now on it would not read by itself.
        monkeypatch.setattr(stored_answer, "_FIRST_PAUSE", NEVER)
        monkeypatch.setattr(stored_answer, "_LONGEST_PAUSE", NEVER)
        monkeypatch.setattr(stored_answer, "_LONGEST_POLLING_PAUSE", NEVER)
        for _ in range(5):
            await write()
            await have([follower], *map(str, range(1, written + 1)))
        await writer.end(written + 1)
    assert follower.state == "completed"
    await here.aclose()
    await there.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
async def test_a_stop_is_heard_while_the_model_is_silent(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that listens stops its answer when another asks for it, and not later."""
    monkeypatch.setattr(answer_flush, "RENEWAL", NEVER)
    monkeypatch.setattr(answer_writer, "ANSWER_LEASE", NEVER)
    here, there = SQLAlchemyStore(url), SQLAlchemyStore(url)
    model, followed = Model(), await begun(there)
    async with serving(answered(model), here) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("one ")
        await client.sees("one ")
        answer = await found(there, "id")

        async def is_written() -> bool:
            page = await there.read_events(answer.id)
            return page is not None and len(page[1]) == 1

        await until(is_written)
        with here.watch_answer(followed.id, "", lambda: None) as watch:
            await until(watch.renew)
            await answer.stop()
            await client.done.wait()
        assert client.data[-1] == '{"state": "stopped"}'
    await there.aclose()
