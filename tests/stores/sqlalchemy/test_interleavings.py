"""Between any two statements of an operation, another process may do what it likes.

Each operation is run once for each of its statements, and each time something else is done, as a
whole, just before that one. Where a lock is in its way it is given up: it would have come later.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import pytest
from sqlalchemy import URL, create_engine, delete, event
from sqlalchemy.exc import OperationalError

from hermes_session_mw import HermesSessionError, SessionDeleted, SQLAlchemyStore
from hermes_session_mw.database.connection import Database, database_of
from hermes_session_mw.stores.jsonl import parse
from hermes_session_mw.stores.sqlalchemy.admin import integrity_check
from hermes_session_mw.stores.sqlalchemy.admin.models import Problem
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.stores.sqlalchemy.statements import (
    append,
    delete_prune,
    fork_rotate_import,
    leases,
    rewind_compact,
    session_keys,
)
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.contract.test_store_contract import url_of

DATABASES = ["sqlite", "postgresql+psycopg", "mysql+pymysql"]
HURRIED: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "postgresql": {"options": "-c synchronous_commit=off"},
    "mysql": {},
}
IMPATIENT: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": 0.01},
    "postgresql": {"options": "-c synchronous_commit=off -c lock_timeout=10ms"},
    "mysql": {"init_command": "SET innodb_lock_wait_timeout = 0"},
}
# Before a COMMIT all locks are held, and a BEGIN, but for SQLite's, takes none.
PASSED_OVER = ("BEGIN ISOLATION", "START", "COMMIT", "ROLLBACK")
IN_THE_FUTURE = 2_000_000_000
EXPORT = "\n".join(
    [
        '{"hermes_session": 1, "id": "x", "created_at": "2026-01-31T12:00:00Z"}',
        '{"turn_id": "t", "message": {"n": 0}}',
    ]
)
EXPORTED = parse(EXPORT, 1000)


@dataclass
class Run:
    """One run: whose sessions they are, every number that a turn of "s" was given, and a key's end.

    What its methods do is done meanwhile.
    """

    owner: str
    fences: list[int] = field(default_factory=list)
    bound: str | None = None

    def append(self, database: Database, session_id: str = "s") -> None:
        append.append(
            database,
            session_id,
            ['{"n":4}'],
            self.owner,
            new_id(),
            None,
            may_be_stored=False,
            max_turns=1000,
        )

    def turn(self, database: Database) -> None:
        self.fences.append(leases.acquire(database, "s", self.owner, 60))
        leases.release(database, "s", self.owner, self.fences[-1])

    def prune(self, database: Database) -> None:
        found = delete_prune.find_stale(database, IN_THE_FUTURE, self.owner, ("", ""))
        delete_prune.remove_stale(database, IN_THE_FUTURE, found) if found else None
        delete_prune.drop_stale_keys(database, IN_THE_FUTURE, self.owner)

    def prune_twice(self, database: Database) -> None:
        self.prune(database)
        self.turn(database)
        self.prune(database)

    def delete(self, database: Database) -> None:
        delete_prune.delete_session(database, "s", self.owner)

    def delete_and_prune(self, database: Database) -> None:
        self.delete(database)
        self.prune(database)

    def rotate(self, database: Database) -> None:
        fork_rotate_import.rotate(
            database, "s", "elsewhere", self.owner, self.owner, repeated=False
        )

    def fork_to_t(self, database: Database) -> None:
        self.append(database, "u")
        fork_rotate_import.fork(
            database, "u", "t", self.owner, None, turn_id=new_id(), repeated=False
        )

    def import_session(self, database: Database) -> None:
        fork_rotate_import.import_session(database, "s", EXPORTED, self.owner, repeated=False)

    def rewind(self, database: Database) -> None:
        rewind_compact.rewind(database, "s", 1, self.owner, None)

    def clear(self, database: Database) -> None:
        delete_prune.clear(database, "s", self.owner, None, [])

    def bind_key(self, database: Database) -> None:
        session_keys.bind_key(database, "k", "first", self.owner)

    def drop_key(self, database: Database) -> None:
        session_keys.drop_key(database, "k", self.owner)


Meanwhile = Callable[[Run, Database], None]
MEANWHILE: list[Meanwhile] = [
    Run.append,
    Run.turn,
    Run.prune_twice,
    Run.delete,
    Run.delete_and_prune,
    Run.rotate,
    Run.fork_to_t,
    Run.import_session,
    Run.rewind,
]
MEANWHILE_OF: dict[str, list[Meanwhile]] = {
    "bind a key": [Run.bind_key, Run.drop_key],
    # What is cleared is like what was rewound, but for what these look at.
    **{each: [*MEANWHILE, Run.clear] for each in ("acquire", "append with ids", "fork", "rotate")},
}


async def acquire(store: SQLAlchemyStore, run: Run) -> None:
    fence = await store.acquire("s", 60, run.owner)
    run.fences.append(fence)
    await store.release("s", fence, run.owner)


async def load(store: SQLAlchemyStore, run: Run) -> None:
    history = await store.load("s", run.owner)
    assert history.exists == (len(history.messages) > 0) == (history.length > 0)


async def load_the_newest(store: SQLAlchemyStore, run: Run) -> None:
    history = await store.load("s", run.owner, limit=1)
    assert history.exists == (len(history.messages) == 1) == (history.length > 0)


async def append_in_the_turn(store: SQLAlchemyStore, run: Run) -> None:
    known = max(run.fences, default=1)  # or one that nobody was given yet
    await store.append("s", numbered(8), run.owner, fence=known)
    assert run.fences == run.fences[: run.fences.index(known) + 1]


async def export(store: SQLAlchemyStore, run: Run) -> None:
    parse(await store.export("s", run.owner), 1000)


async def bind_key(store: SQLAlchemyStore, run: Run) -> None:
    run.bound = await store.bind_key("k", "second", run.owner)


async def prune(store: SQLAlchemyStore, run: Run) -> None:
    find = partial(delete_prune.find_stale, cutoff=IN_THE_FUTURE, owner=run.owner, after=("", ""))
    found = await store._read(find)
    if found:
        await store._write(
            lambda database: delete_prune.remove_stale(database, IN_THE_FUTURE, found)
        )


OPERATIONS: dict[str, Callable[[Any, Run], Awaitable[Any]]] = {
    "acquire": acquire,
    "load": load,
    "load the newest": load_the_newest,
    "append in the turn": append_in_the_turn,
    "export": export,
    "bind a key": bind_key,
    "prune": prune,
    "append": lambda store, run: store.append("s", numbered(8), run.owner),
    "append again": lambda store, run: store.append("s", numbered(0, 4), run.owner, turn_id="t"),
    "rewind": lambda store, run: store.rewind("s", 2, run.owner),
    "compact": lambda store, run: store.compact("s", numbered(0, 2), numbered(7), run.owner),
    "fork": lambda store, run: store.fork("s", "t", run.owner),
    "fork to it": lambda store, run: store.fork("other", "s", run.owner),
    "rotate": lambda store, run: store.rotate("s", "t", run.owner),
    "rotate to it": lambda store, run: store.rotate("other", "s", run.owner),
    "import": lambda store, run: store.import_(EXPORT, run.owner, "s"),
    "delete": lambda store, run: store.delete("s", run.owner),
    "append with ids": lambda store, run: store.append(
        "s", numbered(2, 4), run.owner, message_ids=list("cdef"), metadata={"n": 6}
    ),
    "clear": lambda store, run: store.clear("s", run.owner),
}


async def nothing(_store: SQLAlchemyStore, _run: Run) -> None:
    pass


async def stored(store: SQLAlchemyStore, run: Run) -> None:
    await store.append("s", numbered(0, 4), run.owner, turn_id="t", message_ids=list("abcd"))
    await acquire(store, run)


BEFORE = [nothing, stored]


class Interrupted:
    """An engine whose statement with a given number has something done before it, elsewhere."""

    def __init__(self, url: URL) -> None:
        self.engine = create_engine(url, connect_args=HURRIED[url.get_backend_name()])
        self._elsewhere = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            connect_args=IMPATIENT[url.get_backend_name()],
        )
        self._do: Callable[[Database], None] | None = None
        self._left = -1
        event.listen(self.engine, "before_cursor_execute", self._before)
        if url.get_backend_name() == "sqlite":
            for each in (self.engine, self._elsewhere):
                event.listen(each, "connect", _hurry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()
        self._elsewhere.dispose()

    def at(self, number: int, do: Callable[[Database], None]) -> None:
        """Do it before the statement with this number, from 0."""
        self._left, self._do = number, do

    def over(self) -> bool:
        """Do nothing any more; tell whether something was done."""
        done, self._left = self._left < 0, -1
        return done

    def take_problems(self) -> list[Problem]:
        """Return what is wrong with the tables' sessions, and remove all of them.

        Tests of damage before, in the same database, have sessions of nobody's: they do not count.
        """
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            problems = integrity_check.check_range(database_of(connection), ("", ""), None)
            for table in reversed(tables.metadata.sorted_tables):
                connection.execute(delete(table))
        return [problem for problem in problems if problem.owner]

    def _before(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if self._left < 0 or statement.startswith(PASSED_OVER):
            return
        self._left -= 1
        if self._left < 0:
            assert self._do is not None
            # It may be refused, or a lock be in its way.
            refused = suppress(HermesSessionError, OperationalError)
            with self._elsewhere.connect() as connection, refused:
                self._do(database_of(connection))


def _hurry(connection: Any, _record: object) -> None:
    """Have SQLite work as a store has it work, but for waiting for the disk."""
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = off")


@pytest.fixture(scope="module", params=DATABASES)
def interrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Interrupted]:
    """Such an engine, of each database."""
    url = url_of(request.param, tmp_path_factory.mktemp("interleavings"), request)
    with Interrupted(url) as made:
        yield made


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("before", BEFORE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_nothing_comes_between_two_statements(
    interrupted: Interrupted, operation: str, before: Callable[[Any, Run], Awaitable[None]]
) -> None:
    """Whatever is done between its statements, an operation does what it says, or is refused."""
    store = SQLAlchemyStore(interrupted.engine)
    for meanwhile in MEANWHILE_OF.get(operation, MEANWHILE):
        done, number = True, 0
        while done:
            run = Run(new_id())
            await before(store, run)
            await store.append("other", numbered(0), run.owner)
            interrupted.at(number, partial(meanwhile, run))
            with suppress(HermesSessionError):
                await OPERATIONS[operation](store, run)
            done, number = interrupted.over(), number + 1
            await check(store, run)
        assert number > 1  # there was a statement
    assert interrupted.take_problems() == []
    await store.aclose()


async def check(store: SQLAlchemyStore, run: Run) -> None:
    """Numbers have grown, and go on growing; who was told that he bound the key did so."""
    for fence in run.fences:
        await store.release("s", fence, run.owner)
    with suppress(SessionDeleted):
        await acquire(store, run)
    assert run.fences == sorted(set(run.fences))
    if run.bound == "second":
        assert await store.find_key("k", run.owner) == "second"
