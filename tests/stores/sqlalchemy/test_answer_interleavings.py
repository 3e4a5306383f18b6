"""Between any two statements of an answer's operation, another process may do what it likes.

As in `test_interleavings`: whatever comes between, a question that was acknowledged is stored once.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update

from hermes_session_mw import HermesSessionError, SQLAlchemyStore
from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.answer_folding import Events
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.stores.sqlalchemy.statements import (
    answers,
    append,
    delete_prune,
    fork_rotate_import,
    leases,
    open_answers,
    read_answers,
)
from hermes_session_mw.testing.answer_writers import ASKED, LEASE, TURN
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.contract.test_store_contract import url_of
from tests.stores.sqlalchemy.test_interleavings import (
    DATABASES,
    IN_THE_FUTURE,
    Interrupted,
)

MAX_BYTES = 10_000
EVENTS = ['"Be"', '"cau"', '"se"']
GONE = ("delete", "prune")
"""What may leave nothing."""


class Run:
    """One run: whose session "s" is, and the fence of its answer "a"."""

    def __init__(self) -> None:
        self.owner = new_id()
        self.fence = 0

    def fold(self, database: Database) -> None:
        answers.fold(database, "s", self.owner, MAX_BYTES)

    def begin(self, database: Database) -> None:
        another = answers.NewAnswer("b", "s", self.owner, ['{"n":5}'], None, None, None)
        answers.begin(database, another, 0.001, None, 1000, MAX_BYTES)

    def turn(self, database: Database) -> None:
        leases.acquire(database, "s", self.owner, 60)

    def write(self, database: Database) -> None:
        events = Events(2, ['"cau"', '"se"'])
        options: dict[str, Any] = {"fence": self.fence, "seconds": 60}
        answers.write(database, "s", "a", events, self.owner, **options)

    def end(self, database: Database) -> None:
        bodies = ['{"role":"user","content":"Why?"}', '{"role":"assistant"}']
        options: dict[str, Any] = {"fence": self.fence, "state": "completed"}
        answers.end(database, "s", "a", Events(2, ['"cau"']), bodies, self.owner, **options)

    def stop(self, database: Database) -> None:
        read_answers.stop(database, "a", self.owner)

    def append(self, database: Database) -> None:
        limits: dict[str, Any] = {"may_be_stored": False, "max_turns": 1000}
        append.append(database, "s", ['{"n":4}'], self.owner, new_id(), None, **limits)

    def delete(self, database: Database) -> None:
        delete_prune.delete_session(database, "s", self.owner)

    def prune(self, database: Database) -> None:
        found = delete_prune.find_stale(database, IN_THE_FUTURE, self.owner, ("", ""))
        delete_prune.remove_stale(database, IN_THE_FUTURE, found) if found else None

    def rotate(self, database: Database) -> None:
        owners = self.owner, self.owner
        fork_rotate_import.rotate(database, "s", "elsewhere", *owners, repeated=False)


Meanwhile = Callable[[Run, Database], None]
MEANWHILE: list[Meanwhile] = [
    Run.fold,
    Run.begin,
    Run.turn,
    Run.write,
    Run.end,
    Run.stop,
    Run.append,
    Run.delete,
    Run.prune,
    Run.rotate,
]


async def write(store: SQLAlchemyStore, run: Run) -> None:
    options: dict[str, Any] = {"fence": run.fence, "lease": LEASE}
    growth = '[["=",["role"],"assistant"],["=",["content"],"Because"]]'
    await store.write_events("s", "a", 2, ['"cau"', '"se"'], run.owner, growth=growth, **options)


async def end(store: SQLAlchemyStore, run: Run) -> None:
    await store.end_answer(
        "s", "a", 2, ['"cau"', '"se"'], TURN, run.owner, fence=run.fence, state="completed"
    )


async def begin(store: SQLAlchemyStore, run: Run) -> None:
    await store.begin_answer("s", "c", numbered(6), run.owner, lease=LEASE)


OPERATIONS: dict[str, Callable[[SQLAlchemyStore, Run], Awaitable[object]]] = {
    "load": lambda store, run: store.load("s", run.owner),
    "begin": begin,
    "write": write,
    "end": end,
    "read": lambda store, run: store.read_events("a", run.owner),
    "sweep": lambda store, _run: store.sweep_answers(1000),
    "delete": lambda store, run: store.delete("s", run.owner),
    "rotate": lambda store, run: store.rotate("s", "t", run.owner),
}
DIED = ["load", "begin", "read", "sweep", "end"]
ALIVE = ["write", "end", "delete", "rotate"]


@pytest.fixture(scope="module", params=DATABASES)
def interrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Interrupted]:
    """An engine of each database, which does something else before one of its statements."""
    url = url_of(request.param, tmp_path_factory.mktemp("interleavings"), request)
    with Interrupted(url) as made:
        yield made


@pytest.fixture(autouse=True)
def _without_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each operation look for an expired answer: here leases end sooner than by time."""
    monkeypatch.setattr(open_answers, "TRUSTED", 0)


def expire(interrupted: Interrupted, owner: str) -> None:
    """Have the leases of the owner's sessions expire."""
    expired = update(tables.sessions).where(tables.sessions.c.owner == owner)
    with interrupted.engine.begin() as connection:
        connection.execute(expired.values(leased_until=0))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("operation", "died"), [*((each, True) for each in DIED), *((each, False) for each in ALIVE)]
)
async def test_a_question_is_stored_once_whatever_comes_between(
    interrupted: Interrupted, operation: str, *, died: bool
) -> None:
    """Whatever is done between its statements, an operation loses and doubles no question."""
    store = SQLAlchemyStore(interrupted.engine)
    for meanwhile in MEANWHILE:
        done, number = True, 0
        while done:
            run = Run()
            await store.append("s", numbered(0), run.owner)
            run.fence = await store.begin_answer("s", "a", [ASKED], run.owner, lease=LEASE)
            await store.write_events("s", "a", 1, ['"Be"'], run.owner, fence=run.fence, lease=LEASE)
            if died:
                expire(interrupted, run.owner)
            interrupted.at(number, partial(meanwhile, run))
            with suppress(HermesSessionError):
                await OPERATIONS[operation](store, run)
            done, number = interrupted.over(), number + 1
            await check(
                store, interrupted, run, may_be_gone={operation, meanwhile.__name__} & {*GONE}
            )
        assert number > 1  # there was a statement
    assert interrupted.take_problems() == []
    await store.aclose()


async def check(
    store: SQLAlchemyStore, interrupted: Interrupted, run: Run, may_be_gone: set[str]
) -> None:
    """The question of "a" is stored once; its events have no gap; no answer is left open."""
    found = await store.read_events("a", run.owner)
    assert found is None or found[1] in (EVENTS[:1], EVENTS[:2], EVENTS)
    expire(interrupted, run.owner)
    questions = 0
    for session_id in ("s", "t", "elsewhere"):
        questions += (await store.load(session_id, run.owner)).messages.count(ASKED)
        assert await store.open_answer(session_id, run.owner) is None
    assert questions <= 1
    assert questions == 1 or may_be_gone
    assert (
        found is None or (await store.read_events("a", run.owner) or ("running",))[0] != "running"
    )
