"""Edits whose COMMIT's reply was lost are found out, done once, and told as they were done."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, Connection, create_engine, select

from hermes_session_mw import SessionConflict, SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.schema.tables import sessions
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support import mariadb, postgres
from tests.support.tampering_proxies import LosingProxy, losing

CASES = [
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
]
every_driver = pytest.mark.parametrize(("driver", "anyio_backend"), CASES)
Edit = Callable[[SQLAlchemyStore, str], Awaitable[Any]]


async def _rotate_back(store: SQLAlchemyStore, session_id: str) -> Any:
    return await store.rotate(session_id, f"{session_id}-new")


async def _import(store: SQLAlchemyStore, session_id: str) -> Any:
    lines = f'{{"hermes_session":1,"id":"{session_id}-in","created_at":"2026-01-31T12:00:00Z"}}\n'
    lines += '{"turn_id":"t","message":{"n":1}}\n'
    return (await store.import_(lines)).endswith("-in")


async def _replace_in_turn(store: SQLAlchemyStore, session_id: str) -> Any:
    return await store.append(
        session_id, numbered(9), expected_length=4, fence=FENCE, replace_from=2
    )


async def _append_with_ids(store: SQLAlchemyStore, session_id: str) -> Any:
    ids = ["d", "e", None]
    return await store.append(
        session_id, numbered(3, 3), message_ids=ids, metadata={}, expected_metadata=None
    )


IDS = ["a", "b", "c", "d"]
FENCE = 1
"""The first turn's, which the test has taken."""
REPLACEMENTS = ("replace", "replace under an id", "replace in a turn")
EDITS: dict[str, tuple[Edit, Any]] = {
    "replace": (lambda store, id_: store.append(id_, numbered(9), replace_from=2), 3),
    "replace under an id": (
        lambda store, id_: store.append(id_, numbered(9), turn_id="mine", replace_from=2),
        3,
    ),
    "replace in a turn": (
        _replace_in_turn,
        3,
    ),
    "rewind": (lambda store, id_: store.rewind(id_, 2), 2),
    "rewind in a turn": (
        lambda store, id_: store.rewind(id_, 2, fence=FENCE, expected_length=4),
        2,
    ),
    "pop": (lambda store, id_: store.pop(id_, 2), numbered(2, 2)),
    "compact": (lambda store, id_: store.compact(id_, numbered(0, 3), [{"s": 1}]), 2),
    "compact to nothing": (lambda store, id_: store.compact(id_, [], [], skipped=3), 1),
    "append with ids": (_append_with_ids, 6),
    "append what is there": (
        lambda store, id_: store.append(
            id_, numbered(0, 4), message_ids=IDS, metadata={"n": 1}, expected_metadata=None
        ),
        4,
    ),
    "set metadata": (lambda store, id_: store.set_metadata(id_, {"n": 1}, expected=None), None),
    "clear": (lambda store, id_: store.clear(id_), True),
    "fork": (lambda store, id_: store.fork(id_, f"{id_}-child", length=3), 3),
    "fork of nothing": (lambda store, id_: store.fork(id_, f"{id_}-child", length=0), 0),
    "rotate": (_rotate_back, True),
    "import": (_import, True),
    "rename": (lambda store, id_: store.rename(id_, "title"), True),
    "bind_key": (lambda store, id_: store.bind_key(f"{id_}-key", id_), None),
    "move_key": (lambda store, id_: store.move_key(f"{id_}-key", id_), None),
}
TOTALS = {"append with ids": 6, "clear": 0, "compact": 5, **dict.fromkeys(REPLACEMENTS, 5)}
"""How many messages there are afterwards, where it is not the four from before."""


@pytest.fixture(scope="module")
def own_postgres(postgres_server: URL) -> Iterator[URL]:
    """A database in which no other module has raised the fences."""
    with postgres.database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def own_mysql(mysql_server: URL) -> Iterator[URL]:
    """The same on MariaDB."""
    with mariadb.database(mysql_server) as url:
        yield url


@pytest.fixture
def server_url(request: pytest.FixtureRequest, driver: str) -> URL:
    """The database of the driver's server."""
    kind = "own_postgres" if driver.startswith("postgresql") else "own_mysql"
    url: URL = request.getfixturevalue(kind)
    return url.set(drivername=driver)


@asynccontextmanager
async def through_a_proxy(url: URL) -> AsyncIterator[tuple[LosingProxy, SQLAlchemyStore]]:
    """Yield a store whose replies can be lost, connected already."""
    with losing(url) as (proxy, proxied):
        store = SQLAlchemyStore(proxied)
        yield proxy, store
        await store.aclose()


@every_driver
@pytest.mark.parametrize("edit", EDITS)
async def test_a_lost_reply_to_an_edit_is_found_out(server_url: URL, edit: str) -> None:
    """An edit whose COMMIT was answered into nothing is done once, and told as if nothing was."""
    work, expected = EDITS[edit]
    session_id = new_id()
    async with through_a_proxy(server_url) as (proxy, store):
        await store.append(session_id, numbered(0, 4), turn_id="t", message_ids=IDS)
        assert await store.acquire(session_id, 60) == FENCE
        proxy.lose = 1
        outcome = await work(store, session_id)
        assert proxy.lost == 1
        assert expected is None or outcome == expected
        total = len(await store.archived(session_id)) + (await store.load(session_id)).length
        new = f"{session_id}-new"
        total += len(await store.archived(new)) + (await store.load(new)).length
        assert total == TOTALS.get(edit, 4)


@every_driver
@pytest.mark.parametrize("edit", ["fork", "rotate", "import"])
async def test_an_id_that_was_taken_by_another_stays_taken(server_url: URL, edit: str) -> None:
    """A repetition takes nobody else's session for its own."""
    work, _ = EDITS[edit]
    session_id = new_id()
    async with through_a_proxy(server_url) as (_proxy, store):
        await store.append(session_id, numbered(0, 4))
        for end in ("child", "new", "in"):
            await store.append(f"{session_id}-{end}", numbered(9))
        with pytest.raises(SessionConflict):
            await work(store, session_id)
        for end in ("child", "new", "in"):
            assert (await store.load(f"{session_id}-{end}")).messages == numbered(9)
        assert (await store.load(session_id)).messages == numbered(0, 4)


WAITING = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ),
    "mysql": (
        "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
        "JOIN information_schema.processlist ON id = trx_mysql_thread_id "
        "WHERE db = database() AND trx_state = 'LOCK WAIT'"
    ),
}
SYNC = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
CUT = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
MAKE: dict[str, tuple[Edit, Edit]] = {
    "fork": (
        lambda store, id_: store.fork(id_, f"{id_}-new", length=2),
        lambda store, id_: store.fork(id_, f"{id_}-new", length=1),
    ),
    "rotate": (
        lambda store, id_: store.rotate(id_, f"{id_}-new"),
        lambda store, id_: store.rotate(id_, f"{id_}-new"),
    ),
}


class Held:
    """Two connections, of which one holds a session's row."""

    def __init__(self, holder: Connection, looker: Connection) -> None:
        self._holder = holder
        self._looker = looker

    def hold(self, session_id: str) -> None:
        """Hold the row, so that others wait for it in the order in which they came."""
        self._holder.execute(select(sessions).where(sessions.c.id == session_id).with_for_update())

    def let_go(self) -> None:
        """Let the first of them have it."""
        self._holder.rollback()

    async def waiting(self, count: int, *but: int) -> set[int]:
        """Return who waits, once they are so many, without those who have ended."""
        with anyio.fail_after(60):
            while True:
                rows = self._looker.exec_driver_sql(WAITING[self._looker.dialect.name])
                found = {int(each) for (each,) in rows}
                if len(found) == count and found.isdisjoint(but):
                    return found
                # InnoDB tells the same again until it was not asked for 0.1 s.
                await anyio.sleep(0.15)

    def cut(self, waiting: int) -> None:
        """End the connection of one who waits."""
        self._looker.exec_driver_sql(CUT[self._looker.dialect.name].format(waiting))


@pytest.fixture
def held(server_url: URL) -> Iterator[Held]:
    """A connection that holds locks, and another that sees and cuts who waits for them."""
    engine = create_engine(server_url.set(drivername=SYNC[server_url.get_backend_name()]))
    with engine.connect() as holder, engine.connect() as looker:
        yield Held(holder, looker.execution_options(isolation_level="AUTOCOMMIT"))
    engine.dispose()


@every_driver
@pytest.mark.parametrize("edit", MAKE)
async def test_who_begins_anew_takes_nobody_elses_work_for_its_own(
    server_url: URL, held: Held, edit: str
) -> None:
    """One whose connection broke before its COMMIT is refused an id that another took meanwhile."""
    session_id = new_id()
    ours, theirs = (SQLAlchemyStore(server_url, timeout=90) for _ in range(2))
    await theirs.append(session_id, numbered(0, 4))
    mine, other = MAKE[edit]
    outcomes: dict[str, Any] = {}

    async def do_mine() -> None:
        with pytest.raises(SessionConflict) as conflict:
            await mine(ours, session_id)
        outcomes["mine"] = (conflict.value.expected, conflict.value.actual)

    async def do_other() -> None:
        outcomes["other"] = await other(theirs, session_id)

    held.hold(session_id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(do_mine)
        (first,) = await held.waiting(1)
        tasks.start_soon(do_other)
        await held.waiting(2)
        held.cut(first)
        await held.waiting(2, first)
        held.let_go()
    length = {"fork": 1, "rotate": 4}[edit]
    # Which of the two is told first is the event loop's choice.
    assert outcomes == {"mine": (0, length), "other": {"fork": 1, "rotate": True}[edit]}
    assert (await ours.load(f"{session_id}-new")).length == length
    await ours.aclose()
    await theirs.aclose()


REPLACED: list[list[int]] = [[], [300], [600], [300, 600]]
"""Which replacements may be there: one that met a shorter history is a conflict."""


@every_driver
async def test_edits_at_once_lose_nothing(server_url: URL) -> None:
    """Edits of all kinds at once leave each message once, in the history or the archive."""
    session_id = new_id()
    store = SQLAlchemyStore(server_url, timeout=30)
    await store.append(session_id, numbered(0, 4))

    async def append(number: int) -> None:
        await store.append(session_id, numbered(number * 10, 2))

    async def edit(number: int) -> None:
        history = await store.load(session_id)
        try:
            if number % 3 == 0:
                await store.append(
                    session_id, numbered(number * 100), replace_from=max(history.length - 1, 0)
                )
            elif number % 3 == 1:
                await store.rewind(session_id, max(history.length - 1, 0))
            else:
                await store.compact(session_id, history.messages[:2], [{"summary": number}])
        except (SessionConflict, ValueError):
            pass  # another was faster

    async with anyio.create_task_group() as tasks:
        for number in range(1, 9):
            tasks.start_soon(append, number)
            tasks.start_soon(edit, number)
    kept = (await store.load(session_id)).messages
    archived = [old.message for old in await store.archived(session_id)]
    everything = [each["n"] for each in [*kept, *archived] if "n" in each]
    numbers = sorted(number for number in everything if number < 100)
    assert sorted(number for number in everything if number >= 100) in REPLACED
    assert numbers == sorted([0, 1, 2, 3, *(n * 10 + part for n in range(1, 9) for part in (0, 1))])
    own = [each["n"] for each in kept if "n" in each]
    whole = [n for n in own if n % 10 == 0 and n + 1 in own]
    assert all(own[own.index(n) + 1] == n + 1 for n in whole)
    await store.aclose()
